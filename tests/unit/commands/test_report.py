from pathlib import Path

import pytest

from fruits_cli.commands.report import cluster_facts, find_place
from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.ledger import Ledger, RunRecord
from tests.support.run_folders import RUN_ID


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def recorded(ledger: Ledger, **more: object) -> RunRecord:
    values: dict[str, object] = {"run_id": RUN_ID, "target": Target.LOCAL, **more}
    return ledger.write(RunRecord(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["last", RUN_ID, RUN_ID[:9]])
def test_a_run_is_found_by_its_name(wanted: str, ledger: Ledger) -> None:
    recorded(ledger, output="/runs/1")

    place, record = find_place(wanted, ledger)

    assert place == Path("/runs/1")
    assert record is not None


def test_a_run_is_found_by_its_folder_with_its_record(ledger: Ledger, tmp_path: Path) -> None:
    recorded(
        ledger,
        target=Target.EMR,
        output="s3://b/runs/x/",
        folder=str(tmp_path),
        region="eu-west-3",
        cluster_id="j-1",
        cost_usd=0.5,
        cluster_seconds=60.0,
    )

    place, record = find_place(str(tmp_path), ledger)

    assert place == tmp_path
    told = cluster_facts(record)
    assert (told.region, told.cost_usd, told.seconds) == ("eu-west-3", 0.5, 60.0)


def test_a_run_that_was_not_fetched_says_how(ledger: Ledger) -> None:
    recorded(ledger, target=Target.EMR, output="s3://b/runs/x/")

    with pytest.raises(UsageError, match="not on this machine") as refused:
        find_place("last", ledger)

    assert f"fruits fetch-results {RUN_ID}" in refused.value.hint


def test_a_folder_that_does_not_exist_is_named(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=r"There is no run in \./nope"):
        find_place("./nope", ledger)


def test_a_run_on_this_machine_had_no_cluster() -> None:
    assert cluster_facts(None).region == ""
    assert cluster_facts(RunRecord("r", Target.LOCAL)).region == ""
