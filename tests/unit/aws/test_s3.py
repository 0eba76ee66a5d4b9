from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from botocore.response import StreamingBody

from fruits_cli.aws.clients import Clients
from fruits_cli.aws.s3 import AwsStorage
from fruits_cli.errors import CloudError
from fruits_cli.files import MOST_DOCUMENT_BYTES
from fruits_cli.s3uri import S3Uri

FIFTY_GB = 50 << 30


class _Zeros:
    """An object of S3 whose bytes are zeros; counts those that were read."""

    def __init__(self, size: int) -> None:
        self.size, self.read_bytes = size, 0

    def read(self, amount: int | None = None) -> bytes:
        left = self.size - self.read_bytes
        piece = min(left, left if amount is None else amount)
        self.read_bytes += piece
        return bytes(piece)

    def close(self) -> None:
        self.size = self.read_bytes

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {
            "Body": StreamingBody(cast(Any, self), self.size),
            "ETag": "e",
            "LastModified": datetime(2026, 8, 23, tzinfo=UTC),
            "ResponseMetadata": {"HTTPHeaders": {}},
        }


def storage_of(zeros: _Zeros) -> AwsStorage:
    return AwsStorage(cast(Clients, lambda service: zeros), "eu-west-3")


def test_an_object_that_is_no_document_of_ours_does_not_fill_the_memory() -> None:
    zeros = _Zeros(FIFTY_GB)

    with pytest.raises(CloudError, match="has more than 64 MiB"):
        storage_of(zeros).fetch_bytes(S3Uri("figs", "fruits/runs/r/progress.json"))

    assert zeros.read_bytes < 2 * MOST_DOCUMENT_BYTES


def test_a_document_is_read_to_its_last_byte() -> None:
    fetched = storage_of(_Zeros((1 << 20) + 3)).fetch_bytes(S3Uri("figs", "manifest.json"))

    assert fetched
    assert fetched.content == bytes((1 << 20) + 3)
