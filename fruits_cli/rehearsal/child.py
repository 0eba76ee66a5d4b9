"""A command of fruits as the child of another, which ends with it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fruits_cli.signals import Terminated, heard_again, held

# Ctrl-C while Python imports ends it without a traceback; later each signal lets it clear up.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
from fruits_cli.app import main
from fruits_cli.rehearsal.child import end_with_parent
end_with_parent()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
main()
"""
INTERRUPTED = 130
_ORPHAN_S = 30.0


@contextmanager
def fruits(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, *, stdout: IO[str] | int | None
) -> Iterator[subprocess.Popen[str]]:
    """The command on our terminal, which it reads and whose Ctrl-C it hears."""
    theirs, ours = os.pipe()
    # A module's `-m` would look for it in the current folder first; -P does not.
    command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs), *words]
    try:
        child = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=stdout, text=True, pass_fds=(theirs,)
        )
        try:
            yield child
        finally:
            # Popen's own block does not wait after Ctrl-C, and the command has things to end.
            with held():
                child.wait()
            if child.stdout:
                child.stdout.close()
    finally:
        os.close(theirs)
        os.close(ours)


def wait_for(
    words: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    stdout: IO[str] | None = None,
) -> int:
    """The exit code of the command, 130 where a signal ended it or us. stdout: else ours."""
    with fruits(words, environ, folder, stdout=stdout) as child:
        return ended(child)


def ended(child: subprocess.Popen[str]) -> int:
    """The exit code at its end. A signal of ours ends it, and is waited for: it may take time."""
    was_told = False
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt as told:
            was_told = True
            # Ctrl-C and a closed terminal have reached the child as well.
            if isinstance(told, Terminated):
                child.terminate()
            heard_again()
        else:
            return INTERRUPTED if code < 0 or (was_told and code == 0) else code


def end_with_parent() -> None:
    """Be ended once the parent is gone; the first argument is where that shows."""
    lifeline = int(sys.argv.pop(1))
    threading.Thread(target=_await_end, args=(lifeline,), daemon=True).start()


def _await_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)
