"""Digests of pictures read before: an unchanged folder is listed, and not read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fruits_cli.dataset.listing import Listed, Stamp

if TYPE_CHECKING:
    import sqlite3


# A file written twice within one tick of the file system's clock keeps its stamp: what was
# touched so shortly before it was read is read again next time.
_TICK_NS = 50_000_000
_VERSION = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID
"""
_NEXT = "path > ? AND path <= ?"


class DigestCache:
    """Digests of the pictures of one folder by path and stamp, in an SQLite file.

    Groups are loaded and saved in the order of the paths, which drops what is gone from the file.
    Without a file, or with one that cannot be used, the cache stays empty.
    """

    def __init__(self, file: Path | None, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._connection = _opened(file) if file else None
        self._after = ""
        self._stored: dict[str, tuple[str, str]] = {}

    def load(self, pictures: Sequence[Listed]) -> dict[str, str]:
        """Path to sha256 of those among the next `pictures` that are as they were when read."""
        span = (self._after, pictures[-1].path)
        rows = self._execute(f"SELECT path, stamp, sha256 FROM digests WHERE {_NEXT}", span)
        self._stored = {path: (stamp, sha256) for path, stamp, sha256 in rows}
        return {
            picture.path: self._stored[picture.path][1]
            for picture in pictures
            if picture.stamp is not None
            and not picture.has_twin
            and self._stored.get(picture.path, ("",))[0] == _text(picture.stamp)
        }

    def save(self, digests: Mapping[str, tuple[Stamp, str]], *, last: str) -> None:
        """Keep path to stamp and sha256 for all up to the path `last`, and nothing else there."""
        settled_ns = self._clock_ns() - _TICK_NS
        kept = {
            path: (_text(stamp), sha256)
            for path, (stamp, sha256) in digests.items()
            if stamp.ctime_ns < settled_ns
        }
        if kept != self._stored:
            self._replace(kept, last)
        self._after, self._stored = last, {}

    def forget_rest(self) -> None:
        """Drop what lies behind the last path that was saved; for the end of the listing."""
        self._execute("DELETE FROM digests WHERE path > ?", (self._after,))

    def close(self) -> None:
        """Close the file; the cache is empty from now on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _replace(self, kept: Mapping[str, tuple[str, str]], last: str) -> None:
        self._execute("BEGIN IMMEDIATE")
        self._execute(f"DELETE FROM digests WHERE {_NEXT}", (self._after, last))
        for path, (stamp, sha256) in kept.items():
            self._execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (path, stamp, sha256))
        self._execute("COMMIT")

    def _execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        import sqlite3

        if self._connection is None:
            return []
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error:
            # Full disk, a second packing, a damaged file: packing goes on, only slower next time.
            self._connection.close()
            self._connection = None
            return []


def _opened(file: Path) -> sqlite3.Connection | None:
    import sqlite3

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return _connected(file)
    except (OSError, sqlite3.OperationalError):
        return None
    except sqlite3.DatabaseError:
        # Damaged, or of another version: it only holds what can be read again.
        file.unlink(missing_ok=True)
        return _connected(file)


def _text(stamp: Stamp) -> str:
    # One text: an inode or a time may be larger than SQLite's integers.
    return ":".join(map(str, stamp))


def _connected(file: Path) -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect(file, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("It is of another version.")
        # Without waiting for the disk: after a power failure the pictures are read again.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
