from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fruits_cli import rehearsal
from tests.support.pictures import draw_kinds

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]
WORDS = ("--bucket", "melons-and-figs", "--yes")
NODES = ("--core-type", "m6i.xlarge", "--task-type", "m6i.xlarge")


def test_auto_on_emr_calibrates_int8_and_a_resumed_run_keeps_its_model(
    java: None, artefact_folder: Path, tmp_path: Path
) -> None:
    # Not a link: other tests must not meet this folder's model of 8 bits.
    models = tmp_path / "cache" / "fruits" / "models"
    shutil.copytree(artefact_folder.parent, models)
    draw_kinds(tmp_path / "pictures", 40, shades=(1.0, 0.98, 0.92))
    found = rehearsal.start(tmp_path / "aws", minutes_per_second=600)
    environ = rehearsal.environ_beside(found, os.environ)
    environ |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    def fruits(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("fruits")), *words, *WORDS]
        ended = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    try:
        run = ("run", "pictures", "--weights", "random", "--image-size", "96", "--no-report")
        told = fruits(*run, "--output-dir", "out", "--precision", "auto", *NODES)
        first = json.loads((tmp_path / "out" / "manifest.json").read_text())
        shutil.rmtree(tmp_path / "pictures")
        again = fruits("run", "--resume", "last", "--pca-k", "3", "--no-report", *NODES)
        second = json.loads(
            (tmp_path / "fruits-runs" / first["run_id"] / "manifest.json").read_text()
        )
    finally:
        rehearsal.stop(tmp_path / "aws")

    assert "int8: calibrated on 40 pictures, compared on 80." in told
    assert "auto: int8, the fastest that is near f32." in told
    assert "int8 beside f32 on 80 pictures: cosine" in told
    shipped = json.loads((models / first["model_fingerprint"] / "model.json").read_text())
    assert first["precision"] == "int8"
    assert first["model"]["prices"] == shipped["prices"]
    assert first["model"]["calibration"]["digest"] == shipped["calibration"]["digest"]
    assert first["counts"]["inferences"] == 120
    assert "int8: the model that the run began with." in again
    assert second["model_fingerprint"] == first["model_fingerprint"]
    assert (second["counts"]["inferences"], second["pca_k"]) == (0, 3)
