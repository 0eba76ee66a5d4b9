"""Runs one command in a session of its own and ends the whole session when told, or when orphaned.

Started by path with the standard library alone. Its stdin comes from whoever started it: `i` asks
the command to stop and kills what is left some seconds later, `k` or the end of file kills at once.
pyspark's daemon makes a process group of its own, but none of them leaves the session.

guard.py [--scratch FOLDER] COMMAND: with a folder, which is removed at the end, the end of file
asks as well.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

_STOP_S = 3.0
_SWEEP_S = 5.0
_POLL_S = 0.05


def session_members(session: int) -> list[int]:
    """The live processes of a session; zombies are not counted."""
    return [pid for pid in _all_pids() if _is_member(pid, session)]


def _all_pids() -> list[int]:
    if os.path.isdir("/proc/self"):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True
    )
    found = (line.split() for line in listing.stdout.splitlines())
    return [int(pid) for pid, state, *_ in found if not state.startswith("Z")]


def _is_member(pid: int, session: int) -> bool:
    try:
        if os.getsid(pid) != session:
            return False
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, PermissionError):
        return False
    except FileNotFoundError:
        # No /proc (macOS), or gone since.
        return not os.path.isdir("/proc/self")


def kill_session(session: int) -> None:
    """Kill every process of the session, also those born meanwhile."""
    deadline = time.monotonic() + _SWEEP_S
    while (members := session_members(session)) and time.monotonic() < deadline:
        _signal(members, signal.SIGKILL)
        time.sleep(_POLL_S)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _watch(command: subprocess.Popen[bytes], asking: tuple[bytes, ...]) -> None:
    """Return when the command ended by itself or is to be killed."""
    while command.poll() is None:
        ready, _, _ = select.select([sys.stdin], [], [], _POLL_S)
        if not ready:
            continue
        word = os.read(sys.stdin.fileno(), 1)
        if word in asking:
            _ask_to_stop(command, is_orphan=not word)
        return


def _ask_to_stop(command: subprocess.Popen[bytes], *, is_orphan: bool) -> None:
    _signal(session_members(command.pid), signal.SIGINT)
    deadline = time.monotonic() + _STOP_S
    told = [] if is_orphan else [sys.stdin]
    while command.poll() is None and time.monotonic() < deadline:
        ready, _, _ = select.select(told, [], [], _POLL_S)
        if ready:
            return


def _end_on_signal(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: list[str]) -> int:
    """The command's exit code, 128 + n where signal n ended it."""
    signal.signal(signal.SIGTERM, _end_on_signal)
    if argv[0] != "--scratch":
        return _run(argv, asking=(b"i",))
    try:
        return _run(argv[2:], asking=(b"i", b""))
    finally:
        _remove_profile(argv[1])


def _remove_profile(folder: str) -> None:
    """Remove it, and the folder of a killed Chromium's socket, which lies beside it."""
    with suppress(OSError):
        sockets = os.path.dirname(os.readlink(os.path.join(folder, "SingletonSocket")))
        for name in ("SingletonSocket", "SingletonCookie"):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(sockets, name))
        os.rmdir(sockets)
    shutil.rmtree(folder, ignore_errors=True)


def _run(argv: list[str], *, asking: tuple[bytes, ...]) -> int:
    command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _watch(command, asking)
    finally:
        kill_session(command.pid)
    code = command.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
