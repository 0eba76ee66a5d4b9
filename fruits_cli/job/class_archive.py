"""Spark's classes as Java keeps them once they are parsed: each run starts a second earlier.

Class-data sharing: https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing1.html
Java itself takes no archive that is damaged, or of other jars. python -m: makes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from fruits_cli.errors import FruitsError
from fruits_cli.files import cache_dir, replacing, scratch_folder
from fruits_cli.job.java import (
    JVM_OPTIONS,
    find_java,
    jvm_command,
    spark_environ,
    spark_home,
)

# A model that lies in the cache is found sooner.
BEGIN_S = 1.5
# It takes some ten seconds of a core.
_PATIENCE_S = 60.0
_SCRATCH = "fruits-classes-"
_CONF = {"spark.master": "local[2,3]"}


def archive_options(java_home: Path, environ: Mapping[str, str]) -> list[str]:
    """What tells this Java to take its archive; nothing where it has none."""
    archive = _archive(java_home, environ)
    if not archive.exists():
        return []
    files = ":".join(map(str, [*_base_archives(java_home, archive), archive]))
    # What is wrong with it is no reason for a line in the run's log.
    return [f"-XX:SharedArchiveFile={files}", "-XX:+VerifySharedSpaces", "-Xlog:cds*=off"]


@contextlib.contextmanager
def made_meanwhile(environ: Mapping[str, str], *, cores: int) -> Iterator[None]:
    """Make the archive while the body takes its time with one core of several.

    A failure is that of no run. Where the body fails, nothing is made.
    """
    maker = _Maker(environ)
    timer = threading.Timer(BEGIN_S, maker.begin)
    try:
        # Within, for Ctrl-C while it starts would leave a timer that nobody stops.
        if cores > 1:
            timer.start()
        yield
        timer.cancel()
        maker.wait()
    finally:
        timer.cancel()
        maker.end()


class _Maker:
    """This module as a process, with all that it starts."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._changing, self._is_over = threading.Lock(), False

    def begin(self) -> None:
        with self._changing, contextlib.suppress(OSError, FruitsError):
            if self._is_over or _archive(find_java(self._environ), self._environ).exists():
                return
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self) -> None:
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)

    def end(self) -> None:
        with self._changing:
            self._is_over = True
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def make_archive(java_home: Path, environ: Mapping[str, str]) -> None:
    """Run a job of a few numbers on Spark, and keep the classes that it took.

    Raises FruitsError, OSError or CalledProcessError where that cannot be.
    """
    archive = _archive(java_home, environ)
    base = _base_archives(java_home, archive)
    with scratch_folder(_SCRATCH) as scratch:
        for file in base:
            with replacing(file) as new:
                dump = ["-Xshare:dump", f"-XX:SharedArchiveFile={new}"]
                java = str(java_home / "bin" / "java")
                subprocess.run([java, *JVM_OPTIONS, *dump], check=True)
        with replacing(archive) as new:
            options = [f"-XX:SharedArchiveFile={file}" for file in base]
            options.append(f"-XX:ArchiveClassesAtExit={new}")
            jvm = json.dumps(jvm_command(java_home, scratch, options=options, conf=_CONF))
            subprocess.run(
                [sys.executable, "-P", "-m", "spark_job.classes"],
                env=spark_environ(environ, java_home, scratch) | {"FRUITS_JVM": jvm},
                check=True,
            )
    for file in set(archive.parent.iterdir()) - {archive, *base}:
        # Of another Java or Spark, or half-written.
        file.unlink(missing_ok=True)


def _archive(java_home: Path, environ: Mapping[str, str]) -> Path:
    java = (java_home / "bin" / "java").resolve()
    facts = [str(java), *JVM_OPTIONS, str(spark_home())]
    for file in (java, *sorted((spark_home() / "jars").iterdir())):
        facts += [file.name, str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    key = hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_dir(environ) / "classes" / f"{key}.jsa"


def _base_archives(java_home: Path, archive: Path) -> list[Path]:
    """The archive of Java's own classes, where this Java comes without one."""
    if (java_home / "lib" / "server" / "classes.jsa").exists():
        return []
    return [archive.with_suffix(".base.jsa")]


if __name__ == "__main__":
    make_archive(find_java(os.environ), os.environ)
