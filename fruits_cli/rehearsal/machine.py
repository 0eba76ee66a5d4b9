"""The environment that a step sees."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fruits_cli.job.spark import find_java, spark_home


def step_environ(*, work: Path, endpoint: str, region: str, access_key: str) -> dict[str, str]:
    """The environment of a step: nothing of the user's but PATH, and made-up credentials.

    HOME is the step's own folder: no profile, cache or start-up file of the user is read.
    """
    java = find_java(os.environ)
    return {
        "PATH": f"{java / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(work),
        "TMPDIR": str(work / "tmp"),
        "LANG": "C.UTF-8",
        "JAVA_HOME": str(java),
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        # Otherwise a killed step leaves folders in /tmp.
        "SPARK_SUBMIT_OPTS": f'-Djava.io.tmpdir="{work / "tmp"}"',
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
