"""A job of a few numbers, by which Java archives the classes that any job takes.

FRUITS_JVM is the command of a JVM that writes the archive when it ends; see local.py.
"""

from __future__ import annotations

import sys

from pyspark import SparkConf, SparkContext

from spark_job import daemon
from spark_job.local import reach_jvm, start_jvm

_MODEL_BYTES = 2**20


def main() -> int:
    """Run it; the exit code of the JVM."""
    jvm = start_jvm()
    reach_jvm(jvm)
    with daemon.prestarted():
        spark = SparkContext(conf=SparkConf().setAppName("fruits"))
        sent = spark.broadcast(bytes(_MODEL_BYTES))
        spark.parallelize(range(8), 8).map(lambda number: (number, len(sent.value))).collect()
        pairs = spark.parallelize(range(8), 8).map(lambda number: (number % 3, [number]))
        pairs.reduceByKey(lambda one, other: one + other, 2).collect()
        spark.stop()
    jvm.communicate()
    return jvm.returncode


if __name__ == "__main__":
    sys.exit(main())
