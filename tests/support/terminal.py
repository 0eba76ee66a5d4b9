"""A process on a pseudo-terminal, as a person would sit before it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

CTRL_C, CTRL_D = "\x03", "\x04"
# The terminal becomes the controlling one, so that Ctrl-C is a signal.
_CLAIM = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Sitting:
    """How the process ended, what was on the screen, and what went to its stdout."""

    exit_code: int
    screen: str
    stdout: str


def sit_before(
    script: str,
    *,
    prompt: str = "",
    typed: str = "",
    environ: Mapping[str, str] | None = None,
    stdout_too: bool = False,
) -> Sitting:
    """Run a Python script with stdin and stderr on a terminal; `typed` is sent after `prompt`.

    stdout_too: what it prints is on the screen as well.
    """
    ours, theirs = pty.openpty()
    base = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIM + script],
        stdin=theirs,
        stdout=theirs if stdout_too else subprocess.PIPE,
        stderr=theirs,
        env={**base, "TERM": "xterm", **(environ or {})},
        start_new_session=True,
    )
    os.close(theirs)
    with process, os.fdopen(ours):
        try:
            screen = _watched(ours, prompt, typed)
        except TimeoutError:
            process.kill()
            raise
        stdout = process.stdout.read().decode() if process.stdout else ""
        return Sitting(process.wait(_PATIENCE_S), screen, stdout)


def _watched(terminal: int, prompt: str, typed: str) -> str:
    """All that appears until the process lets go of the terminal; TimeoutError if it does not."""
    seen, sent, deadline_s = b"", not typed, time.monotonic() + _PATIENCE_S
    while True:
        if not select.select([terminal], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise TimeoutError(f"The process still holds its terminal, which shows {seen!r}.")
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
        if not sent and prompt.encode() in seen:
            os.write(terminal, typed.encode())
            sent = True
    return seen.decode()
