from __future__ import annotations

import json
from typing import Any

import pytest

from fruits_cli.dataset.manifest import parse_manifest
from fruits_cli.errors import UsageError


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"pictures": 5},
        {"bytes": 5},
        {"shards": [{"name": "../escape.parquet", "pictures": 1, "bytes": 1, "sha256": "0" * 64}]},
        {"shards": [{"name": "x"}]},
        {"shards": 3},
    ],
    ids=str,
)
def test_a_broken_manifest_is_refused(change: dict[str, Any]) -> None:
    shard = {"name": f"{'a' * 64}.parquet", "pictures": 2, "bytes": 3, "sha256": "b" * 64}
    whole = {"format": "fruits-dataset", "version": 1, "pictures": 2, "bytes": 3, "shards": [shard]}
    assert parse_manifest(json.dumps(whole), origin="x").shards[0].pictures == 2

    with pytest.raises(UsageError, match="x is not a dataset of fruits"):
        parse_manifest(json.dumps(whole | change), origin="x")


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"{"])
def test_a_manifest_that_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match="x is not a dataset of fruits"):
        parse_manifest(text, origin="x")
