"""A run as the notebook finds it, and the Spark session that it finds there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fruits_cli.files import templates_dir
from fruits_cli.job.java import find_java
from spark_job import pca, schema
from tests.support.datasets import row, write_manifest, write_shard
from tests.support.pictures import saved

PICTURES, COMPONENTS = 60, 12
# The pictures of a kind are of its colour.
COLOURS = ((200, 40, 40), (40, 160, 60), (50, 60, 190))


def write_rows(file: Path, rows: list[dict[str, object]], columns: pa.Schema) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, columns), file)


def write_pictures(folder: Path, paths: list[str], *, packed: bool) -> list[str]:
    """The digests of pictures of their kinds' colours, packed or each in its file."""
    contents = [saved(Image.new("RGB", (64, 48), COLOURS[n % 3])) for n in range(len(paths))]
    rows = [
        row(path, path.partition("/")[0], content)
        for path, content in zip(paths, contents, strict=True)
    ]
    if packed:
        write_manifest(folder, [write_shard(folder, rows)])
    else:
        for path, content in zip(paths, contents, strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return [digest for _, _, digest, _, _ in rows]


def make_run(
    folder: Path, *, pictures: int = PICTURES, rejected: int = 1, packed: bool = True
) -> None:
    """What a run leaves, with features of three kinds that differ by far more than their noise.

    Its pictures lie beside the folder of the runs, as a packed dataset or as files.
    """
    rng = np.random.default_rng(7)
    kinds = rng.normal(size=(3, schema.FEATURES)) * 5
    features = np.array([kinds[n % 3] + rng.normal(size=schema.FEATURES) for n in range(pictures)])
    features = features.astype(np.float32)
    model = pca.fit(pca.sums_of([features], schema.FEATURES), k=COMPONENTS)
    projected = model.project(features)
    heads = [
        {"path": f"kind {n % 3}/pêche {n:02}.jpg", "label": f"kind {n % 3}"}
        for n in range(pictures)
    ]
    images = folder.parents[1] / f"pictures of {folder.name}"
    digests = write_pictures(images, [head["path"] for head in heads], packed=packed)
    for part in range(2):
        chosen = range(part, pictures, 2)
        rows = [{**heads[n], "sha256": digests[n], "features": features[n]} for n in chosen]
        write_rows(folder / f"features/{part}.parquet", rows, schema.FEATURE_ROWS)
        rows = [{**heads[n], "pca_features": projected[n]} for n in chosen]
        write_rows(folder / f"pca/{part}.parquet", rows, schema.pca_rows(keep_features=False))
    bad = {"path": "kind 0/torn.jpg", "label": "kind 0", "length": 3, "error": "truncated"}
    if rejected:
        rows = [{**bad, "message": "image file is truncated"}]
        write_rows(folder / "rejected/0.parquet", rows, schema.REJECTED_ROWS)
    (folder / "pca_model").mkdir()
    (folder / "pca_model/pca.npz").write_bytes(model.npz())
    manifest = {
        "run_id": folder.name,
        "engine": "openvino",
        "precision": "f32",
        "weights": "imagenet",
        "image_size": 224,
        "dataset_digest": "f00d" if packed else "",
        "settings": {"images": str(images)},
        "counts": {"pictures": pictures + rejected, "features": pictures, "rejected": rejected},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


# Livy gives a session `spark`, `sc` and %matplot; here they stand on two cores of this machine.
SESSION = (templates_dir() / "kernel_session.py").read_text(encoding="utf-8")


def session_environ() -> dict[str, str]:
    """What SESSION needs of its kernel's environment."""
    import pyspark

    return {
        "JAVA_HOME": str(find_java(os.environ)),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
