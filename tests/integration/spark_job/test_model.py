from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spark_job import engines, model, parity
from spark_job.errors import JobError
from spark_job.network import build_network, load_network

pytestmark = [pytest.mark.xdist_group("model"), pytest.mark.filterwarnings("ignore")]

SIDE = 96


@pytest.fixture(scope="module")
def pictures() -> npt.NDArray[np.float32]:
    return parity.smooth_pictures(3, SIDE).astype(np.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def network(random_weights: Path) -> Any:
    return load_network(random_weights, SIDE)


def with_top(network: Any, classes: int) -> Any:
    """The same network with a top of so many classes."""
    topped = build_network(SIDE, classes)
    for ours, theirs in zip(topped.layers, network.layers, strict=False):
        ours.set_weights(theirs.get_weights())
    return topped


def refused(weights: Path, cache: Path) -> JobError:
    with pytest.raises(JobError) as error:
        model.artefact(str(weights), side_px=SIDE, cache=cache)
    assert not any(file.name.startswith("making-") for file in cache.iterdir())
    return error.value


def features_of(network: Any, pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(network(pictures, training=False))


def test_weights_that_are_no_file_are_not_said_to_be_absent(tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    told = [refused(weights, cache).message for weights in (tmp_path, tmp_path / "figs.h5")]

    assert told == [
        f"The weights file {tmp_path} is not a file.",
        f"The weights file {tmp_path}/figs.h5 does not exist.",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain.weights.h5", "legacy.h5"])
@pytest.mark.parametrize("classes", [0, 10, 1280])
def test_weights_of_either_format_with_or_without_top_give_the_same_features(
    network: Any, pictures: npt.NDArray[np.float32], tmp_path: Path, name: str, classes: int
) -> None:
    given = with_top(network, classes) if classes else network
    file = tmp_path / name
    (given.save_weights if name.endswith(".weights.h5") else given.save)(file)

    loaded = load_network(file, SIDE)

    assert np.abs(features_of(loaded, pictures) - features_of(network, pictures)).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("side", [128, 224])
def test_one_weights_file_serves_every_image_size(random_weights: Path, side: int) -> None:
    assert load_network(random_weights, side).output_shape == (None, 1280)


def other_network(kind: str) -> Any:
    import keras
    from keras.applications import MobileNet, MobileNetV2

    if kind == "one layer":
        return keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    if kind == "version 1":
        return MobileNet(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    alpha, _, top = kind.partition(" ")
    return MobileNetV2(
        alpha=float(alpha), include_top=bool(top), weights=None, input_shape=(SIDE, SIDE, 3)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5"])
@pytest.mark.parametrize("kind", ["0.5", "1.4", "0.5 with top", "version 1", "one layer"])
def test_another_networks_weights_are_one_sentence(tmp_path: Path, kind: str, name: str) -> None:
    other, file = other_network(kind), tmp_path / name
    (other.save_weights if name.endswith(".weights.h5") else other.save)(file)

    error = refused(file, tmp_path / "cache")

    assert error.exit_code == 2
    assert error.message == f"{file} does not hold the weights of a MobileNetV2 of alpha 1.0."
    assert error.hint.startswith("Keras says: ")
    assert "\n" not in error.hint


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1, 8, 2000, 0.5, 0.99])
@pytest.mark.parametrize("name", ["cut.weights.h5", "cut.h5"])
def test_a_truncated_weights_file_is_one_sentence(
    random_weights: Path, tmp_path: Path, name: str, kept: float
) -> None:
    content = random_weights.read_bytes()
    length = int(len(content) * kept) if isinstance(kept, float) else kept
    (tmp_path / name).write_bytes(content[:length])

    error = refused(tmp_path / name, tmp_path / "cache")

    assert error.exit_code == 2
    assert "does not hold the weights" in error.message


@pytest.mark.slow
def test_a_file_that_is_not_hdf5_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("weights")

    assert "does not hold the weights" in refused(tmp_path / "a.h5", tmp_path / "cache").message


@pytest.mark.slow
def test_a_file_of_our_shape_in_other_groups_is_one_sentence(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((1280, 5), np.float32)

    assert "does not hold the weights" in refused(tmp_path / "a.h5", tmp_path / "cache").message


@pytest.mark.parametrize("name", ["model.keras", "weights", "weights.pt", "weights.h5.zip"])
def test_a_file_that_could_carry_code_is_never_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "real").touch()
    (tmp_path / f"real{Path(name).suffix}").touch()

    error = refused(tmp_path / f"real{Path(name).suffix}", tmp_path / "cache")

    assert error.exit_code == 2
    assert "does not end in .h5" in error.message
    assert "never loaded" in error.hint


@pytest.mark.parametrize(
    ("name", "problem"), [("missing.h5", "does not exist"), ("folder.h5", "is not a file")]
)
def test_weights_that_are_not_there_are_refused(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "folder.h5").mkdir()

    error = refused(tmp_path / name, tmp_path / "cache")

    assert error.exit_code == 2
    assert problem in error.message


def test_unavailable_imagenet_weights_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="could not be downloaded") as error:
        model.artefact("imagenet", side_px=SIDE, cache=tmp_path, offline=True)

    assert error.value.exit_code == 1
    assert "--weights" in error.value.hint


@pytest.mark.slow
def test_weights_that_are_not_numbers_fail_the_parity(network: Any, tmp_path: Path) -> None:
    broken = build_network(SIDE)
    broken.set_weights([np.full_like(w, np.nan) for w in network.get_weights()])
    broken.save_weights(tmp_path / "nan.weights.h5")

    error = refused(tmp_path / "nan.weights.h5", tmp_path / "cache")

    assert error.exit_code == 1
    assert "differ from Keras' by nan" in error.message


def test_the_artefact_says_what_it_is(artefact_folder: Path, random_weights: Path) -> None:
    facts = json.loads((artefact_folder / "model.json").read_text())
    digest = hashlib.sha256(random_weights.read_bytes()).hexdigest()

    assert facts["weights"] == "random"
    assert facts["weights_sha256"] == digest
    assert facts["image_size"] == SIDE
    identity = hashlib.sha256(f"{digest}:{SIDE}:{model.VERSION}".encode()).hexdigest()
    assert identity.startswith(facts["fingerprint"])
    assert artefact_folder.name == facts["fingerprint"]
    assert set(facts["versions"]) == {"keras", "tensorflow", "openvino"}
    assert 0 <= facts["parity"]["f32_max_difference"] < 1e-3
    cosine = facts["parity"]["bf16_min_cosine"]
    assert cosine > 0.99 if engines.computes_bf16() else cosine is None
    for name, expected in facts["files"].items():
        assert hashlib.sha256((artefact_folder / name).read_bytes()).hexdigest() == expected
    assert sorted(file.name for file in artefact_folder.iterdir()) == sorted(
        [*facts["files"], "model.json"]
    )


def test_an_artefact_is_made_once(
    artefact_folder: Path, random_weights: Path, model_cache: Path
) -> None:
    before = (artefact_folder / "model.json").stat()

    again = model.artefact("random", side_px=SIDE, cache=model_cache)
    by_file = model.artefact(str(random_weights), side_px=SIDE, cache=model_cache)

    assert again == by_file == artefact_folder
    assert (artefact_folder / "model.json").stat() == before


@pytest.mark.slow
def test_random_weights_are_the_same_on_every_machine(random_weights: Path, tmp_path: Path) -> None:
    import h5py

    made = model._random_weights(tmp_path / "again.weights.h5")

    with h5py.File(random_weights) as one, h5py.File(made) as other:
        names: list[str] = []
        one.visit(names.append)
        arrays = [name for name in names if isinstance(one[name], h5py.Dataset)]
        assert arrays
        for name in arrays:
            assert np.allclose(one[name], other[name], atol=1e-4), name


@pytest.mark.slow
def test_two_processes_that_make_the_same_artefact_do_no_harm(
    random_weights: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / random_weights.name).write_bytes(random_weights.read_bytes())
    command = [sys.executable, "-m", "spark_job.model", "--weights", "random"]
    command += ["--image-size", "320", "--cache", str(cache)]
    environ = {**os.environ, "HOME": str(tmp_path / "home")}

    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as other:
        folder = model.artefact("random", side_px=320, cache=cache)
        answer = json.loads(other.communicate()[0].splitlines()[-1])

    assert answer["folder"] == str(folder)
    assert {file.name for file in cache.iterdir()} == {folder.name, random_weights.name}
    assert answer["parity"]["f32_max_difference"] < 1e-3
    engine = engines.openvino_engine(engines.load_artefact(str(folder)), "f32")
    assert engine.embed(parity.smooth_pictures(2, 320)).shape == (2, 1280)
    # OpenVINO's telemetry would have left its id there.
    assert not (tmp_path / "home" / "intel").exists()


def test_the_tool_answers_an_error_as_json_and_with_its_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spark_job.model", "--weights", str(tmp_path / "no.h5")]
    command += ["--image-size", "96", "--cache", str(tmp_path / "cache")]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["error"]["exit_code"] == 2
    assert "does not exist" in answer["error"]["message"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_a_weights_file_without_permission_is_named(random_weights: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent not in (Path("/"), Path("/tmp")):
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "a.h5").touch(mode=0o600)
    script = """
import os, sys
from pathlib import Path
from spark_job import errors, model
os.setuid(65534)
try:
    model.artefact(sys.argv[1], side_px=96, cache=Path(sys.argv[2]))
except errors.JobError as error:
    print(error.exit_code, error.message)
"""

    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.h5"), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
    )

    sentence = f"The weights file {tmp_path}/a.h5 cannot be read: Permission denied."
    assert child.stdout == f"2 {sentence}\n"
