from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fruits_cli.config import Engine, Precision
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.estimate.timing import Timed, time_sample
from fruits_cli.job.embedding import embedding_command
from fruits_cli.job.model import ModelArtefact
from tests.support.pictures import draw_folder

pytestmark = pytest.mark.xdist_group("model")


def timed(
    files: Sequence[str], folder: Path, environ: Mapping[str, str], *, precision: str = "f32"
) -> Timed:
    artefact = ModelArtefact(folder, {"fingerprint": "f", "weights": "random"})
    command = embedding_command(artefact, Engine.OPENVINO, Precision(precision))
    return time_sample(files, command, environ, processes=2)


def test_a_sample_is_timed_by_as_many_processes_as_wanted(
    artefact_folder: Path, tmp_path: Path
) -> None:
    names = [f"{n}.jpg" for n in range(9)] + ["a\nb.jpg", "\udcff.jpg"]
    draw_folder(tmp_path, names)
    (tmp_path / "text.jpg").write_text("no picture")
    files = [str(tmp_path / name) for name in [*names, "text.jpg", "gone.jpg"]]

    found = timed(files * 3, artefact_folder, os.environ)

    assert (found.pictures, found.rejected) == (39, 6)
    assert found.images_s > 1
    assert 0 < found.at_work <= 1.5


@pytest.mark.parametrize(("at_work", "images_s"), [(0.5, 200), (1.0, 100), (1.2, 100)])
def test_left_alone_a_sample_would_have_had_its_cores(at_work: float, images_s: float) -> None:
    assert Timed(100, 10, 0, at_work).undisturbed_images_s == images_s


def test_one_file_needs_one_process(artefact_folder: Path, tmp_path: Path) -> None:
    draw_folder(tmp_path, ["a.jpg"])

    found = timed([str(tmp_path / "a.jpg")], artefact_folder, os.environ)

    assert (found.pictures, found.rejected) == (1, 0)


def test_more_paths_than_a_pipe_holds_are_no_deadlock(artefact_folder: Path) -> None:
    long = "/absent/" + "x" * 200 + "/" + "y" * 200
    files = [long] * 2000

    found = timed(files, artefact_folder, os.environ)

    assert (found.pictures, found.rejected) == (2000, 2000)


def test_an_error_of_the_process_keeps_its_words(artefact_folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(artefact_folder, tmp_path / "copy")
    (copied / "graph.bin").write_bytes(b"other")

    with pytest.raises(UsageError, match=r"graph.bin of the model artefact .* is not") as refused:
        timed(["a.jpg"], copied, os.environ)

    assert refused.value.hint == "Delete the artefact; the next run makes it again."


def test_weights_unsuited_to_bf16_are_reported(artefact_folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(artefact_folder, tmp_path / "copy")
    facts = json.loads((copied / "model.json").read_text())
    facts["parity"]["bf16_min_cosine"] = 0.5
    (copied / "model.json").write_text(json.dumps(facts))

    with pytest.raises(MachineError, match=r"too far from f32 \(cosine 0.5000\)"):
        timed(["a.jpg"], copied, os.environ, precision="bf16")


def test_a_process_that_dies_is_reported_with_its_last_line(
    artefact_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no luck')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}

    with pytest.raises(MachineError, match="could not be timed, code 1: SystemExit: no luck"):
        timed(["a.jpg"] * 2, artefact_folder, environ)
