"""Copies logs to S3, where EMR puts them: <LogUri>/<cluster-id>/<the node's tree>.gz.

Source: ManagementGuide, emr-plan-debugging and emr-manage-view-web-log-files.
"""

from __future__ import annotations

import gzip
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fruits_cli.errors import UsageError
from fruits_cli.s3uri import parse_s3_uri

_LOG = logging.getLogger(__name__)


def append_line(path: Path, text: str, *, level: str = "INFO") -> None:
    """Add a line as the step runner writes it: time, level, text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(f"{now} {level} {text}\n")


def append_text(path: Path, text: str) -> None:
    """Add text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text if not text or text.endswith("\n") else f"{text}\n")


class LogShipping:
    """One cluster's log tree; what changed is put again, whole and gzipped, at each upload."""

    def __init__(self, tree: Path, log_uri: str, cluster_id: str, s3: Any, every_s: float) -> None:
        self._tree, self._s3, self._every_s = tree, s3, every_s
        self._place = _place(log_uri, cluster_id)
        self._sent: dict[Path, tuple[int, int]] = {}
        self._next = time.monotonic() + every_s

    def ship_when_due(self) -> None:
        if time.monotonic() >= self._next:
            self.ship()

    def ship(self) -> None:
        """Put what changed since the last time; without LogUri there are no logs."""
        self._next = time.monotonic() + self._every_s
        if self._place is None or not self._tree.is_dir():
            return
        for path in sorted(p for p in self._tree.rglob("*") if p.is_file()):
            status = path.stat()
            version = (status.st_size, status.st_mtime_ns)
            if self._sent.get(path) != version and self._put(path):
                self._sent[path] = version

    def _put(self, path: Path) -> bool:
        assert self._place is not None
        bucket, prefix = self._place
        key = f"{prefix}{path.relative_to(self._tree).as_posix()}.gz"
        try:
            self._s3.put_object(
                Bucket=bucket,
                Key=key,
                Body=gzip.compress(path.read_bytes()),
                ContentType="application/x-gzip",
            )
        except (BotoCoreError, ClientError) as error:
            # EMR continues without logs where it may not write them, without a message.
            _LOG.warning("log %s was not put: %s", key, error)
            return False
        return True


def _place(log_uri: str, cluster_id: str) -> tuple[str, str] | None:
    try:
        uri = parse_s3_uri(log_uri) / f"{cluster_id}/"
    except UsageError:
        return None
    return uri.bucket, uri.key
