"""Every question that a launch may fail on, and its fix."""
