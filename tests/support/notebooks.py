"""A run as the notebook finds it, and the Spark session that it finds there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fruits_cli.job.spark import find_java
from spark_job import pca, schema

PICTURES, COMPONENTS = 60, 12


def write_rows(file: Path, rows: list[dict[str, object]], columns: pa.Schema) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, columns), file)


def make_run(folder: Path, *, pictures: int = PICTURES, rejected: int = 1) -> None:
    """What a run leaves, with features of three kinds that differ by far more than their noise."""
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
    for part in range(2):
        chosen = range(part, pictures, 2)
        rows = [{**heads[n], "sha256": "00", "features": features[n]} for n in chosen]
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
        "counts": {"pictures": pictures + rejected, "features": pictures, "rejected": rejected},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


# Livy gives a session these two names; here they stand on two cores of this machine.
SESSION = """
from pyspark.sql import SparkSession

settings = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.log.level": "ERROR",
}
spark = SparkSession.builder.config(map=settings).getOrCreate()
sc = spark.sparkContext
"""


def session_environ() -> dict[str, str]:
    """What SESSION needs of its kernel's environment."""
    import pyspark

    return {
        "JAVA_HOME": str(find_java(os.environ)),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
