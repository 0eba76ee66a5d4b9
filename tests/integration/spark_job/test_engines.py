from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest

from spark_job import engines, parity
from spark_job.engines import Artefact, Engine
from spark_job.errors import JobError

pytestmark = [pytest.mark.xdist_group("model"), pytest.mark.filterwarnings("ignore")]

needs_bf16 = pytest.mark.skipif(
    not engines.computes_bf16(), reason="this CPU has neither amx_bf16 nor avx512_bf16"
)


@pytest.fixture(scope="module")
def artefact(artefact_folder: Path) -> Artefact:
    return engines.load_artefact(str(artefact_folder))


@pytest.fixture(scope="module")
def openvino(artefact: Artefact) -> Engine:
    return engines.openvino_engine(artefact, "f32")


@pytest.fixture(scope="module")
def pictures(artefact: Artefact) -> npt.NDArray[np.uint8]:
    return parity.smooth_pictures(9, artefact.side_px)


@pytest.fixture
def copied(artefact_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artefact_folder, tmp_path / "copy"))


def cosines(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms)


@pytest.mark.slow
def test_both_engines_agree_in_f32(
    artefact_folder: Path, openvino: Engine, pictures: npt.NDArray[np.uint8]
) -> None:
    shipped = engines.load_artefact(str(artefact_folder), "tensorflow")
    reference = engines.engine_of(shipped, engine="tensorflow", precision="f32")

    ours, theirs = openvino.embed(pictures), reference.embed(pictures)

    assert (openvino.precision, reference.precision) == ("f32", "f32")
    assert ours.shape == theirs.shape == (9, 1280)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-3
    assert theirs.std() > 0.01


def test_features_tell_pictures_apart_even_with_random_weights(
    openvino: Engine, pictures: npt.NDArray[np.uint8]
) -> None:
    features = openvino.embed(pictures)

    likeness = [cosines(features[[n]], features[[m]])[0] for n in range(9) for m in range(n)]
    assert max(likeness) < 0.999


def compiled_with(kernels: str, artefact: Artefact, side_px: int) -> Any:
    ov = engines.imported_openvino()
    graph = artefact.contents[engines.GRAPH_FILE]
    graph = engines.asking_for_kernels(graph, kernels) if kernels else graph
    data = np.frombuffer(artefact.contents[engines.GRAPH_DATA_FILE], np.uint8)
    read = engines.openvino_core().read_model(graph, ov.Tensor(data))
    # On a CPU with bf16 OpenVINO would choose that.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    asked = engines.taking_pixels(read, side_px)
    return engines.openvino_core().compile_model(asked, "CPU", settings)


def kernels_of(compiled: Any) -> set[str]:
    """The implementations of its convolutions, without the precision."""
    told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    convolutions = [info for info in told if "Convolution" in info["layerType"].astype(str)]
    assert convolutions
    return {info["primitiveType"].astype(str).rpartition("_")[0] for info in convolutions}


def test_a_kernel_that_was_asked_for_computes(artefact: Artefact) -> None:
    assert "ref_any" not in kernels_of(compiled_with("", artefact, 32))
    assert kernels_of(compiled_with("cpu:ref_any", artefact, 32)) == {"ref_any"}


def test_blocked_kernels_give_the_same_features_wherever_they_can_be_had(
    artefact: Artefact, pictures: npt.NDArray[np.uint8]
) -> None:
    pair = pictures[: engines.BATCH]
    asked = compiled_with(engines.BLOCKED_KERNELS, artefact, artefact.side_px)(pair)[0]
    free = compiled_with("", artefact, artefact.side_px)(pair)[0]

    assert np.abs(asked - free).max() < 1e-4


# The cores of OpenVINO that computed have left the thread no signal stack that is gone.
_ENDING_ENGINES = """
import gc, signal, sys
from spark_job import engines
artefact = engines.load_artefact(sys.argv[1])
first, second = (engines.openvino_engine(artefact, "f32") for _ in range(2))
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_a_signal_is_heard_after_engines_have_ended(artefact_folder: Path) -> None:
    words = [sys.executable, "-c", _ENDING_ENGINES, str(artefact_folder)]

    told = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (told.returncode, told.stdout) == (0, "heard\n"), told.stderr


def test_a_graph_that_tells_something_already_keeps_it() -> None:
    graph = b"""<net><layers>
        <layer type="Convolution"><rt_info><attribute name="fused" /></rt_info></layer>
        <layer type="Add" /></layers></net>"""

    asking = ElementTree.fromstring(engines.asking_for_kernels(graph, "cpu:a,cpu:b"))

    convolution, add = asking.iter("layer")
    told = [(one.get("name"), one.get("value")) for one in convolution.iter("attribute")]
    assert told == [("fused", None), ("primitives_priority", "cpu:a,cpu:b")]
    assert len(add) == 0


@needs_bf16
def test_bf16_stays_near_f32(
    artefact: Artefact, openvino: Engine, pictures: npt.NDArray[np.uint8]
) -> None:
    half = engines.openvino_engine(artefact, "bf16")

    seen = half.embed(pictures)

    assert half.precision == "bf16"
    assert seen.dtype == np.float32
    assert cosines(seen, openvino.embed(pictures)).min() > 0.99
    assert np.abs(seen - openvino.embed(pictures)).max() > 0


def made_elsewhere(artefact: Artefact, *, noise: float = 0.0) -> Artefact:
    """The artefact as a machine without bf16 makes it; noise in its weights sets bf16 far off."""
    data = np.frombuffer(artefact.contents[engines.GRAPH_DATA_FILE], np.uint8).copy()
    values = data[: len(data) // 4 * 4].view(np.float32)
    # Not what are dimensions and scales.
    weights = (np.abs(values) > 1e-6) & (np.abs(values) < 1)
    values[weights] += np.random.default_rng(0).normal(0, noise, weights.sum())
    facts = {**artefact.facts, "parity": {"f32_max_difference": 1e-6, "bf16_min_cosine": None}}
    contents = {**artefact.contents, engines.GRAPH_DATA_FILE: data.tobytes()}
    return Artefact(facts, contents)


@pytest.mark.skipif(not engines.computes_bf16(), reason="this CPU computes no bf16")
def test_bf16_never_compared_is_compared_before_the_first_picture(artefact: Artefact) -> None:
    near = engines.engine_of(made_elsewhere(artefact), engine="openvino", precision="bf16")

    assert near.inferences == 0
    with pytest.raises(JobError, match="On this machine bf16 features are too far from f32"):
        engines.engine_of(made_elsewhere(artefact, noise=0.3), engine="openvino", precision="bf16")


def test_f32_of_other_kernels_must_be_that_of_the_plain_ones(artefact: Artefact) -> None:
    plain = engines.openvino_engine(artefact, "f32", kernels="")
    blocked = engines.openvino_engine(artefact, "f32", kernels=engines.BLOCKED_KERNELS)
    other = engines.openvino_engine(made_elsewhere(artefact, noise=0.01), "f32")

    engines.require_near_f32(blocked, plain, artefact.side_px)
    with pytest.raises(JobError, match="kernels of this machine's CPU change features by"):
        engines.require_near_f32(other, plain, artefact.side_px)


@pytest.mark.skipif(engines.computes_bf16(), reason="this CPU computes bf16")
def test_bf16_is_refused_where_it_would_be_emulated(artefact: Artefact) -> None:
    with pytest.raises(JobError, match="would be emulated"):
        engines.openvino_engine(artefact, "bf16")


@pytest.mark.parametrize("count", range(10))
def test_the_size_of_a_batch_does_not_change_its_features(
    openvino: Engine, pictures: npt.NDArray[np.uint8], count: int
) -> None:
    whole = openvino.embed(pictures)

    part = openvino.embed(pictures[:count])

    assert part.shape == (count, 1280)
    assert np.array_equal(part, whole[:count])


def test_features_are_not_overwritten_by_the_next_batch(
    openvino: Engine, pictures: npt.NDArray[np.uint8]
) -> None:
    first = openvino.embed(pictures[:4])
    before = first.copy()

    openvino.embed(pictures[4:8])

    assert np.array_equal(first, before)


def test_as_many_inferences_are_counted_as_pictures(
    artefact: Artefact, pictures: npt.NDArray[np.uint8]
) -> None:
    engine = engines.openvino_engine(artefact, "f32")

    engine.embed(pictures)
    engine.embed(pictures[:3])

    assert engine.inferences == 12


def test_an_engine_is_kept_for_the_next_task_of_the_same_kind(
    artefact: Artefact, artefact_folder: Path, copied: Path
) -> None:
    fingerprint = artefact.fingerprint

    first = engines.load_engine(
        str(artefact_folder), fingerprint, engine="openvino", precision="f32"
    )
    second = engines.load_engine(str(copied), fingerprint, engine="openvino", precision="f32")

    assert first is second
    assert len(engines._kept) == 1


def test_an_artefact_that_was_replaced_while_the_job_ran_is_refused(artefact_folder: Path) -> None:
    with pytest.raises(JobError, match="was replaced while the job ran") as error:
        engines.load_engine(str(artefact_folder), "0" * 64, engine="openvino", precision="f32")

    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("graph.bin", "openvino"),
        ("graph.xml", "openvino"),
        (engines.WEIGHTS_FILE, "tensorflow"),
    ],
)
def test_a_file_that_is_not_what_the_artefact_says_is_refused(
    copied: Path, name: str, engine: str
) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)

    with pytest.raises(JobError, match=rf"{name} of the model artefact .* is not what") as error:
        engines.load_artefact(str(copied), engine)

    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["model.json", "graph.bin"])
def test_an_artefact_without_a_file_is_refused(copied: Path, name: str) -> None:
    (copied / name).unlink()

    with pytest.raises(JobError, match="is not a model artefact") as error:
        engines.load_artefact(str(copied))

    assert error.value.exit_code == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {}}', "7"])
def test_an_artefact_with_a_broken_model_json_is_refused(copied: Path, content: str) -> None:
    (copied / "model.json").write_text(content)

    with pytest.raises(JobError, match="is not a model artefact"):
        engines.load_artefact(str(copied))


def test_openvino_needs_neither_telemetry_nor_tensorflow_nor_a_home(
    artefact_folder: Path, tmp_path: Path
) -> None:
    script = """
import json, sys
from spark_job import engines
engine = engines.engine_of(
    engines.load_artefact(sys.argv[1]), engine="openvino", precision="f32")
names = ("openvino_telemetry", "tensorflow", "keras", "pandas")
print(json.dumps([name for name in names if sys.modules.get(name)]))
"""
    environ = {**os.environ, "HOME": str(tmp_path)}

    child = subprocess.run(
        [sys.executable, "-c", script, str(artefact_folder)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(child.stdout) == []
    assert list(tmp_path.rglob("*")) == []
