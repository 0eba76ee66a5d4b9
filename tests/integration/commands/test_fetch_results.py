from pathlib import Path

import pytest

from fruits_cli.config import Target
from fruits_cli.ledger import RunRecord, ledger_here
from tests.support.on_moto import Fruits

BUCKET = ("--bucket", "grapes-and-figs")
RUN_ID = "20260823-141502-k3f9"


def test_a_run_without_results_is_exit_1(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("fetch-results", RUN_ID, *BUCKET)

    assert result.exit_code == 1
    assert "has no results" in result.stderr


def test_a_local_runs_results_are_where_they_are(fruits: Fruits, tmp_path: Path) -> None:
    ledger_here(tmp_path).write(RunRecord(RUN_ID, Target.LOCAL, output="/somewhere"))

    result = fruits("fetch-results")

    assert result.exit_code == 2
    assert "its results are in /somewhere" in result.stderr


def test_an_invalid_address_is_exit_2(fruits: Fruits) -> None:
    result = fruits("fetch-results", "s3://a")

    assert result.exit_code == 2
    assert "is not an S3 address" in result.stderr


def test_a_local_runs_results_need_no_aws(fruits: Fruits, tmp_path: Path) -> None:
    ledger_here(tmp_path).write(RunRecord(RUN_ID, Target.LOCAL, output="/somewhere"))

    result = fruits("fetch-results", "--profile", "there-is-none")

    assert result.exit_code == 2
    assert "its results are in /somewhere" in result.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("fetch-results", ""), "RUN"),
        (("terminate", "--cluster", "", "--yes"), "--cluster"),
        (("run", "", "--yes"), "IMAGES"),
        (("upload", "", "--yes"), "IMAGES"),
        (("run", "--resume", ""), "--resume"),
        (("report", ""), "RUNS"),
        (("tunnel", "--host", ""), "--host"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_empty_word_means_nothing_that_has_a_default(
    fruits: Fruits, words: tuple[str, ...], named: str
) -> None:
    result = fruits(*words, *(BUCKET if words[0] in ("run", "upload") else ()))

    assert (result.exit_code, result.stderr) == (2, f"Error: {named} is empty.\n")
