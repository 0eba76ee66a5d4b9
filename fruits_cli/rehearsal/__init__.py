"""The embedded AWS: a child process on loopback whose EMR steps really run on local Spark.

    rehearsal = start(folder)       spawns it, or finds the one that lives there
    environ_beside(rehearsal, os.environ)   what a command needs to talk to it
    stop(folder)                    ends it with every process it started
    with passing() as (rehearsal, folder)   one that ends with the block

It outlives the command that started it; `find(folder)` tells whether one lives.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from fruits_cli.errors import MachineError
from fruits_cli.rehearsal.state import Rehearsal, is_held, load_state, remove_state
from fruits_cli.signals import held

__all__ = ["Rehearsal", "environ_beside", "find", "passing", "start", "stop"]

_START_S, _STOP_S, _POLL_S = 60.0, 30.0, 0.05
_PACKAGES = Path(__file__).resolve().parents[2]
LOG_NAME = "server.log"
# Servers that this process started, and whose exit codes it has to collect.
_children: dict[int, subprocess.Popen[bytes]] = {}


def find(state: Path) -> Rehearsal | None:
    """The rehearsal that runs in the folder, or None; the remains of a killed one do not count."""
    return load_state(state) if is_held(state) else None


def start(
    state: Path,
    *,
    region: str = "eu-west-3",
    minutes_per_second: float = 1.0,
    timer_minutes_per_second: float = 1 / 60,
    quota_vcpus: int = 64,
    ends_with_us: bool = False,
    module: str = __name__,
) -> Rehearsal:
    """A rehearsal that answers requests, made unless one lives there already.

    Amazon's waits pass at `minutes_per_second`, idle time-out and lifetime at the timer's.
    ends_with_us: it ends with this process, however that ends. The server runs `module`. Raises
    MachineError naming the log where it does not come up within a minute.
    """
    living = find(state)
    if living is not None:
        return living
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "--state": str(state.resolve()),
        "--region": region,
        "--minutes-per-second": repr(minutes_per_second),
        "--timer-minutes-per-second": repr(timer_minutes_per_second),
        "--quota-vcpus": str(quota_vcpus),
    }
    argv = [sys.executable, "-m", module, *_flat(options)]
    argv += ["--ends-with-stdin"] if ends_with_us else []
    with (state / LOG_NAME).open("ab") as log:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if ends_with_us else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Where this package is; another of its name in the user's folder must not start.
            cwd=_PACKAGES,
            start_new_session=True,
        )
    _children[child.pid] = child
    try:
        return _awaited(state, child)
    except BaseException:
        # Nobody is told of it, and it has no cluster yet.
        child.kill()
        _collect(child.pid)
        raise


def _flat(options: Mapping[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]


def _awaited(state: Path, child: subprocess.Popen[bytes]) -> Rehearsal:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        living = find(state)
        if living is not None:
            return living
        # Another start may have won the folder: then its server is the one to find.
        if child.poll() is not None and not is_held(state):
            break
        time.sleep(_POLL_S)
    raise MachineError(
        "The rehearsal's server did not start.", hint=f"Read {state / LOG_NAME} for the cause."
    )


def stop(state: Path) -> bool:
    """End the rehearsal, its clusters and its steps; False where none lived. Takes seconds.

    What does not end in half a minute is killed; its steps die with it.
    """
    living = find(state)
    if living is None:
        remove_state(state)
        return False
    _signal(living.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while is_held(state):
        if time.monotonic() >= deadline:
            _signal(living.pid, signal.SIGKILL)
            deadline += _STOP_S
        time.sleep(_POLL_S)
    remove_state(state)
    if living.pid in _children:
        _collect(living.pid)
    return True


@contextlib.contextmanager
def passing() -> Iterator[tuple[Rehearsal, Path]]:
    """A rehearsal and its folder, which end with the block, and also where we are killed."""
    folder = Path(tempfile.mkdtemp(prefix="fruits-rehearsal-"))
    living = start(folder, ends_with_us=True)
    try:
        yield living, folder
    finally:
        with held():
            stop(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _collect(pid: int) -> None:
    child = _children.pop(pid)
    if child.stdin is not None:
        child.stdin.close()
    child.wait()


def environ_beside(rehearsal: Rehearsal, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` changed so that AWS clients reach the rehearsal and nothing else."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in rehearsal.unset and not name.startswith("AWS_ENDPOINT_URL")
    }
    return kept | rehearsal.environ
