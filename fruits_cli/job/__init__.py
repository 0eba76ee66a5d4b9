"""The Spark job as something to ship and start."""
