"""Protocols of the AWS services, and the values that they take and return."""
