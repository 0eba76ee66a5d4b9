"""What Livy gives a session of the cluster, on local Spark: `spark`, `sc` and the magic %matplot.

The bucket is copied to disk first, where Spark reads it under its own address.
"""

import os
from pathlib import Path

from IPython import get_ipython
from pyspark.sql import SparkSession

settings = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.authenticate": "true",
    "spark.authenticate.secret": os.urandom(32).hex(),
    "spark.sql.shuffle.partitions": "2",
    "spark.log.level": "ERROR",
}


def mirrored(bucket, folder):
    """Copy the bucket into the folder; the settings by which s3://BUCKET/ is that folder."""
    import boto3

    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            file = folder / found["Key"]
            if not found["Key"].endswith("/"):
                file.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, found["Key"], str(file))
    local = "org.apache.hadoop.fs.LocalFileSystem"
    linked = f"spark.hadoop.fs.viewfs.mounttable.{bucket}.link./"
    return {
        # pyspark brings no file system for S3. Source: Hadoop, View File System Overload Scheme.
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        "spark.hadoop.fs.viewfs.overload.scheme.target.s3.impl": local,
        "spark.hadoop.fs.viewfs.overload.scheme.target.file.impl": local,
        **{f"{linked}{each.name}": each.as_uri() for each in folder.iterdir() if each.is_dir()},
    }


def matplot(name):
    """%matplot plt shows the current figure, as Livy's magic does."""
    # Here, because the names above are the notebook's too, and may come to mean something else.
    from io import BytesIO

    from IPython.display import Image, display

    drawn = BytesIO()
    get_ipython().user_ns[name.strip()].gcf().savefig(drawn, format="png")
    display(Image(drawn.getvalue()))


if bucket := os.environ.get("FRUITS_BUCKET"):
    settings |= mirrored(bucket, Path(os.environ["FRUITS_MIRROR"]))
get_ipython().register_magic_function(matplot, "line")
spark = SparkSession.builder.config(map=settings).getOrCreate()
sc = spark.sparkContext
