"""The model alone on one core: `python -m benchmarks.model_alone IMAGES ARTEFACT f32|bf16|int8`

Images a second of processor time, so that other programs do not count: pictures decoded before,
one thread, the job's own engine; the median of five turns.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from spark_job import engines, images

PICTURES, TURNS = 160, 5


def main(folder: str, artefact: str, precision: str) -> None:
    loaded = engines.load_artefact(artefact)
    engine = engines.openvino_engine(loaded, precision)
    files = itertools.islice(sorted(Path(folder).rglob("*.jpg")), PICTURES)
    pixels = np.stack([images.decoded(file.read_bytes(), loaded.side_px) for file in files])
    engine.embed(pixels[:16])
    speeds = []
    for _ in range(TURNS):
        started = time.process_time()
        engine.embed(pixels)
        speeds.append(len(pixels) / (time.process_time() - started))
    print(json.dumps({"images": len(pixels), "images_s": round(statistics.median(speeds), 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
