"""The most memory of a worker that computes a folder or dataset: python -m ... IMAGES OUT MODEL

The process is what Spark's daemon forks: the same imports, the same task, without the JVM.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyspark.daemon  # noqa: F401

from spark_job import chunks, engines, files, guard, tasks


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1024


def main(images: str, output: str, model: str) -> None:
    guard.hide_pandas()
    facts = json.loads((Path(model) / engines.MODEL_FILE).read_text())
    listing = chunks.list_inputs(
        files.place(images), files.place(output), extensions=["png", "bmp"], slots=1
    )
    plan = chunks.Plan(
        images=images,
        kind=listing.kind,
        name="worst",
        pictures=listing.pictures,
        chunks=listing.chunks,
        rows_per_chunk=listing.rows_per_chunk,
        dataset=listing.dataset,
        fingerprint=facts["fingerprint"],
        weights="random",
        engine="openvino",
        precision="f32",
        image_size=facts["image_size"],
        extensions=["png", "bmp"],
    )
    worker = tasks.Worker(images, output, model, plan, resume=False)
    tallies = list(tasks.compute_chunks(worker, [list(range(plan.chunks))]))
    seen = sum(tallies, chunks.NOTHING)
    print(
        json.dumps({"peak_mib": peak_mib(), "features": seen.features, "rejected": seen.rejected})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
