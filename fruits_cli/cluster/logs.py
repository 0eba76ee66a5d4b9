"""Fetches the logs that EMR copies to S3, minutes after they were written.

Source: EMR Management Guide, view log files (`<LogUri>/<cluster>/steps`, `containers`, `node`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.protocols import Storage, StoredObject
from fruits_cli.s3uri import S3Uri
from fruits_cli.session import Session

_APPLICATION = re.compile(r"application_\d+_\d+")
# The first container of an application is its driver.
_DRIVER = re.compile(r"/container_\w*_000001/(stdout|stderr)(\.gz)?$")
_CONTAINER = re.compile(r"/(stdout|stderr)(\.gz)?$")
_MOST_CONTAINERS = 24
_LOGS_AFTER_S, _LOGS_POLL_S = 330.0, 15.0
# The cause is at the end of a log; a long run may have written gigabytes.
_MOST_BYTES, _MOST_TEXT_BYTES = 32 << 20, 1 << 20


@dataclass(frozen=True)
class JobLogs:
    """Texts by name: what the driver wrote, what EMR wrote of the step, what workers wrote."""

    driver: Mapping[str, str] = field(default_factory=dict)
    step: Mapping[str, str] = field(default_factory=dict)
    workers: Mapping[str, str] = field(default_factory=dict)
    bootstrap: Mapping[str, str] = field(default_factory=dict)

    @property
    def telling(self) -> dict[str, str]:
        """All of them, the most likely to hold the cause of a failure first."""
        return {**self.bootstrap, **self.driver, **self.workers, **self.step}


def fetch_logs(storage: Storage, cluster: Cluster, step_id: str, *, workers: bool) -> JobLogs:
    """The logs of a step as far as they are on S3 by now; empty ones are left out.

    workers: also those of the executors, which a failure may need.
    """
    if cluster.log_uri is None:
        return JobLogs()
    root = cluster.log_uri / f"{cluster.cluster_id}/"
    step = (
        _texts(storage, root, storage.list_objects(root / f"steps/{step_id}/")) if step_id else {}
    )
    applications = set(_APPLICATION.findall("\n".join(step.values())))
    containers = [
        log
        for log in storage.list_objects(root / "containers/")
        if not applications or applications & set(_APPLICATION.findall(log.uri.key))
    ]
    drivers = [log for log in containers if _DRIVER.search(log.uri.key)]
    others = [
        log
        for log in containers
        if workers and log not in drivers and log.size and _CONTAINER.search(log.uri.key)
    ]
    return JobLogs(
        driver=_texts(storage, root, drivers),
        step=step,
        workers=_texts(storage, root, others[:_MOST_CONTAINERS]),
        bootstrap=_texts(storage, root, _bootstrap_logs(storage, cluster, root)),
    )


def await_logs(
    session: Session, cluster: Cluster, step_id: str, *, is_enough: Callable[[JobLogs], bool]
) -> JobLogs:
    """The logs once `is_enough`, or what there is 5.5 minutes from now: EMR copies every five."""
    until, told = session.clock.monotonic() + _LOGS_AFTER_S, False
    while True:
        logs = fetch_logs(session.cloud.storage, cluster, step_id, workers=bool(step_id))
        if is_enough(logs) or session.clock.monotonic() >= until:
            return logs
        if not told:
            session.screen.tell("Waiting up to 5 minutes until EMR has copied the logs to S3.")
            told = True
        session.clock.sleep(_LOGS_POLL_S)


def failed_in_bootstrap(cluster: Cluster) -> bool:
    """Whether EMR says that a bootstrap action failed, whose log then comes minutes later."""
    return any(error.code.startswith("BOOTSTRAP_FAILURE") for error in cluster.errors)


def _bootstrap_logs(storage: Storage, cluster: Cluster, root: S3Uri) -> list[StoredObject]:
    """Those of the bootstrap action that EMR says has failed."""
    found: list[StoredObject] = []
    for error in cluster.errors:
        instance = error.facts.get("primary-instance-id") or error.facts.get("instance-id")
        if not instance or not error.code.startswith("BOOTSTRAP_FAILURE"):
            continue
        action = error.facts.get("bootstrap-action", "")
        below = root / f"node/{instance}/bootstrap-actions/"
        found += [
            log
            for log in storage.list_objects(below)
            if not action.isdigit() or f"/bootstrap-actions/{action}/" in log.uri.key
        ]
    return found


def _texts(storage: Storage, root: S3Uri, objects: Iterable[StoredObject]) -> dict[str, str]:
    # stderr before stdout before EMR's own controller log: so the traceback is met first.
    order = sorted(objects, key=lambda log: (_rank(log.uri.key), log.uri.key))
    texts = {}
    for log in order:
        if not 0 < log.size <= _MOST_BYTES:
            continue
        found = storage.fetch_bytes(log.uri)
        if found and (text := readable(found.content).strip()):
            texts[log.uri.key.removeprefix(root.key)] = text
    return texts


def _rank(key: str) -> int:
    name = key.rpartition("/")[2]
    return next((n for n, word in enumerate(("stderr", "stdout")) if name.startswith(word)), 2)


def readable(content: bytes) -> str:
    """The end of a log as text, unpacked where it is gzip; broken bytes are replaced."""
    if content[:2] == b"\x1f\x8b":
        content = _unpacked_end(content)
    return content[-_MOST_TEXT_BYTES:].decode("utf-8", "replace")


def _unpacked_end(content: bytes) -> bytes:
    """The last MiB of a gzip file, in the memory of two: one of 1 MiB may hold gigabytes."""
    end, rest = b"", content
    unpacker = zlib.decompressobj(wbits=31)
    # Half of a log is better than none.
    with suppress(zlib.error):
        while rest:
            end = (end + unpacker.decompress(rest, _MOST_TEXT_BYTES))[-_MOST_TEXT_BYTES:]
            rest = unpacker.unconsumed_tail
            if unpacker.eof:
                # EMR appends: a file may hold several members.
                rest, unpacker = unpacker.unused_data, zlib.decompressobj(wbits=31)
    return end
