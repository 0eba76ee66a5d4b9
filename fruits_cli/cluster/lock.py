"""One launch at a time for a name, across machines: an object that only one can put."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from fruits_cli.cloud.protocols import Clock, Storage
from fruits_cli.errors import CloudError, Locked
from fruits_cli.s3uri import S3Uri

# A launch that takes longer has died: RunJobFlow answers within seconds.
_STALE_AFTER = timedelta(minutes=10)
_ATTEMPTS = 5


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as the object says."""

    launch_id: str
    owner: str
    host: str


@dataclass(frozen=True)
class Held:
    """A lock that was found taken."""

    holder: Holder
    etag: str
    since: datetime


def take_lock(
    storage: Storage, uri: S3Uri, holder: Holder, *, clock: Clock, own: Sequence[str] = ()
) -> None:
    """Return once the lock is ours.

    own: launch ids that this folder's ledger knows to be dead; their locks are taken over at once,
    others' when they are ten minutes old. Raises Locked naming the holder.
    """
    content = json.dumps(asdict(holder)).encode()
    for _ in range(_ATTEMPTS):
        if storage.put_if_absent(content, uri):
            return
        held = read_lock(storage, uri)
        if held is None:
            continue
        stale = clock.now() - held.since > _STALE_AFTER
        if not stale and held.holder.launch_id not in own:
            raise Locked(
                f"{held.holder.owner} on {held.holder.host} is launching the same thing, since "
                f"{held.since:%H:%M} UTC.",
                hint=f"Wait for it. Should that launch have died, delete {uri}",
            )
        # Conditional: of two who find it stale, one wins.
        if storage.replace_if_same(content, uri, etag=held.etag):
            return
    raise CloudError(f"The lock {uri} changes hands too fast.", hint="Try again in a minute.")


def read_lock(storage: Storage, uri: S3Uri) -> Held | None:
    """Who holds the lock, None where nobody does."""
    found = storage.fetch_bytes(uri)
    if found is None:
        return None
    try:
        values = json.loads(found.content)
        holder = Holder(values["launch_id"], values["owner"], values["host"])
    except (ValueError, KeyError, TypeError):
        holder = Holder("", "somebody", "an unknown host")
    return Held(holder, found.etag, found.modified_at)


def release_lock(storage: Storage, uri: S3Uri, launch_id: str) -> None:
    """Delete the lock if it is still ours."""
    held = read_lock(storage, uri)
    if held and held.holder.launch_id == launch_id:
        storage.delete_object(uri)
