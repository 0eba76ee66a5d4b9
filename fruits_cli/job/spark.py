"""The job on this machine: starts it, follows it, stops it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fruits_cli.config import JobConfig
from fruits_cli.errors import FruitsError, MachineError
from fruits_cli.files import COMMAND_LOCK, scratch_folder
from fruits_cli.job.arguments import NO_REUSE, JobPlaces, Reuse, job_args
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.class_archive import archive_options
from fruits_cli.job.java import find_java, jvm_command, spark_environ
from fruits_cli.job.model import ModelArtefact
from fruits_cli.job.progress import PROGRESS_FILE, job_error, load_report
from fruits_cli.screen import Progress


def usable_cores() -> int:
    """Cores that this process may use, which a container makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_POLL_S, _GRACE_S = 0.25, 10.0
_SCRATCH = "fruits-run-"
_LAST_WORD, _LOG_TAIL = "Error: ", 65536
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
    java_home = find_java(environ)
    with scratch_folder(_SCRATCH) as scratch:
        made = job_bundle(scratch)
        places = JobPlaces(plan.images, str(plan.output), str(artefact.folder), reuse=plan.reuse)
        job = job_args(plan.job, places, run_id=plan.run_id, resume=plan.resume)
        # -P: a json.py in the user's folder must not be imported.
        command = [sys.executable, "-P", "-m", "spark_job.local", *job]
        command += ["--command-lock", str(scratch / COMMAND_LOCK)]
        jvm = jvm_command(
            java_home,
            scratch,
            options=archive_options(java_home, environ),
            conf=_conf(plan),
            submitted=["--py-files", str(made.zip)],
        )
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


def _conf(plan: LocalPlan) -> dict[str, str]:
    return {
        # A worker that dies (out of memory, say) costs its chunk, not the run.
        "spark.master": plan.master or f"local[{plan.cores},3]",
        # A cluster of several executors starts the job once all are there.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
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
