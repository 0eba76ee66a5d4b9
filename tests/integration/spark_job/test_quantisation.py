from __future__ import annotations

import gc
import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spark_job import engines, quantisation
from spark_job.engines import Artefact
from spark_job.errors import JobError
from tests.support.pictures import draw_folder, jpeg

pytestmark = [pytest.mark.xdist_group("model"), pytest.mark.filterwarnings("ignore")]

SIDE = 96


def drawn_pictures(folder: Path, count: int = 72) -> Path:
    draw_folder(folder, [f"fig {number % 4}/{number}.jpg" for number in range(count)])
    return folder


def sample(folder: Path) -> quantisation.Sample:
    return quantisation.sample_of(str(folder), ["jpg"], SIDE)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def artefact_folder(artefact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Beside the shared one another worker's model would be found, of another folder.
    own = tmp_path_factory.mktemp("models") / artefact_folder.name
    shutil.copytree(artefact_folder, own)
    return own


@pytest.fixture(scope="module")
def quantised(artefact_folder: Path, pictures: Path) -> Artefact:
    made = quantisation.quantised(artefact_folder, sample(pictures))
    return engines.load_artefact(str(made))


def test_a_third_calibrates_and_the_rest_is_compared(pictures: Path) -> None:
    found = sample(pictures)

    assert found.calibrating.shape == (24, SIDE, SIDE, 3)
    assert len(found.compared) == len(found.labels) == 48
    assert set(found.labels) == {f"fig {number}" for number in range(4)}
    assert not any((one == other).all() for one in found.calibrating for other in found.compared)


def test_the_sample_is_the_same_whatever_is_called_what_and_broken(
    pictures: Path, tmp_path: Path
) -> None:
    again = drawn_pictures(tmp_path)
    (again / "fig 0" / "broken.jpg").write_bytes(b"no picture")
    (again / "notes.txt").write_text("no picture either")

    assert sample(again).digest == sample(pictures).digest


def test_another_calibrating_picture_is_another_digest(pictures: Path, tmp_path: Path) -> None:
    again = drawn_pictures(tmp_path)
    for file in again.rglob("*.jpg"):
        file.write_bytes(jpeg(1000 + int(file.stem)))

    assert sample(again).digest != sample(pictures).digest


def test_too_few_pictures_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="60 are needed, 59 of") as refused:
        sample(drawn_pictures(tmp_path, 59))

    assert refused.value.exit_code == 2
    assert "--calibration" in refused.value.hint


def test_without_nncf_it_says_what_to_install(
    artefact_folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    found = sample(pictures)
    other = replace(found, digest="another")

    with pytest.raises(JobError, match="needs the package nncf") as refused:
        quantisation.quantised(artefact_folder, other)

    assert "fruits[int8]" in refused.value.hint


@pytest.mark.slow
def test_the_artefact_tells_what_it_was_made_of_and_what_it_costs(
    quantised: Artefact, artefact_folder: Path, pictures: Path
) -> None:
    facts = quantised.facts

    assert facts["precision"] == "int8"
    assert facts["f32_fingerprint"] == artefact_folder.name != facts["fingerprint"]
    taken = sample(pictures)
    assert facts["calibration"] == {"pictures": 24, "digest": taken.digest}
    assert set(facts["files"]) == {"graph.xml", "graph.bin"}
    assert set(facts["prices"]) == {"int8", *(["bf16"] if engines.computes_bf16() else [])}
    assert facts["prices"]["int8"]["pictures"] == 48
    # Of drawn clouds and random weights: what it costs is told, and here it may be refused.
    assert 0.5 < facts["prices"]["int8"]["smallest_cosine"] < 1


@pytest.mark.slow
def test_every_convolution_computes_in_8_bits_and_near_f32(
    quantised: Artefact, artefact_folder: Path, pictures: Path
) -> None:
    f32 = engines.openvino_engine(engines.load_artefact(str(artefact_folder)), "f32")
    int8 = engines.openvino_engine(quantised, "int8")
    seen = sample(pictures).compared[:19]

    one, other = f32.embed(seen), int8.embed(seen)

    assert int8.precision == "int8"
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert 0.9 < np.median(cosines) < 1
    assert np.array_equal(int8.embed(seen[:3]), other[:3])


@pytest.mark.slow
def test_a_signal_is_heard_after_calibration(quantised: Artefact) -> None:
    gc.collect()

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_it_is_made_once(quantised: Artefact, artefact_folder: Path, pictures: Path) -> None:
    file = artefact_folder.parent / quantised.fingerprint / "model.json"
    before = file.stat().st_mtime_ns

    again = quantisation.quantised(artefact_folder, sample(pictures))

    assert again == file.parent
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
def test_folders_with_equal_pictures_each_keep_their_model_when_they_grow(
    quantised: Artefact, artefact_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    base, made = artefact_folder, artefact_folder.parent / quantised.fingerprint
    twin = drawn_pictures(tmp_path / "twin")
    assert quantisation.kept(base, str(twin)) is None

    assert quantisation.quantised(base, sample(twin)) == made

    for folder in (pictures, twin):
        assert quantisation.kept(base, str(folder)) == made
        assert quantisation.kept(base, f"{folder.parent}/./{folder.name}") == made
    assert quantisation.kept(base, str(tmp_path)) is None
    assert quantisation.kept(base.parent / "other weights", str(pictures)) is None


@pytest.mark.slow
def test_a_model_that_was_removed_is_not_kept(
    quantised: Artefact, artefact_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    base = tmp_path / "models" / artefact_folder.name
    shutil.copytree(artefact_folder.parent, base.parent)
    made = base.parent / quantised.fingerprint
    assert quantisation.kept(base, str(pictures)) == made

    shutil.rmtree(made)

    assert quantisation.kept(base, str(pictures)) is None


@pytest.mark.slow
def test_an_artefact_computes_in_its_own_precision_alone(
    quantised: Artefact, artefact_folder: Path
) -> None:
    for artefact, precision in (
        (quantised, "f32"),
        (engines.load_artefact(str(artefact_folder)), "int8"),
    ):
        with pytest.raises(JobError, match=f"is not one of {precision}"):
            engines.openvino_engine(artefact, precision)
        with pytest.raises(JobError, match=f"is not one of {precision}"):
            engines.refuse_precision(artefact, engine="openvino", precision=precision)


@pytest.mark.slow
def test_a_price_beyond_the_limits_is_refused_with_what_is_short(quantised: Artefact) -> None:
    prices = json.loads(json.dumps(quantised.facts["prices"]))
    prices["int8"]["median_cosine"] = 0.5
    dear = Artefact({**quantised.facts, "prices": prices}, quantised.contents)

    with pytest.raises(JobError, match=r"median cosine 0\.500, needed 0\.97") as refused:
        engines.refuse_precision(dear, engine="openvino", precision="int8")

    assert refused.value.exit_code == 1
    assert "f32" in refused.value.hint
