import json
import subprocess
from pathlib import Path

import pytest

from fruits_cli.commands.report import early_reporter, with_report
from fruits_cli.screen import Outcome, Screen
from tests.support.machines import FRUITS
from tests.support.pictures import draw_folder
from tests.support.run_folders import RUN_ID, clouds


def fruits(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [FRUITS, "report", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_report_lies_beside_the_results_and_is_made_again_in_place(tmp_path: Path) -> None:
    run = clouds()
    draw_folder(tmp_path / "in", list(run.paths[:3]))
    folder = run.write(tmp_path / "run")

    for _ in range(2):
        made = fruits(tmp_path, "run", "--images", "in")

        assert (made.returncode, made.stderr) == (0, "")
        assert made.stdout == f"Report: {folder}/report.html\n"
    assert "sheet-a0" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "report" / "report.json").read_text())["run_id"] == RUN_ID


def test_every_list_of_the_report_is_a_csv(tmp_path: Path) -> None:
    folder = clouds().write(tmp_path / "run")

    fruits(tmp_path, "./run")

    facts = json.loads((folder / "report" / "report.json").read_text())
    assert {file.stem for file in (folder / "report").glob("*.csv")} == set(facts["odd"])


def test_two_runs_have_a_report_of_their_own(tmp_path: Path) -> None:
    clouds().write(tmp_path / "first")
    clouds(k=2).write(tmp_path / "second")

    made = fruits(tmp_path, "./first", "./second", "--output", "json")

    assert made.returncode == 0, made.stderr
    facts = json.loads(made.stdout)
    file = tmp_path / "fruits-runs" / "report-first-and-second" / "report.html"
    assert facts["report"] == str(file)
    assert facts["common"] == 60
    assert "Runs side by side" in file.read_text(encoding="utf-8")


def test_a_report_goes_where_it_is_told_to(tmp_path: Path) -> None:
    clouds().write(tmp_path / "run")

    made = fruits(tmp_path, "run", "--output-dir", "out", "--output", "json")

    assert json.loads(made.stdout)["report"] == str(tmp_path / "out" / "report.html")
    assert not (tmp_path / "run" / "report.html").exists()


def test_something_that_is_not_a_run_is_exit_2_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    made = fruits(tmp_path, "./empty")

    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr.startswith(f"Error: There is no finished run in {tmp_path}/empty.\nHint: ")


def outcome(folder: Path) -> Outcome:
    return Outcome(["Results: here"], {"output": str(folder), "counts": {}})


def test_a_finished_run_gets_its_report(tmp_path: Path) -> None:
    folder = clouds().write(tmp_path / "run")

    told = with_report(outcome(folder), Screen(), {})

    assert told.lines == ["Results: here", f"Report: {folder}/report.html"]
    assert told.facts["report"] == str(folder / "report.html")
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_reporter_that_loaded_early_makes_it_and_one_that_ended_is_replaced(
    has_ended: bool, tmp_path: Path
) -> None:
    folder = clouds().write(tmp_path / "run")

    with early_reporter() as early:
        if has_ended:
            early.kill()
            early.wait()
        told = with_report(outcome(folder), Screen(), {}, early=early)

    assert told.facts["report"] == str(folder / "report.html")
    assert early.returncode == (-9 if has_ended else 0)


def test_a_reporter_that_is_not_asked_ends_with_its_run() -> None:
    with early_reporter() as early:
        pass

    assert early.returncode == -9


def test_a_report_that_fails_costs_the_run_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clouds().write(tmp_path / "run")
    (folder / "pca" / "part-0.parquet").write_bytes(b"PAR1")

    told = with_report(outcome(folder), Screen(), {})

    assert told.lines == ["Results: here"]
    assert (told.exit_code, told.facts["report"]) == (0, None)
    said = capsys.readouterr().err
    assert said.startswith("Warning: There is no report.html: ")
    assert "part-0.parquet cannot be read" in said
    assert said.count("\n") == 1
