from pathlib import Path

import pytest

from fruits_cli.commands.rehearse import Played, play_aside
from fruits_cli.rehearsal.state import Rehearsal, rehearsal_environ
from tests.support.scenes import pictures

ENDPOINT = "http://127.0.0.1:1"
LIVING = Rehearsal(0, ENDPOINT, "eu-west-3", rehearsal_environ(ENDPOINT, "eu-west-3", "x"))


def test_a_run_beside_a_kept_rehearsal_leaves_stdout_to_its_one_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "Test")
    # Not on the cluster: only what is answered counts here.
    here = {"target": "local", "dry_run": True, "weights": "random"}
    json_output = ("--output", "json")

    code, run = play_aside(
        Played(str(folder), False, tmp_path / "out", here, json_output), LIVING, tmp_path
    )
    failed = play_aside(
        Played(str(tmp_path / "none"), False, tmp_path / "out", here, json_output), LIVING, tmp_path
    )

    assert (code, run["target"]) == (0, "local")
    assert failed == (2, None)
    assert capfd.readouterr().out == ""
