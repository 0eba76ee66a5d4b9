"""A command that is killed while it pays, or ends what costs: nothing is doubled or forgotten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.quick
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_no_kill_at_a_paid_request_leaves_an_orphan(artefact_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "fruits"
    cache.mkdir()
    (cache / "models").symlink_to(artefact_folder.parent)

    tried = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_matrix", "--paid", "--cache", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert tried.stdout.endswith("5 kill points tried, 0 failed, 0 orphans\n"), (
        tried.stdout + tried.stderr
    )
