import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fruits_cli.commands.similar import run_model
from fruits_cli.config import Engine, Precision
from fruits_cli.errors import UsageError
from fruits_cli.job.embedding import embed_picture
from fruits_cli.job.model import ModelArtefact
from fruits_cli.screen import Screen
from tests.support.machines import FRUITS
from tests.support.pictures import draw_folder
from tests.support.run_folders import WrittenRun

pytestmark = pytest.mark.xdist_group("model")
NAMES = [f"Kiwi/{number}.jpg" for number in range(5)]


@pytest.fixture
def environ(model_cache: Path, artefact_folder: Path, tmp_path: Path) -> dict[str, str]:
    shutil.copytree(artefact_folder, tmp_path / "cache/fruits/models" / artefact_folder.name)
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "PATH": ""}


@pytest.fixture
def run_folder(artefact_folder: Path, environ: dict[str, str], tmp_path: Path) -> Path:
    draw_folder(tmp_path / "in", NAMES)
    artefact = ModelArtefact(artefact_folder, {})
    features = np.stack(
        [
            embed_picture(tmp_path / "in" / name, artefact, Engine.OPENVINO, Precision.F32, environ)
            for name in NAMES
        ]
    )
    facts = {"model_fingerprint": artefact_folder.name, "weights": "random"}
    run = WrittenRun(NAMES, ["Kiwi"] * 5, features, features[:, :2].copy(), facts=facts)
    run.settings["images"] = str(tmp_path / "in")
    return run.write(tmp_path / "run")


def similar(environ: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [FRUITS, "similar", *words]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_a_picture_of_the_run_finds_itself(
    run_folder: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    told = similar(
        environ, tmp_path, "in/Kiwi/3.jpg", "--run", "./run", "--count", "2", "--output", "json"
    )

    assert (told.returncode, told.stderr) == (0, "")
    found = json.loads(told.stdout)
    assert found["similar"][0]["path"] == "Kiwi/3.jpg"
    assert len(found["similar"]) == 2
    assert found["similar"][0]["similarity"] == pytest.approx(1, abs=1e-5)


def test_a_precision_that_the_engine_lacks_is_refused(
    run_folder: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    manifest = json.loads((run_folder / "manifest.json").read_text())
    (run_folder / "manifest.json").write_text(json.dumps({**manifest, "engine": "tensorflow"}))

    refused = similar(environ, tmp_path, "in/Kiwi/3.jpg", "--run", "./run", "--precision", "bf16")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "The engine tensorflow computes in f32 only." in refused.stderr


def test_as_a_table_and_a_page(run_folder: Path, environ: dict[str, str], tmp_path: Path) -> None:
    told = similar(environ, tmp_path, "in/Kiwi/3.jpg", "--run", "./run", "--open")

    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["similarity", "label", "path"]
    assert lines[1].split() == ["1.0000", "Kiwi", "Kiwi/3.jpg"]
    page = run_folder / "report" / "similar" / "3.html"
    assert lines[-1] == f"Page: {page}"
    assert page.read_text(encoding="utf-8").count("data:image/webp") == 6


@pytest.mark.parametrize(
    ("name", "told"), [("gone.jpg", "unreadable"), ("text.jpg", "not_a_picture")]
)
def test_something_that_is_not_a_picture_is_exit_2_with_one_sentence(
    name: str, told: str, run_folder: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")

    refused = similar(environ, tmp_path, name, "--run", "./run")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"Error: {tmp_path}/{name} cannot be used ({told}): ")


def test_other_weights_than_the_runs_are_refused(
    environ: dict[str, str], random_weights: Path, artefact_folder: Path
) -> None:
    manifest = {"model_fingerprint": "f" * 32, "weights": "w.h5", "image_size": 96}

    with pytest.raises(UsageError, match="makes another model than the run's") as refused:
        run_model(manifest, None, str(random_weights), Screen(), environ)

    assert refused.value.hint == "Give the run's own weights: --weights FILE"
