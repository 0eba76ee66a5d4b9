"""Checks everything that a launch may fail on."""
