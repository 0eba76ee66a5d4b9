from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from fruits_cli.dataset.sample import draw_sample
from fruits_cli.rehearsal.hub_program import find_hub
from fruits_cli.tunnel.browser import find_browser
from tests.support.browser_page import headless
from tests.support.rehearsed import until
from tests.support.ssh_servers import is_listening
from tests.support.tour import FRUITS, at_terminal, look_around, processes_with, walked

NEEDED = {"jupyterhub": find_hub(), "chromium": find_browser(os.environ.get("PATH"))}
LACKING = [name for name, found in NEEDED.items() if not found]


def environ_in(folder: Path, *first_on_path: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([*map(str, first_on_path), os.environ["PATH"]]),
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        # A user's own setting, which would send the tour's requests elsewhere.
        "FRUITS_STORAGE_BUCKET": "the-users-own",
    }


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)} (.ci/hub)")
def test_the_tour_walks_from_init_to_the_bill(artefact_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache" / "fruits").mkdir(parents=True)
    (tmp_path / "cache" / "fruits" / "models").symlink_to(artefact_folder.parent)
    draw_sample(tmp_path / "pictures", count=36)
    # Chromium puts a socket there, whose path may have a hundred letters.
    temporary = Path(tempfile.mkdtemp(prefix="tour-"))
    log = tmp_path / "chromium.log"
    environ = environ_in(tmp_path, headless(tmp_path / "bin", log))
    environ["TMPDIR"] = str(temporary)
    words = [FRUITS, "rehearse", "--tour", "pictures", "--image-size", "96", "--weights", "random"]
    seen: list[str] = []

    def look(told: str) -> None:
        seen.extend(asyncio.run(look_around(told, log, tmp_path)))

    with at_terminal(words, tmp_path, environ) as (process, keyboard):
        told = walked(process, keyboard, look)
        assert process.returncode == 0, told

    assert re.findall(r"^\$ fruits ([a-z-]+)", told, re.MULTILINE) == [
        *("init", "doctor", "upload", "create-cluster", "submit", "status"),
        *("tunnel", "tunnel", "fetch-results", "report", "terminate"),
    ]
    notebook, history = seen
    assert "Nearest to " in notebook
    assert "Traceback" not in notebook
    (line,) = (line for line in told.splitlines() if line.startswith("yarn "))
    assert "no answer yet" in line
    assert "is TERMINATED" in told
    assert "Traceback" not in told
    (run,) = (tmp_path / "fruits-runs").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["counts"]["features"] == 34
    assert (run / "report.html").exists()
    assert manifest["run_id"] in history
    assert not (tmp_path / "home" / ".ssh").exists()
    assert not (tmp_path / ".fruits").exists()
    assert not [port for port in re.findall(r"127\.0\.0\.1:(\d+)", told) if is_listening(int(port))]
    until(lambda: not processes_with(str(temporary)))
    # Fails where anything is left.
    temporary.rmdir()


def test_a_tour_without_a_terminal_wants_yes_before_anything_starts(tmp_path: Path) -> None:
    refused = subprocess.run(
        [FRUITS, "rehearse", "--tour", "pictures"],
        cwd=tmp_path,
        env=environ_in(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert refused.returncode == 2
    assert refused.stdout == "Error: There is no terminal to wait at.\nHint: Give --yes.\n"
