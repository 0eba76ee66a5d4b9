"""Runs a model artefact on a worker, through OpenVINO or TensorFlow."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from spark_job import files, parity
from spark_job.errors import JobError
from spark_job.price import shortfalls
from spark_job.schema import FEATURES

# Keras takes its own format only from a name that ends in .weights.h5, with something before.
MODEL_FILE, WEIGHTS_FILE = "model.json", "model.weights.h5"
GRAPH_FILE, GRAPH_DATA_FILE = "graph.xml", "graph.bin"
BATCH, INT8_BATCH = 2, 8
_COMPARED = 4
PRECISIONS = ("f32", "bf16", "int8")
_BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
_INT8_FLAGS = {"amx_int8", "avx512_vnni", "avx_vnni"}
# oneDNN's kernels on blocks of 16 channels: on AMD's AVX-512 a tenth faster in f32 than what
# OpenVINO chooses there. Not tried on Intel's, which is left as it is.
BLOCKED_KERNELS = "cpu:jit_avx512_1x1,cpu:jit_avx512,cpu:jit_avx512_dw"
_BLOCKED_CPU = {"AuthenticAMD", "avx512f"}

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


_kept: dict[tuple[str, str, str], Engine] = {}


@dataclass(frozen=True)
class Artefact:
    """A model artefact in memory: what model.json says and the bytes that an engine needs."""

    facts: dict[str, Any]
    contents: dict[str, bytes]

    @property
    def fingerprint(self) -> str:
        """The identity of weights, side and artefact version."""
        return str(self.facts["fingerprint"])

    @property
    def side_px(self) -> int:
        """Side of the model's square input."""
        return int(self.facts["image_size"])


@dataclass
class Engine:
    """A model ready on this worker; `precision` was read back from it, `inferences` are counted."""

    name: str
    precision: str
    run: Callable[[Images], Features]
    inferences: int = 0

    def embed(self, images: Images) -> Features:
        """(n, side, side, 3) uint8 to (n, 1280) float32."""
        self.inferences += len(images)
        return self.run(images)


def load_artefact(uri: str, engine: str = "openvino") -> Artefact:
    """The artefact's facts and the files that `engine` needs, their digests checked.

    Raises JobError (2) where a file is missing or not the one that model.json names.
    """
    needed = (GRAPH_FILE, GRAPH_DATA_FILE) if engine == "openvino" else (WEIGHTS_FILE,)
    place = files.place(uri)
    try:
        facts = json.loads(place.read(MODEL_FILE))
        contents = {name: place.read(name) for name in needed}
        expected = {name: facts["files"][name] for name in needed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(
            2, f"{uri} is not a model artefact: {error}", hint="Make one with spark_job.model."
        ) from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != expected[name]:
            sentence = f"{name} of the model artefact {uri} is not what model.json says."
            raise JobError(2, sentence, hint="Delete the artefact; the next run makes it again.")
    return Artefact(facts, contents)


def refuse_precision(artefact: Artefact, *, engine: str, precision: str) -> None:
    """Raises JobError where this engine, these weights or these pictures do not allow it."""
    if precision != "f32" and engine != "openvino":
        raise JobError(2, "The engine tensorflow computes in f32 only.", hint=f"Drop {precision}.")
    if engine == "openvino":
        _require_own(artefact, precision)
    if precision == "int8":
        _refuse_price(artefact)
    cosine = artefact.facts.get("parity", {}).get("bf16_min_cosine")
    if precision == "bf16" and cosine is not None and cosine < parity.BF16_COSINE:
        raise JobError(
            1,
            f"With these weights bf16 features are too far from f32 (cosine {cosine:.4f}).",
            hint="Use --precision f32.",
        )


def _refuse_price(artefact: Artefact) -> None:
    if short := shortfalls(artefact.facts["prices"]["int8"]):
        raise JobError(
            1,
            "With these weights and pictures int8 features are too far from f32: "
            f"{'; '.join(short)}.",
            hint="Use --precision f32.",
        )


def _require_own(artefact: Artefact, precision: str) -> None:
    """Raise JobError where artefact and precision are not both int8, or both not."""
    if (artefact.facts.get("precision") == "int8") != (precision == "int8"):
        raise JobError(2, f"The model artefact {artefact.fingerprint} is not one of {precision}.")


def load_engine(model: str, fingerprint: str, *, engine: str, precision: str) -> Engine:
    """The engine of the artefact at this URI, kept for this process's next task.

    Raises JobError where this machine cannot, or the artefact is not the one of `fingerprint`.
    """
    wanted = (fingerprint, engine, precision)
    if wanted not in _kept:
        artefact = load_artefact(model, engine)
        if artefact.fingerprint != fingerprint:
            raise JobError(
                1,
                f"The model artefact {model} was replaced while the job ran.",
                hint="Start a new run.",
            )
        _kept.clear()
        _kept[wanted] = engine_of(artefact, engine=engine, precision=precision)
        # Spark's workers collect garbage after each task: what stays need not be walked.
        gc.collect()
        gc.freeze()
    return _kept[wanted]


def engine_of(artefact: Artefact, *, engine: str, precision: str) -> Engine:
    """The engine of that name, computing in that precision. Raises JobError where it cannot.

    What could not be compared where the artefact was made is compared here, before any picture.
    """
    if engine == "tensorflow":
        return tensorflow_engine(artefact)
    made = openvino_engine(artefact, precision)
    if not _was_compared(artefact, precision):
        require_near_f32(made, openvino_engine(artefact, "f32", kernels=""), artefact.side_px)
    return made


def _was_compared(artefact: Artefact, precision: str) -> bool:
    told = artefact.facts.get("parity", {})
    if precision == "bf16":
        return told.get("bf16_min_cosine") is not None
    return precision != "f32" or f32_kernels() in ("", told.get("f32_kernels", ""))


def require_near_f32(made: Engine, plain: Engine, side_px: int) -> None:
    """Raise JobError where an engine's features are not those of `plain`, the one in plain f32."""
    pictures = parity.smooth_pictures(_COMPARED, side_px)
    seen, expected = made.run(pictures), plain.run(pictures)
    if made.precision == "bf16":
        cosine = parity.min_cosine(seen, expected)
        if not cosine >= parity.BF16_COSINE:
            raise JobError(
                1,
                f"On this machine bf16 features are too far from f32 (cosine {cosine:.4f}).",
                hint="Use --precision f32.",
            )
        return
    difference = parity.max_difference(seen, expected)
    if not difference <= parity.F32_LIMIT:
        raise JobError(
            1,
            f"The fast f32 kernels of this machine's CPU change features by {difference:.2g}; "
            f"{parity.F32_LIMIT} is allowed.",
            hint="Use --engine tensorflow, or another --core-type.",
        )


def computes_bf16() -> bool:
    """Whether this machine's CPU has instructions for bfloat16; emulation is slower than f32."""
    return not _BF16_FLAGS.isdisjoint(_cpu_words())


def fast_precisions() -> list[str]:
    """The precisions for which this CPU has instructions, as far as Linux tells."""
    has_int8 = not _INT8_FLAGS.isdisjoint(_cpu_words())
    return ["f32", *(["bf16"] if computes_bf16() else []), *(["int8"] if has_int8 else [])]


def _cpu_words() -> set[str]:
    """The words of /proc/cpuinfo, with the CPU's maker and flags; empty where there is none."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def imported_openvino() -> Any:
    """The module openvino, without its telemetry.

    That writes a client id into the home folder even where it was declined.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, which never ends.

    Each gives the thread a signal stack (sigaltstack) and at its end the one of before back: after
    two that end in the order they began, that one is unmapped, and the next signal kills.
    """
    return imported_openvino().Core()


def f32_kernels() -> str:
    """The kernels that f32 is computed with on this CPU; empty for OpenVINO's own choice."""
    return BLOCKED_KERNELS if _cpu_words() >= _BLOCKED_CPU else ""


def openvino_engine(artefact: Artefact, precision: str, kernels: str | None = None) -> Engine:
    """OpenVINO on one thread, in exactly this precision. Raises JobError where it is not.

    kernels: wished for in f32, those of this CPU unless given.
    """
    if precision == "bf16" and not computes_bf16():
        raise JobError(
            1,
            "This machine's CPU has neither amx_bf16 nor avx512_bf16, so bf16 would be emulated.",
            hint="Use --precision f32, or instances that have it, such as m7i.",
        )
    _require_own(artefact, precision)
    if kernels is None:
        kernels = f32_kernels() if precision == "f32" else ""
    batch = batch_of(precision)
    graph = taking_pixels(graph_of(artefact, kernels), artefact.side_px, batch)
    compiled = openvino_core().compile_model(graph, "CPU", _settings(precision))
    seen = _precision_of(compiled)
    if seen != precision:
        raise JobError(1, f"OpenVINO computes in {seen} although {precision} was asked for.")
    return Engine("openvino", seen, _request(compiled, artefact.side_px, batch))


def batch_of(precision: str) -> int:
    """Pictures that one call computes; measured in benchmarks/README.md."""
    return INT8_BATCH if precision == "int8" else BATCH


def graph_of(artefact: Artefact, kernels: str = "") -> Any:
    """The artefact's graph, read by OpenVINO, asking for these kernels."""
    ov, content = imported_openvino(), artefact.contents[GRAPH_FILE]
    content = asking_for_kernels(content, kernels) if kernels else content
    data = np.frombuffer(artefact.contents[GRAPH_DATA_FILE], np.uint8)
    return openvino_core().read_model(content, ov.Tensor(data))


def _precision_of(compiled: Any) -> str:
    """int8 where that is what all convolutions compute in, else the precision of the rest."""
    told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kernels = [node["primitiveType"].astype(str) for node in told if _is_convolution(node)]
    if all(kernel.lower().endswith("_i8") for kernel in kernels):
        return "int8"
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def _is_convolution(info: Any) -> bool:
    return "Convolution" in info["layerType"].astype(str)


def asking_for_kernels(graph: bytes, kernels: str) -> bytes:
    """The graph (OpenVINO IR) with preferred kernels at each convolution, which may be ignored.

    kernels: names of implementations as the CPU plugin gives them, `cpu:` before each.
    """
    root = ElementTree.fromstring(graph)
    for layer in root.iter("layer"):
        if layer.get("type") in ("Convolution", "GroupConvolution"):
            info = layer.find("rt_info")
            info = ElementTree.SubElement(layer, "rt_info") if info is None else info
            wish = {"name": "primitives_priority", "version": "0", "value": kernels}
            ElementTree.SubElement(info, "attribute", wish)
    return ElementTree.tostring(root)


def _settings(precision: str) -> dict[str, Any]:
    return {
        # For the few layers that are not quantised: bf16 makes them no faster.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # If pinned, the one-thread models of two workers would share a core.
        "ENABLE_CPU_PINNING": False,
    }


def taking_pixels(graph: Any, side_px: int, count: int = BATCH) -> Any:
    """The graph on batches of (side, side, 3) uint8, scaled to -1 to 1 as Keras does."""
    ov = imported_openvino()
    graph.reshape([count, side_px, side_px, 3])
    steps = ov.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NHWC"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(127.5).scale(127.5)
    return steps.build()


def _request(compiled: Any, side_px: int, size: int) -> Callable[[Images], Features]:
    request = compiled.create_infer_request()
    padded = np.zeros((size, side_px, side_px, 3), np.uint8)

    def run(images: Images) -> Features:
        features = np.empty((len(images), FEATURES), np.float32)
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            if len(batch) < size:
                padded[: len(batch)] = batch
                batch, count = padded, len(batch)
            else:
                count = size
            output = request.infer({0: batch}, share_inputs=True, share_outputs=True)[0]
            features[start : start + count] = output[:count]
        return features

    return run


def tensorflow_engine(artefact: Artefact) -> Engine:
    """Keras on one thread in f32: the reference that the other engine is compared with."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from spark_job.network import load_network

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow runs already in this process: then its threads stay
        pass
    with tempfile.TemporaryDirectory() as scratch:
        weights_file = Path(scratch) / WEIGHTS_FILE
        weights_file.write_bytes(artefact.contents[WEIGHTS_FILE])
        network = load_network(weights_file, artefact.side_px)

    def features(images: Any) -> Any:
        return network(tf.cast(images, tf.float32) / 127.5 - 1.0, training=False)

    pixels = tf.TensorSpec([None, artefact.side_px, artefact.side_px, 3], tf.uint8)
    graph = tf.function(features, input_signature=[pixels])
    return Engine("tensorflow", "f32", lambda images: np.asarray(graph(images)))
