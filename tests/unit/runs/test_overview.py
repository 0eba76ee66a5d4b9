from __future__ import annotations

import json
from pathlib import Path

import pytest

from fruits_cli.cloud.layout import places_of
from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.ledger import Ledger, RunPhase, RunRecord
from fruits_cli.runs.overview import find_known_run, known_runs, run_facts, run_rows
from tests.support.fakes import FakeAws
from tests.support.scenes import put
from tests.support.worlds import config

BELOW = places_of(config()).runs
FIRST, SECOND, THIRD = (f"2026080{n}-100000-{4 * 'abc'[n - 1]}" for n in (1, 2, 3))
MANIFEST = {
    "counts": {
        "pictures": 9,
        "features": 8,
        "rejected": 1,
        "rejected_by_reason": {"truncated": 1},
        "reused": 5,
    },
    "seconds": {"listing": 6.0, "features": 54.0},
    "settings": {"images": "s3://elsewhere/"},
    "engine": "openvino",
    "precision": "f32",
    "image_size": 224,
    "pca_k": 5,
    "cumulative_variance": 0.75,
    "reused_from": [FIRST],
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """One run of this machine, done, and one on EMR that is under way."""
    ledger = Ledger(tmp_path / "ledger")
    output = tmp_path / "out"
    output.mkdir()
    (output / "manifest.json").write_text(json.dumps(MANIFEST))
    ledger.write(RunRecord(FIRST, Target.LOCAL, RunPhase.DONE, images="/in", output=str(output)))
    ledger.write(
        RunRecord(SECOND, Target.EMR, RunPhase.SUBMITTED, output=str(BELOW / f"{SECOND}/"))
    )
    return ledger


@pytest.fixture
def aws() -> FakeAws:
    """A bucket with the run that is under way, and one of another folder."""
    aws = FakeAws()
    aws.storage.create_bucket(BELOW.bucket)
    put(aws, BELOW / f"{SECOND}/_plan/job.json", {})
    put(aws, BELOW / f"{THIRD}/manifest.json", MANIFEST)
    return aws


def test_runs_of_the_folder_and_of_the_bucket_are_one_list_the_newest_first(
    ledger: Ledger, aws: FakeAws
) -> None:
    runs = known_runs(ledger, BELOW, aws.storage)

    assert [(run.record.run_id, run.state) for run in runs] == [
        (THIRD, "done"),
        (SECOND, "submitted"),
        (FIRST, "done"),
    ]


def test_without_a_bucket_nothing_is_asked_of_aws(ledger: Ledger) -> None:
    runs = known_runs(ledger, None, None)

    assert [run.state for run in runs] == ["submitted", "done"]


def test_a_row_has_settings_variance_and_minutes(ledger: Ledger) -> None:
    row = run_rows(known_runs(ledger, None, None))[1]

    assert row == (FIRST, "local", "done", 9, 5, "openvino f32 224 px", 5, "75.0%", "1.0", "")


def test_one_run_is_found_by_a_prefix_in_the_bucket_too(ledger: Ledger, aws: FakeAws) -> None:
    facts = run_facts(find_known_run("20260803", ledger, BELOW, aws.storage))

    assert facts["run_id"] == THIRD
    assert facts["reused_from"] == [FIRST]


def test_a_prefix_of_several_runs_or_of_none_is_refused(ledger: Ledger, aws: FakeAws) -> None:
    for wanted in ("2026", "1999"):
        with pytest.raises(UsageError, match="begin"):
            find_known_run(wanted, ledger, BELOW, aws.storage)
