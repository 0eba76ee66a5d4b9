"""Makes model artefacts: `python -m spark_job.model --weights W --image-size S --cache D`

The artefact is a folder: model.weights.h5 (no top), graph.xml and graph.bin (OpenVINO), model.json;
with --calibration FOLDER that of int8, calibrated on pictures of the folder (quantisation.py).
It is made once on the user's machine, found again by its fingerprint, and shipped to workers as
data.
The last line on stdout is JSON: the artefact's folder and what model.json says, which
precisions this machine is fast in, or an error.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spark_job import engines, files, parity
from spark_job.errors import JobError
from spark_job.network import build_network, load_network

VERSION = 1
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
_SAMPLES = 16


def artefact(weights: str, *, side_px: int, cache: Path, offline: bool = False) -> Path:
    """The folder of the model artefact for `weights` (imagenet, random, a file), made if absent.

    Raises JobError: 2 for a file that holds other weights, 1 where ImageNet's cannot be downloaded.
    """
    cache.mkdir(parents=True, exist_ok=True)
    weights_file = _weights_file(weights, cache, offline)
    try:
        weights_sha256 = files.digest_of_file(weights_file)
    except OSError as error:
        sentence = f"The weights file {weights_file} cannot be read: {error.strerror}."
        raise JobError(2, sentence) from error
    identity = f"{weights_sha256}:{side_px}:{VERSION}"
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:32]
    folder = cache / fingerprint
    if (folder / engines.MODEL_FILE).is_file():
        return folder
    origin = {"weights": Path(weights).name, "weights_sha256": weights_sha256}
    with making(folder) as scratch:
        _make(scratch, weights_file, side_px, {"fingerprint": fingerprint, **origin})
    return folder


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder` that takes its place at the end, but not after an error."""
    scratch = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    try:
        yield scratch
        _publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, folder: Path) -> None:
    try:
        os.replace(scratch, folder)
    except OSError:
        # Another process made the same artefact meanwhile: both are equal.
        if not (folder / engines.MODEL_FILE).is_file():
            raise


def _weights_file(weights: str, cache: Path, offline: bool) -> Path:
    if weights == "random":
        return _random_weights(cache / f"random-{VERSION}.weights.h5")
    if weights == "imagenet":
        return _imagenet_weights(cache / Path(IMAGENET_URL).name, offline)
    file = Path(weights).expanduser()
    if not file.is_file():
        problem = "is not a file" if file.exists() else "does not exist"
        raise JobError(
            2,
            f"The weights file {weights} {problem}.",
            hint="Give --weights imagenet, random, or a .h5 or .weights.h5 file.",
        )
    if file.suffix != ".h5":
        raise JobError(
            2,
            f"The weights file {weights} does not end in .h5.",
            hint="A .keras file can carry code and is never loaded; save with save_weights.",
        )
    return file


def _imagenet_weights(file: Path, offline: bool) -> Path:
    pin = file.with_suffix(".sha256")
    if file.is_file() and pin.is_file() and pin.read_text().strip() == files.digest_of_file(file):
        return file
    try:
        if offline:
            raise OSError("no download was wanted")
        files.download(IMAGENET_URL, file)
    except OSError as error:
        raise JobError(
            1,
            f"The ImageNet weights could not be downloaded: {error}",
            hint=f"Download {IMAGENET_URL} elsewhere and give --weights FILE.h5, "
            "or try the job with --weights random.",
        ) from error
    digest = files.digest_of_file(file)
    if pin.is_file() and pin.read_text().strip() != digest:
        file.unlink()
        raise JobError(
            1,
            f"The downloaded ImageNet weights differ from those recorded in {pin}.",
            hint="Delete that file if you trust the new ones.",
        )
    pin.write_text(f"{digest}\n")
    return file


def _random_weights(file: Path) -> Path:
    if file.is_file():
        return file
    import keras

    keras.utils.set_random_seed(parity.SEED)
    network = build_network(224)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([_calm_kernel(layer, keras)])
    _calibrate(network, keras)
    scratch = file.with_name(f"making-{os.getpid()}.weights.h5")
    network.save_weights(scratch)
    os.replace(scratch, file)
    return file


def _calm_kernel(layer: Any, keras: Any) -> npt.NDArray[np.float32]:
    # With Keras' own initial weights 53 layers amplify rounding: bf16 then misses its parity
    # (cosine 0.975 at 96 px). Orthogonal mixing and averaging neighbours keep it above 0.999.
    kernel = np.asarray(layer.get_weights()[0])
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = np.abs(kernel)
        return np.asarray(kernel / kernel.sum((0, 1), keepdims=True), np.float32)
    return np.asarray(keras.initializers.Orthogonal(seed=parity.SEED)(kernel.shape), np.float32)


def _calibrate(network: Any, keras: Any) -> None:
    # Uncalibrated, a random network maps every picture to nearly the same features.
    norms = [
        layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        layer.momentum = 0.0
    network(parity.smooth_pictures(_SAMPLES, 224).astype(np.float32) / 127.5 - 1, training=True)


def _make(folder: Path, weights_file: Path, side_px: int, facts: dict[str, Any]) -> None:
    import keras
    import tensorflow as tf

    ov = engines.imported_openvino()
    network = load_network(weights_file, side_px)
    network.save_weights(folder / engines.WEIGHTS_FILE)
    graph = ov.convert_model(network, example_input=np.zeros((1, side_px, side_px, 3), np.float32))
    ov.save_model(graph, folder / "graph.xml", compress_to_fp16=False)
    names = (engines.GRAPH_FILE, engines.GRAPH_DATA_FILE, engines.WEIGHTS_FILE)
    digests = {name: files.digest_of_file(folder / name) for name in names}
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    versions["openvino"] = ov.__version__.partition("-")[0]
    model = {**facts, "image_size": side_px, "version": VERSION, "files": digests}
    (folder / engines.MODEL_FILE).write_text(json.dumps(model))
    pictures = parity.smooth_pictures(_SAMPLES, side_px)
    expected = np.asarray(network(pictures.astype(np.float32) / 127.5 - 1, training=False))
    model = {**model, "versions": versions, "parity": _parity(folder, pictures, expected)}
    (folder / engines.MODEL_FILE).write_text(json.dumps(model, indent=2))


def _parity(
    folder: Path, pictures: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> dict[str, float | str | None]:
    shipped = engines.load_artefact(str(folder))
    seen = engines.openvino_engine(shipped, "f32").embed(pictures)
    difference = parity.max_difference(seen, expected)
    if not difference <= parity.F32_LIMIT:
        raise JobError(
            1,
            f"OpenVINO's features differ from Keras' by {difference:.2g}; "
            f"{parity.F32_LIMIT} is allowed.",
        )
    cosine = None
    if engines.computes_bf16():
        seen = engines.openvino_engine(shipped, "bf16").embed(pictures)
        cosine = parity.min_cosine(seen, expected)
    return {
        "f32_max_difference": difference,
        "f32_kernels": engines.f32_kernels(),
        "bf16_min_cosine": cosine,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spark_job.model")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--calibration", help="folder of pictures: makes the artefact of int8")
    parser.add_argument("--keep-calibration", action="store_true", help="of an earlier run")
    parser.add_argument("--extensions", default="jpg")
    asked = parser.parse_args()
    try:
        folder = artefact(
            asked.weights, side_px=asked.image_size, cache=asked.cache, offline=asked.offline
        )
        was_there = False
        if asked.calibration:
            folder, was_there = _quantised(folder, asked)
    except JobError as error:
        print(json.dumps({"error": error.as_dict()}))
        return error.exit_code
    except OSError as error:
        sentence = f"The model artefact could not be written to {asked.cache}: {error}"
        print(json.dumps({"error": JobError(1, sentence).as_dict()}))
        return 1
    facts = json.loads((folder / engines.MODEL_FILE).read_text())
    more = {"fast": engines.fast_precisions(), "is_kept": was_there}
    print(json.dumps({"folder": str(folder), **more, **facts}))
    return 0


def _quantised(folder: Path, asked: argparse.Namespace) -> tuple[Path, bool]:
    """The artefact of int8, and whether it is that of an earlier run, whatever its folder holds."""
    from spark_job import quantisation

    made = quantisation.kept(folder, asked.calibration) if asked.keep_calibration else None
    is_kept = made is not None
    if made is None:
        extensions = asked.extensions.split(",")
        sample = quantisation.sample_of(asked.calibration, extensions, asked.image_size)
        made = quantisation.quantised(folder, sample)
    engines.refuse_precision(engines.load_artefact(str(made)), engine="openvino", precision="int8")
    return made, is_kept


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
