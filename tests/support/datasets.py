"""Packed datasets as the documentation of the format says, written without the product."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
COLUMNS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("sha256", pa.string()),
        ("length", pa.int64()),
        ("content", pa.binary()),
    ]
)
Row = tuple[str, str, str, int, bytes | None]


def row(path: str, label: str, content: bytes) -> Row:
    """One picture of a dataset."""
    return path, label, hashlib.sha256(content).hexdigest(), len(content), content


def write_shard(folder: Path, rows: list[Row]) -> dict[str, str | int]:
    """Write a shard in row groups of 256; its entry in dataset.json."""
    name = f"{hashlib.sha256(repr([r[:4] for r in rows]).encode()).hexdigest()}.parquet"
    columns = [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), COLUMNS.types, strict=True)]
    table = pa.Table.from_arrays(columns, schema=COLUMNS)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name, row_group_size=256)
    content = (folder / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"name": name, "pictures": len(rows), "bytes": len(content), "sha256": digest}


def write_manifest(folder: Path, shards: list[dict[str, str | int]]) -> None:
    """Write dataset.json for these shards."""
    sums = {key: sum(int(shard[key]) for shard in shards) for key in ("pictures", "bytes")}
    facts = {"format": "fruits-dataset", "version": 1, **sums, "shards": shards}
    (folder / "dataset.json").write_text(json.dumps(facts))


def write_dataset(folder: Path, pictures: list[int]) -> list[str]:
    """A dataset of so many tiny contents in each shard; the shards' names."""
    shards = [
        write_shard(folder, [row(f"{s}/{n}.jpg", str(s), b"%d" % n) for n in range(count)])
        for s, count in enumerate(pictures)
    ]
    write_manifest(folder, shards)
    return [str(shard["name"]) for shard in shards]
