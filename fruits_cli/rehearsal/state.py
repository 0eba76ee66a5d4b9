"""The state folder: one server's lock, and the file that says how to reach it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

_FILE, _LOCK = "rehearsal.json", "lock"
_LOCK_TIMEOUT_S, _POLL_S = 2.0, 0.01


@dataclass(frozen=True)
class Rehearsal:
    """A running embedded AWS. `environ` is what to export, `unset` what must not be set beside it.

    The access key is the one secret: whoever has it can run commands as this user.
    """

    pid: int
    endpoint: str
    region: str
    environ: dict[str, str]
    unset: tuple[str, ...] = ("AWS_PROFILE", "AWS_SESSION_TOKEN")

    @property
    def key(self) -> str:
        return self.environ["AWS_ACCESS_KEY_ID"]


def rehearsal_environ(endpoint: str, region: str, access_key: str) -> dict[str, str]:
    """The variables that lead boto3, pyarrow and the aws CLI here, past every profile and proxy."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def new_access_key() -> str:
    """A made-up access key id that cannot be guessed."""
    return f"FRUITS{secrets.token_hex(16).upper()}"


@contextmanager
def hold_lock(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock; False where another server does. It ends with the process."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    with (folder / _LOCK).open("a") as lock:
        # `is_held` takes the lock for a moment; only a server keeps it.
        while not (is_mine := _try_lock(lock, fcntl.LOCK_EX)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        yield is_mine


def is_held(folder: Path) -> bool:
    """Whether a server runs in the folder; a killed one leaves files, but no lock."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            return not _try_lock(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try_lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_state(folder: Path, rehearsal: Rehearsal) -> None:
    """Put the state file in place at once, readable by its owner alone."""
    draft = folder / f"{_FILE}.new"
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(rehearsal), stream, indent=2)
    draft.replace(folder / _FILE)


def load_state(folder: Path) -> Rehearsal | None:
    """What the state file says, or None without a readable one."""
    try:
        members = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        members["unset"] = tuple(members["unset"])
        return Rehearsal(**members)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remove_state(folder: Path) -> None:
    """Forget how the server was reached."""
    (folder / _FILE).unlink(missing_ok=True)
