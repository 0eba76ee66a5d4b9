"""How tests start Spark on this machine: two cores or a small cluster, on loopback alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from fruits_cli.job.java import find_java

RunJob = Callable[..., int]

# A JVM that lives for seconds: what its second compiler gains, it never earns back.
_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


def spark_options(scratch: Path, master: str) -> dict[str, str]:
    """Spark's settings on this machine alone."""
    return {
        "spark.master": master,
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(scratch / "spark"),
        "spark.log.level": "ERROR",
        "spark.driver.extraJavaOptions": _JVM,
        "spark.executor.extraJavaOptions": _JVM,
    }


def spark_environ(scratch: Path) -> dict[str, str]:
    """What Spark and its workers need beside this process's own environment."""
    import pyspark

    return {
        "JAVA_HOME": str(find_java(os.environ)),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(scratch / "workers"),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "-1",
    }
