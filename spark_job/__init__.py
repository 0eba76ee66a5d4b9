"""The job that runs under spark-submit, on a laptop and on Amazon EMR alike."""

__version__ = "0.1.0"
