"""Estimates minutes and dollars before anything runs."""
