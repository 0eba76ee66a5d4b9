from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fruits_cli.dataset.sample import draw_sample

FRUITS = str(Path(sys.executable).with_name("fruits"))


def tour(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
    environ["XDG_CACHE_HOME"] = str(folder / "cache")
    # A user's own setting, which would send the tour's requests elsewhere.
    environ["FRUITS_STORAGE_BUCKET"] = "the-users-own"
    return subprocess.run(
        [FRUITS, "rehearse", "--tour", *words],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_the_tour_walks_from_init_to_the_bill(artefact_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache" / "fruits").mkdir(parents=True)
    (tmp_path / "cache" / "fruits" / "models").symlink_to(artefact_folder.parent)
    draw_sample(tmp_path / "pictures", count=36)

    ended = tour(tmp_path, "pictures", "--yes", "--image-size", "96", "--weights", "random")

    assert ended.returncode == 0, ended.stdout
    assert re.findall(r"^\$ fruits ([a-z-]+)", ended.stdout, re.MULTILINE) == [
        *("init", "doctor", "upload", "create-cluster", "submit", "status"),
        *("tunnel", "fetch-results", "report", "terminate"),
    ]
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("spark "))
    assert "http://127.0.0.1:" in line
    assert "is TERMINATED" in ended.stdout
    (run,) = (tmp_path / "fruits-runs").iterdir()
    assert json.loads((run / "manifest.json").read_text())["counts"]["features"] == 34
    assert (run / "report.html").exists()
    assert not (tmp_path / "home" / ".ssh").exists()
    assert not (tmp_path / ".fruits").exists()


def test_a_tour_without_a_terminal_wants_yes_before_anything_starts(tmp_path: Path) -> None:
    refused = tour(tmp_path, "pictures")

    assert refused.returncode == 2
    assert refused.stdout == "Error: There is no terminal to wait at.\nHint: Give --yes.\n"
