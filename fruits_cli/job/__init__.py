"""Ships and starts the Spark job."""
