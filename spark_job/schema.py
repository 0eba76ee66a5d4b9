"""Names and types of everything that a run writes."""

from __future__ import annotations

import pyarrow as pa

FEATURES = 1280
CHUNK_PICTURES = 2048
SCHEMA_VERSION = 2

# Names below the folder of a run.
FEATURES_DIR, PCA_DIR, REJECTED_DIR = "features", "pca", "rejected"
CHUNKS_DIR, PLAN_DIR, PCA_MODEL_DIR = "_chunks", "_plan", "pca_model"
PROGRESS_FILE, MANIFEST_FILE = "progress.json", "manifest.json"
INPUTS_FILE, JOB_FILE = f"{PLAN_DIR}/inputs.parquet", f"{PLAN_DIR}/job.json"

FOLDERS = ("", FEATURES_DIR, PCA_DIR, REJECTED_DIR, CHUNKS_DIR, PLAN_DIR, PCA_MODEL_DIR)


def stop_file(attempt: str) -> str:
    """The file whose existence asks this attempt at the run to stop."""
    return f"{PLAN_DIR}/stop-{attempt}"


# Why a picture has no feature row.
UNREADABLE, NOT_A_PICTURE, TRUNCATED = "unreadable", "not_a_picture", "truncated"
TOO_LARGE, EMPTY, CHANGED, NAME = "too_large", "empty", "changed", "name"

INPUTS = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("mtime", pa.int64()), ("chunk", pa.int32())]
)
FEATURE_ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("sha256", pa.string()),
        ("features", pa.list_(pa.float32())),
    ]
)
REJECTED_ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("length", pa.int64()),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)

# One row for each path that spark_job.embed was given: features, or an error and its message.
EMBEDDED_ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("features", pa.list_(pa.float32())),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)


def pca_rows(*, keep_features: bool) -> pa.Schema:
    """Columns of pca/*.parquet, with or without the features that were projected."""
    kept = [("features", pa.list_(pa.float32()))] if keep_features else []
    return pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.string()),
            *kept,
            ("pca_features", pa.list_(pa.float32())),
        ]
    )
