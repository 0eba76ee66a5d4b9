from tests.support.spark_runs import bucket, java, run_job, s3_environ, s3_here

__all__ = ["bucket", "java", "run_job", "s3_environ", "s3_here"]
