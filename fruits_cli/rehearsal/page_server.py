"""A page of a rehearsed primary node: a process on loopback that starts when it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fruits_cli.errors import FruitsError
from fruits_cli.tunnel import guard

# Shorter than the silence after which a tunnel reconnects: its SSH connection waits meanwhile.
_START_S, _POLL_S = 25.0, 0.1


@dataclass(frozen=True)
class Command:
    """What starts a page, and the line of its log that names the port."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    says_port: re.Pattern[str]


class PageServer:
    """Ends with all its processes, also where the rehearsal is killed. `work` holds its log.

    prepare: fills `work`; raises FruitsError or OSError where the page cannot be had.
    """

    def __init__(self, work: Path, prepare: Callable[[], Command]) -> None:
        self._work, self._prepare = work, prepare
        self._lock = threading.Lock()
        self._command: Command | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._has_ended = threading.Event()

    def port(self) -> int | None:
        """The port that it listens on, once it does; None where it does not start in time."""
        with self._lock:
            if self._process is None and not self._has_ended.is_set():
                with suppress(FruitsError, OSError):
                    self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
                    self._command = self._prepare()
                    self._process = self._start(self._command)
        deadline = time.monotonic() + _START_S
        while self._command and self._process is not None and self._process.poll() is None:
            said = (self._work / "log").read_text(encoding="utf-8", errors="replace")
            if match := self._command.says_port.search(said):
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

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        with (self._work / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", guard.__file__, *command.argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._work,
                env=dict(command.environ),
                start_new_session=True,
            )
