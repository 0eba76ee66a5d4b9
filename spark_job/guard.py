"""Ensures that a run has one writer, which stops when the command that started it stops."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from spark_job.errors import JobError
from spark_job.files import Place
from spark_job.schema import PLAN_DIR

# How long a killed predecessor may take to release the lock.
_PATIENCE_S = 20.0
_LOOK_EVERY_S = 5.0
_watched = False


class _NoPandas:
    """An import finder that hides pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("The job does without pandas.", name=name)


def hide_pandas() -> None:
    """Keep pyarrow from importing pandas, 0.3 s, to see whether a list is one of its columns.

    The nodes of a cluster have none.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)


def lock_run(output: Place) -> IO[bytes] | None:
    """The lock on a local run, held while the file is open; on S3 the cluster's one step holds it.

    Raises JobError (1) where another process writes this run.
    """
    if not output.is_local:
        return None
    os.makedirs(output.at(PLAN_DIR), exist_ok=True)
    lock = open(output.at(f"{PLAN_DIR}/lock"), "ab")  # noqa: SIM115
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                sentence = f"Another process is writing the run in {output.uri}."
                raise JobError(1, sentence, hint="Wait for it, or stop it.") from None
            time.sleep(0.1)


def die_with_command(command_lock: str) -> None:
    """End this driver when the command that holds the lock dies."""
    threading.Thread(target=_wait_for_unlock, args=(command_lock,), daemon=True).start()


def die_with_parent() -> None:
    """End this Python worker when Spark's daemon dies, even in the middle of a chunk.

    An orphan would keep writing into a run that another driver may have taken over.
    """
    global _watched
    if not _watched:
        _watched = True
        threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def end_after(minutes: float, act: Callable[[], None]) -> None:
    """Call `act` after so many minutes."""
    timer = threading.Timer(minutes * 60, act)
    timer.daemon = True
    timer.start()


def end_when(file: str, output: Place, act: Callable[[], None]) -> None:
    """Call `act` once a file of that name exists; it is removed first."""
    threading.Thread(target=_wait_for_file, args=(file, output, act), daemon=True).start()


def _wait_for_file(file: str, output: Place, act: Callable[[], None]) -> None:
    while True:
        try:
            if output.exists(file):
                output.remove(file)
                return act()
        except OSError:
            # The job itself reports a place that it cannot reach.
            pass
        time.sleep(_LOOK_EVERY_S)


def _wait_for_unlock(command_lock: str) -> None:
    with open(command_lock, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    # Not sys.exit: the main thread may be waiting for a JVM that is gone.
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
