"""A lock on S3: one launch at a time for a cluster's name, across machines."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import timedelta

from fruits_cli.cloud.protocols import Storage
from fruits_cli.errors import CloudError, Locked
from fruits_cli.files import parse_json, user_name
from fruits_cli.s3uri import S3Uri

# A launch that takes longer has died: RunJobFlow answers within seconds.
_STALE_AFTER = timedelta(minutes=10)
_ATTEMPTS = 5


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as the object says; `pid` is 0 where it does not."""

    launch_id: str
    owner: str
    host: str
    pid: int = 0

    @property
    def has_died(self) -> bool:
        """Whether it was a process of this machine that is gone."""
        if not self.pid or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


@dataclass(frozen=True)
class Held:
    """A lock that was found taken, and for how long by S3's own clock."""

    holder: Holder
    etag: str
    age: timedelta


def this_process(launch_id: str) -> Holder:
    """Identifies this process to whoever finds the lock."""
    return Holder(launch_id, user_name(), socket.gethostname(), os.getpid())


def take_lock(storage: Storage, uri: S3Uri, holder: Holder) -> str:
    """Return once the lock is ours; one whose holder died, or is ten minutes old, is taken over.

    The launch id of that holder, who may have started something; empty where there was none.
    Raises Locked naming the holder.
    """
    content, died = json.dumps(asdict(holder)).encode(), ""
    for _ in range(_ATTEMPTS):
        if storage.put_if_absent(content, uri):
            return ""
        held = read_lock(storage, uri)
        if held is None:
            continue
        if held.holder.launch_id == holder.launch_id:
            # It was written, and its answer got lost: botocore's next attempt found it there.
            return died
        if held.age <= _STALE_AFTER and not held.holder.has_died:
            raise Locked(
                f"{held.holder.owner} on {held.holder.host} has been launching the same thing for "
                f"{held.age.total_seconds():.0f} seconds.",
                hint=f"Wait for it. If that launch has died, delete {uri}",
            )
        # Conditional: of two who find it stale, one wins.
        died = held.holder.launch_id
        if storage.replace_if_same(content, uri, etag=held.etag):
            return died
    raise CloudError(f"The lock {uri} keeps changing its owner.", hint="Try again in a minute.")


def require_lock(storage: Storage, uri: S3Uri, launch_id: str) -> None:
    """Raise Locked where the lock is not ours any more: this machine may have slept for hours."""
    held = read_lock(storage, uri)
    if held is None or held.holder.launch_id != launch_id:
        by = f"{held.holder.owner} on {held.holder.host}" if held else "somebody"
        raise Locked(
            f"This launch took so long that {by} took over its lock; nothing was started.",
            hint="fruits status --all shows what is running.",
        )


def read_lock(storage: Storage, uri: S3Uri) -> Held | None:
    """Who holds the lock, None where nobody does."""
    found = storage.fetch_bytes(uri)
    if found is None:
        return None
    try:
        values = parse_json(found.content)
        pid = int(values.get("pid") or 0)
        holder = Holder(values["launch_id"], values["owner"], values["host"], pid)
    except (ValueError, KeyError, TypeError, AttributeError):
        holder = Holder("", "somebody", "an unknown host")
    return Held(holder, found.etag, found.served_at - found.modified_at)


def release_lock(storage: Storage, uri: S3Uri, launch_id: str) -> None:
    """Delete the lock if it is still ours."""
    held = read_lock(storage, uri)
    if held and held.holder.launch_id == launch_id:
        storage.delete_object(uri)
