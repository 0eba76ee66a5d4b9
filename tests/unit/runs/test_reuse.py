from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.job.arguments import Reuse
from fruits_cli.ledger import Ledger, RunPhase, RunRecord
from fruits_cli.runs.reuse import reuse_here

LOCAL, ON_EMR = "20261101-120000-aaaa", "20261102-120000-bbbb"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / ".fruits" / "runs")
    ledger.write(RunRecord(LOCAL, Target.LOCAL, RunPhase.DONE, output="/here/runs/one"))
    return ledger


def on_emr(folder: str) -> RunRecord:
    return RunRecord(
        ON_EMR, Target.EMR, RunPhase.DONE, output=f"s3://melons/runs/{ON_EMR}", folder=folder
    )


def test_features_are_looked_for_beside_the_output_and_the_ledgers_runs(ledger: Ledger) -> None:
    found = reuse_here("auto", Path("/now/runs/two"), ledger)

    assert found == Reuse(below=("/here/runs", "/now/runs"))


def test_fetched_results_are_a_source_and_those_on_s3_alone_are_none(ledger: Ledger) -> None:
    ledger.write(on_emr(""))
    assert "/fetched" not in reuse_here("auto", Path("/now/two"), ledger).below

    ledger.write(on_emr("/fetched/three"))

    assert "/fetched" in reuse_here("auto", Path("/now/two"), ledger).below
    assert reuse_here(ON_EMR, Path("/now/two"), ledger) == Reuse(run="/fetched/three")


def test_a_detached_run_is_a_source_once_it_is_fetched(ledger: Ledger) -> None:
    ledger.write(replace(on_emr("/fetched/three"), phase=RunPhase.SUBMITTED))

    assert "/fetched" in reuse_here("auto", Path("/now/two"), ledger).below


def test_a_run_whose_results_are_not_here_is_refused_with_the_command(ledger: Ledger) -> None:
    ledger.write(on_emr(""))

    with pytest.raises(UsageError, match="on S3, not on this machine") as refused:
        reuse_here(ON_EMR, Path("/now/two"), ledger)

    assert refused.value.hint == f"Fetch them first: fruits fetch-results {ON_EMR}"


def test_a_run_that_is_not_done_is_not_looked_beside(ledger: Ledger) -> None:
    ledger.write(RunRecord("20261103-120000-cccc", Target.LOCAL, output="/elsewhere/three"))

    assert "/elsewhere" not in reuse_here("auto", Path("/now/two"), ledger).below
    assert reuse_here("none", Path("/now/two"), ledger) == Reuse()
