"""Packed datasets as the documentation of the format says, written without the product."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spark_job.chunks import Plan
from spark_job.files import Found

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
SIDE = 16
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


def write_packed(folder: Path, rows: list[Row]) -> list[Found]:
    """Write a dataset of one shard; its row of the listing."""
    write_manifest(folder, [write_shard(folder, rows)])
    shard = next(folder.glob("*.parquet")).name
    return [Found(f"{shard}#0+{len(rows)}", len(rows), 0)]


def plan_for(images_folder: Path, kind: str = "folder") -> Plan:
    """The plan of a run over this folder, in one chunk."""
    return Plan(
        images=str(images_folder),
        kind=kind,
        name=images_folder.name,
        pictures=0,
        chunks=1,
        rows_per_chunk=512,
        dataset="",
        fingerprint="f",
        weights="random",
        engine="openvino",
        precision="f32",
        image_size=SIDE,
        extensions=list(EXTENSIONS),
    )
