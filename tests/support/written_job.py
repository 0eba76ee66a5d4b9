"""A Spark whose spark-submit writes the results of a job without computing them."""

from __future__ import annotations

import sys
from pathlib import Path

_SCRIPT = """#!{python} -I
import json, sys, time
import boto3
def given(flag):
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else ""
bucket, _, key = given("--output").removeprefix("s3://").partition("/")
put = lambda name, values: boto3.client("s3").put_object(
    Bucket=bucket, Key=key + name, Body=json.dumps(values))
put("_chunks/0.json", {{"features": {pictures}}})
time.sleep({seconds})
put("manifest.json", {{
    "counts": {{"pictures": {pictures}, "features": {pictures}, "rejected": 0,
               "rejected_by_reason": {{}}, "inferences": {pictures}}},
    "seconds": {{"features": 1.0}}, "settings": {{"pca_k": None, "pca_variance": None}},
    "pca_k": None, "cumulative_variance": None, "dataset_digest": given("--dataset-digest")}})
"""


def write_spark(folder: Path, *, pictures: int, seconds: float = 0.0) -> Path:
    """`folder` as a path for PYTHONPATH or sys.path: what the rehearsal takes for pyspark."""
    submit = folder / "pyspark" / "bin" / "spark-submit"
    submit.parent.mkdir(parents=True)
    (folder / "pyspark" / "__init__.py").touch()
    submit.write_text(_SCRIPT.format(python=sys.executable, pictures=pictures, seconds=seconds))
    submit.chmod(0o755)
    return folder
