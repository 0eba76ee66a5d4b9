"""The limit of a machine: `python -m benchmarks.bare_loop IMAGES ARTEFACT f32|bf16|int8`

One process a core, each with its own files: read, decoded and computed by the job's own decoder and
engine. No Spark, no Parquet, no hashes; compiled before the clock starts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from spark_job import engines, images


def walk(files: list[Path], artefact: str, precision: str, barrier: Barrier) -> None:
    loaded = engines.load_artefact(artefact)
    engine, side_px = engines.openvino_engine(loaded, precision), loaded.side_px
    size = engines.batch_of(precision)
    batch = np.zeros((size, side_px, side_px, 3), np.uint8)
    engine.embed(batch)
    barrier.wait()
    for start in range(0, len(files), size):
        for slot, file in enumerate(files[start : start + size]):
            batch[slot] = images.decoded(file.read_bytes(), side_px)
        engine.embed(batch)


def main(folder: str, artefact: str, precision: str) -> None:
    files = sorted(Path(folder).rglob("*.jpg"))
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    workers = [
        context.Process(target=walk, args=(files[n::cores], artefact, precision, barrier))
        for n in range(cores)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - started
    print(json.dumps({"images": len(files), "features_s": round(seconds, 2)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
