"""What fruits is measured by: `python -m benchmarks`, or `make bench`."""
