"""The report of a run: an HTML page with its numbers and lists."""
