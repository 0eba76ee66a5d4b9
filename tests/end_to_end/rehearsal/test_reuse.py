from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fruits_cli import rehearsal
from tests.support.pictures import draw_folder, jpeg


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_a_second_run_on_emr_computes_only_new_pictures_and_prune_keeps_both(
    java: None, artefact_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "fruits").mkdir(parents=True)
    (tmp_path / "cache" / "fruits" / "models").symlink_to(artefact_folder.parent)
    draw_folder(tmp_path / "pictures", [f"kind {n % 2}/{n}.jpg" for n in range(12)])
    found = rehearsal.start(tmp_path / "aws", minutes_per_second=600)
    environ = rehearsal.environ_beside(found, os.environ)
    environ |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    def fruits(*words: str) -> dict[str, Any]:
        command = [str(Path(sys.executable).with_name("fruits")), *words, "--yes"]
        command += ["--bucket", "melons-and-figs", "--output", "json"]
        ended = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    run = ("run", "pictures", "--weights", "random", "--image-size", "96", "--no-report")
    try:
        first = fruits(*run)
        (tmp_path / "pictures" / "new.jpg").write_bytes(jpeg(900))
        second = fruits(*run)
        pruned = fruits("runs", "--prune")
        listed = fruits("runs")["runs"]
    finally:
        rehearsal.stop(tmp_path / "aws")

    assert first["counts"]["inferences"] == 12
    assert second["counts"]["inferences"] == 1
    assert second["counts"]["reused"] == 12
    assert pruned["unneeded"] == []
    assert [run["pictures"] for run in listed] == [13, 12]
    assert listed[0]["reused_from"] == [first["run_id"]]
