"""A whole command's surroundings: stand-in AWS, ledger, screen, a model, pictures, results."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fruits_cli.cloud.clusters import StepSpec
from fruits_cli.job.model import ModelArtefact
from fruits_cli.job.node_python import Lock, Wheel
from fruits_cli.ledger import Ledger
from fruits_cli.s3uri import S3Uri, parse_s3_uri
from fruits_cli.screen import Screen
from fruits_cli.session import Session
from tests.support.fakes import FakeAws
from tests.support.worlds import BUCKET


def session(aws: FakeAws, tmp_path: Path, *, json_output: bool = False) -> Session:
    """A session on the stand-in, with a ledger and caches below tmp_path."""
    return Session(
        Screen(json_output=json_output),
        Ledger(tmp_path / "ledger"),
        aws.cloud,
        aws.clock,
        environ={"XDG_CACHE_HOME": str(tmp_path / "cache")},
        load_model=model_in(tmp_path / "model"),
        fetch_wheels=wheels_in(tmp_path / "wheels"),
    )


def wheels_in(folder: Path) -> Callable[..., tuple[Wheel, ...]]:
    """A fetcher of one small file for each pin of a lock."""

    def fetch_wheels(lock: Lock, *, environ: object) -> tuple[Wheel, ...]:
        folder.mkdir(parents=True, exist_ok=True)
        wheels = []
        for pin in lock.pins:
            file = folder / f"{pin.name}-{pin.version}-py3-none-any.whl"
            file.write_text(pin.name)
            wheels.append(Wheel(file, hashlib.sha256(pin.name.encode()).hexdigest()))
        return tuple(wheels)

    return fetch_wheels


def model_in(folder: Path) -> Callable[..., ModelArtefact]:
    """A loader of an artefact of three small files."""

    def load_model(job: object, *, environ: object, offline: bool = False) -> ModelArtefact:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("graph.xml", "graph.bin", "model.json"):
            (folder / name).write_text(name)
        return ModelArtefact(folder, {"fingerprint": "f00d", "weights": "random"})

    return load_model


def pictures(folder: Path, number: int = 6) -> Path:
    """A folder of tiny pictures in two classes."""
    for index in range(number):
        file = folder / ("fig" if index % 2 else "pear") / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index * 9, 80, 80)).save(file)
    return folder


def results(aws: FakeAws, *, pictures: int = 6) -> Callable[[StepSpec], None]:
    """What a finished job leaves in the bucket, at the address in the step's own arguments."""

    def write(step: StepSpec) -> None:
        output = parse_s3_uri(step.args[step.args.index("--output") + 1])
        put(aws, output / "manifest.json", manifest(pictures))
        aws.storage.put_bytes(_parquet(), output / "pca/part-0.parquet")
        put(aws, output / "_chunks/0.json", {})
        put(aws, output / "progress.json", {"stage": "done", "pictures_done": pictures})

    return write


def put(aws: FakeAws, uri: S3Uri, value: dict[str, Any]) -> None:
    """A JSON object in the stand-in's bucket, which is made if need be."""
    aws.storage.create_bucket(BUCKET)
    aws.storage.put_bytes(json.dumps(value).encode(), uri)


def manifest(pictures: int) -> dict[str, Any]:
    """The keys of manifest.json that the command line reads."""
    counts = {
        "pictures": pictures,
        "features": pictures - 1,
        "rejected": 1,
        "rejected_by_reason": {"empty": 1},
        "inferences": pictures - 1,
    }
    return {
        "counts": counts,
        "seconds": {"listing": 0.2, "features": 2.0, "pca": 1.25},
        "settings": {"pca_k": None, "pca_variance": None},
        "pca_k": 2,
        "cumulative_variance": 0.5,
    }


def _parquet() -> bytes:
    table = pa.table(
        {
            "path": pa.array(["a.png"]),
            "label": pa.array(["fig"]),
            "pca_features": pa.array([[1.0, 2.0]], pa.list_(pa.float32())),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


# dataset.json of one shard with six pictures.
DATASET = {
    "format": "fruits-dataset",
    "version": 1,
    "pictures": 6,
    "bytes": 9,
    "shards": [{"name": f"{'0' * 64}.parquet", "pictures": 6, "bytes": 9, "sha256": "0" * 64}],
}
