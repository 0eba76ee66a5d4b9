"""The limit of a machine: `python -m benchmarks.bare_loop IMAGES ARTEFACT f32|bf16|int8`

One process a core, each with its own files: read, simplejpeg, Pillow (bicubic to 224), OpenVINO
(batch 8, one thread, no pinning). No Spark, no Parquet, no hashes; compiled before the clock
starts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.modules["openvino_telemetry"] = None

import numpy as np
import openvino as ov
import simplejpeg
from PIL import Image

BATCH = 8


def make_request(graph_file, precision):
    core = ov.Core()
    graph = core.read_model(graph_file)
    graph.reshape([BATCH, 224, 224, 3])
    steps = ov.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NHWC"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(127.5).scale(127.5)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(steps.build(), "CPU", settings).create_infer_request()


def walk(files, graph_file, precision, barrier):
    request = make_request(graph_file, precision)
    batch = np.zeros((BATCH, 224, 224, 3), np.uint8)
    request.infer({0: batch})
    barrier.wait()
    for start in range(0, len(files), BATCH):
        for slot, file in enumerate(files[start : start + BATCH]):
            picture = Image.fromarray(simplejpeg.decode_jpeg(file.read_bytes(), "RGB"))
            batch[slot] = np.asarray(picture.resize((224, 224)))
        request.infer({0: batch})[0].copy()


if __name__ == "__main__":
    folder, artefact, precision = sys.argv[1:4]
    files = sorted(Path(folder).rglob("*.jpg"))
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    workers = [
        context.Process(
            target=walk, args=(files[n::cores], f"{artefact}/graph.xml", precision, barrier)
        )
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
