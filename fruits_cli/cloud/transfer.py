"""Sends and fetches many files at once, in bounded memory, until the first failure."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from fruits_cli.cloud.protocols import Storage
from fruits_cli.errors import CloudError
from fruits_cli.s3uri import S3Uri

CONNECTIONS = 32
# At most so much waits on disk to be sent, beside what is being sent.
_AHEAD_BYTES = 256 << 20
_FETCH_ATTEMPTS = 4


@dataclass(frozen=True)
class Sending:
    """One file on its way to S3; `sha256` is verified by S3, `remove` deletes the file after."""

    file: Path
    uri: S3Uri
    size: int
    pictures: int
    sha256: bytes | None = None
    remove: bool = False


@dataclass(frozen=True)
class Fetching:
    """One object on its way to disk."""

    uri: S3Uri
    file: Path
    size: int
    modified_at: datetime


_Item = TypeVar("_Item", Sending, Fetching)


def send_all(
    storage: Storage, sendings: Iterable[Sending], *, connections: int = CONNECTIONS
) -> Generator[Sending, None, None]:
    """Each file once it is on S3. Takes from `sendings` as it goes; raises the first failure."""

    def send(sending: Sending) -> Sending:
        storage.put_file(sending.file, sending.uri, sha256=sending.sha256)
        if sending.remove:
            sending.file.unlink(missing_ok=True)
        return sending

    return _side_by_side(send, sendings, connections)


def fetch_all(storage: Storage, fetchings: Iterable[Fetching]) -> Generator[Fetching, None, None]:
    """Each object once it is on disk. Raises the first failure."""

    def fetch(fetching: Fetching) -> Fetching:
        for attempt in range(_FETCH_ATTEMPTS):
            try:
                storage.fetch_file(fetching.uri, fetching.file)
                break
            except CloudError:
                # botocore repeats requests, but not a body that breaks off.
                if attempt + 1 == _FETCH_ATTEMPTS:
                    raise
        return fetching

    return _side_by_side(fetch, fetchings, CONNECTIONS)


def _side_by_side(
    act: Callable[[_Item], _Item], items: Iterable[_Item], connections: int
) -> Generator[_Item, None, None]:
    """`act` on every item, by so many threads; each item once that is done."""
    pool = ThreadPoolExecutor(connections, thread_name_prefix="transfer")
    under_way: dict[Future[_Item], int] = {}
    try:
        for item in items:
            under_way[pool.submit(act, item)] = item.size
            is_large = len(under_way) > 1 and sum(under_way.values()) >= _AHEAD_BYTES
            yield from _ended(under_way, block=is_large or len(under_way) >= 2 * connections)
        while under_way:
            yield from _ended(under_way, block=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ended(under_way: dict[Future[_Item], int], *, block: bool) -> Iterator[_Item]:
    timeout_s = None if block else 0
    ended, _ = wait(under_way, timeout=timeout_s, return_when=FIRST_COMPLETED)
    for future in ended:
        del under_way[future]
        yield future.result()


@dataclass
class Speed:
    """Units a second since the first one; `clock` is time.monotonic unless a test gives another."""

    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._since_s = self.clock()

    def of(self, units: int) -> float:
        return units / max(self.clock() - self._since_s, 1e-3)
