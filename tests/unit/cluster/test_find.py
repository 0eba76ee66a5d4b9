from pathlib import Path

import pytest

from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.ledger import Ledger, RunRecord, find_run
from fruits_cli.s3uri import S3Uri
from tests.support.worlds import BUCKET, RUN_ID

RUNS = S3Uri(BUCKET, "fruits/runs/")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.mark.parametrize("wanted", [RUN_ID, "20260823", "last"])
def test_a_run_is_found_by_id_prefix_and_last(ledger: Ledger, wanted: str) -> None:
    output = f"s3://{BUCKET}/other/runs/{RUN_ID}/"
    record = ledger.write(RunRecord(RUN_ID, Target.EMR, output=output))

    uri, found = find_run(wanted, ledger, RUNS)

    assert (str(uri), found) == (output, record)


def test_a_whole_id_of_another_folder_is_looked_for_in_the_bucket(ledger: Ledger) -> None:
    assert find_run(RUN_ID, ledger, RUNS) == (RUNS / f"{RUN_ID}/", None)


@pytest.mark.parametrize("text", ["s3://figs/a/b", "s3n://figs/a/b/"])
def test_an_address_is_taken_as_it_is(ledger: Ledger, text: str) -> None:
    assert find_run(text, ledger, None) == (S3Uri("figs", "a/b/"), None)


def test_a_local_run_is_told_where_it_is(ledger: Ledger) -> None:
    ledger.write(RunRecord(RUN_ID, Target.LOCAL, output="/out"))

    with pytest.raises(UsageError, match="its results are in /out"):
        find_run("last", ledger, RUNS)
