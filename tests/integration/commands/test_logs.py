from pathlib import Path

import pytest

from fruits_cli.config import Target
from fruits_cli.job.spark import LOG_FILE
from fruits_cli.ledger import RunRecord, ledger_here
from tests.support.on_moto import Fruits
from tests.support.worlds import RUN_ID


def test_a_local_runs_log_is_read_from_its_folder(fruits: Fruits, tmp_path: Path) -> None:
    log = tmp_path / "out" / "_plan" / "driver.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo \x1b[31m\n")
    record = RunRecord("20260823-141502-k3f9", Target.LOCAL, output=str(tmp_path / "out"))
    ledger_here(tmp_path).write(record)

    result = fruits("logs")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == "one\ntwo \\x1b[31m\n"


def test_a_local_run_that_never_started_has_no_log(fruits: Fruits, tmp_path: Path) -> None:
    ledger_here(tmp_path).write(RunRecord(RUN_ID, Target.LOCAL, output=str(tmp_path / "out")))

    result = fruits("logs")

    assert result.exit_code == 2
    assert f"Run {RUN_ID} left no log in {tmp_path}/out." in result.stderr


def test_without_a_run_there_is_no_log(fruits: Fruits) -> None:
    result = fruits("logs")

    assert result.exit_code == 2
    assert "knows no run" in result.stderr


def test_a_cluster_without_a_job_has_no_log_of_one(fruits: Fruits) -> None:
    fruits("create-cluster", "--bucket", "grapes-and-figs", "--yes")

    result = fruits("logs")

    assert result.exit_code == 1
    assert "No job ran on j-" in result.stderr


def test_lines_of_info_are_left_out_and_counted_unless_all_is_asked_for(
    fruits: Fruits, tmp_path: Path
) -> None:
    log = tmp_path / "out" / LOG_FILE
    log.parent.mkdir(parents=True)
    lines = [
        "26/11/28 10:00:00 INFO SparkContext: Running Spark",
        "26/11/28 10:00:01 WARN NativeCodeLoader: Unable to load",
        "Traceback (most recent call last):",
    ]
    log.write_text("\n".join(lines))
    ledger_here(tmp_path).write(RunRecord(RUN_ID, Target.LOCAL, output=str(tmp_path / "out")))

    short, whole = fruits("logs", "last"), fruits("logs", "last", "--all")

    left_out = "(lines of level INFO left out: 1; --all shows them)"
    assert short.stdout.splitlines() == [*lines[1:], left_out]
    assert whole.stdout.splitlines() == lines


@pytest.mark.parametrize("words", [["last"], [RUN_ID]])
def test_a_run_of_this_machine_has_no_spark_ui(
    fruits: Fruits, tmp_path: Path, words: list[str]
) -> None:
    ledger_here(tmp_path).write(RunRecord(RUN_ID, Target.LOCAL, output=str(tmp_path / "out")))

    result = fruits("logs", "--ui", *words)

    assert result.exit_code == 2
    assert f"Run {RUN_ID} ran on this machine" in result.stderr


def test_the_spark_ui_and_the_workers_logs_are_two_answers(fruits: Fruits) -> None:
    result = fruits("logs", "--ui", "--workers")

    assert result.exit_code == 2
    assert "Give --ui or --workers." in result.stderr


def test_the_spark_ui_of_no_cluster_is_2(fruits: Fruits) -> None:
    result = fruits("logs", "--ui")

    assert result.exit_code == 2
    assert "No cluster of fruits is live in eu-west-3." in result.stderr
