from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from tests.support.kills import VICTIMS, Arena, kill_once, resume_and_compare, rows_of

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc"),
]


@pytest.mark.xdist_group("spark")
def test_a_run_killed_anywhere_resumes_to_the_same_rows(
    artefact_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(artefact_folder.parent, tmp_path / "cache" / "fruits" / "models")
    arena = Arena(tmp_path, cache=tmp_path / "cache")
    began_s = time.monotonic()
    undisturbed = arena.finish(str(arena.pictures))
    within_s = time.monotonic() - began_s
    expected = rows_of(Path(str(undisturbed["output"])))
    dice = random.Random(20)

    for victim in VICTIMS:
        kill_once(arena, victim, dice, within_s=within_s)
        resume_and_compare(arena, expected)

    assert len(expected) == arena.count - 2
