"""Spark's own History Server over the event logs of a cluster's steps, on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from fruits_cli.errors import FruitsError
from fruits_cli.job.spark import find_java, spark_environ, spark_home
from fruits_cli.rehearsal import guard

_STARTED = re.compile(r"Bound HistoryServer to 127\.0\.0\.1, and started at http://[^:]+:(\d+)")
# Shorter than a tunnel bears silence: while it starts, its SSH connection waits.
_START_S, _POLL_S = 25.0, 0.1


class HistoryServer:
    """Starts when it is first asked for; `events` holds one log for each application."""

    def __init__(self, events: Path, work: Path) -> None:
        self._events, self._work = events, work
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_ended = threading.Event()

    def port(self) -> int | None:
        """The port that it listens on, once it does; None where it does not start in time."""
        with self._lock:
            if self._process is None and not self._has_ended.is_set():
                with suppress(FruitsError, OSError):
                    self._process = self._started()
        deadline = time.monotonic() + _START_S
        while self._process is not None and self._process.poll() is None:
            said = (self._work / "log").read_text(encoding="utf-8", errors="replace")
            if match := _STARTED.search(said):
                return int(match[1])
            if time.monotonic() >= deadline or self._has_ended.wait(_POLL_S):
                break
        return None

    def stop(self) -> None:
        """End it with all its processes."""
        self._has_ended.set()
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
                self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        java = find_java(os.environ)
        self._work.mkdir(parents=True, exist_ok=True)
        self._events.mkdir(parents=True, exist_ok=True)
        settings = {
            "spark.history.fs.logDirectory": f"file:{self._events}",
            "spark.history.fs.update.interval": "2s",
            "spark.history.ui.port": "0",
            "java.io.tmpdir": str(self._work),
        }
        command = [str(java / "bin" / "java"), "-Xmx512m", "-cp", f"{spark_home() / 'jars'}/*"]
        command += [f"-D{name}={value}" for name, value in settings.items()]
        environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._work)}
        with (self._work / "log").open("wb") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", guard.__file__),
                    *(*command, "org.apache.spark.deploy.history.HistoryServer"),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._work,
                # SPARK_LOCAL_IP is what a page of Spark binds to.
                env=spark_environ(environ, java, self._work),
                start_new_session=True,
            )
