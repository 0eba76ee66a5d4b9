from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from spark_job import engines, images, quantisation
from tests.support.pictures import draw_folder
from tests.support.results import Results
from tests.support.spark_settings import RunJob

pytestmark = [
    pytest.mark.spark,
    pytest.mark.xdist_group("spark"),
    pytest.mark.filterwarnings("ignore"),
]

GOOD = {
    "pictures": 60,
    "smallest_cosine": 0.95,
    "median_cosine": 0.99,
    "equal_neighbours": 0.9,
    "accuracy_f32": 0.9,
    "accuracy": 0.9,
    "components": 15,
    "subspace_angle_deg": 10.0,
    "variance_difference": 0.0,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "fruit"
    draw_folder(folder, [f"kind {n % 3}/{n}.jpg" for n in range(70)])
    return folder


@pytest.fixture(scope="module")
def int8(artefact_folder: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of 8 bits; its price is made a good one, which drawn clouds do not have."""
    base = tmp_path_factory.mktemp("models") / artefact_folder.name
    shutil.copytree(artefact_folder, base)
    made = quantisation.quantised(base, quantisation.sample_of(str(pictures), ["jpg"], 96))
    return priced(made, GOOD)


def priced(artefact: Path, price: dict[str, float]) -> Path:
    file = artefact / "model.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "prices": {"int8": price}}))
    return artefact


def test_an_int8_run_resumes_only_with_the_same_model(
    run_job: RunJob, pictures: Path, int8: Path, artefact_folder: Path, tmp_path: Path
) -> None:
    words = ["--precision", "int8", "--pca-k", "5"]
    assert run_job(pictures, tmp_path / "run", *words, model=int8) == 0

    results = Results(tmp_path / "run")
    rows = results.rows("features")
    engine = engines.openvino_engine(engines.load_artefact(str(int8)), "int8")
    pixels = [images.decoded((pictures / row["path"]).read_bytes(), 96) for row in rows]
    assert np.array_equal([row["features"] for row in rows], engine.embed(np.stack(pixels)))
    manifest = results.json("manifest.json")
    assert manifest["precision"] == "int8"
    assert manifest["model"]["prices"]["int8"] == GOOD
    assert manifest["counts"]["inferences"] == 70

    words = ["--precision", "int8", "--pca-k", "3", "--resume"]
    assert run_job(pictures, tmp_path / "run", *words, model=int8) == 0
    assert results.json("manifest.json")["counts"]["inferences"] == 0
    other = shutil.copytree(int8, tmp_path / "other")
    facts = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**facts, "fingerprint": "another"}))
    assert run_job(pictures, tmp_path / "run", *words, model=other) == 2
    assert "weights differs from the run to be continued" in results.error["message"]


def test_a_model_whose_price_is_too_high_computes_nothing(
    run_job: RunJob, pictures: Path, int8: Path, tmp_path: Path
) -> None:
    dear = priced(shutil.copytree(int8, tmp_path / "dear"), {**GOOD, "equal_neighbours": 0.1})

    assert run_job(pictures, tmp_path / "run", "--precision", "int8", model=dear) == 1

    results = Results(tmp_path / "run")
    assert "equal nearest neighbours 0.100, needed 0.7" in results.error["message"]
    assert not (tmp_path / "run" / "features").exists()
