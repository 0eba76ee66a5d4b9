import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fruits_cli.config import Target
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.ledger import Ledger, RunPhase, RunRecord, ledger_here

FIRST = RunRecord("20260823-141502-k3f9", Target.LOCAL, output="/out/1", images="/in")
SECOND = RunRecord("20260824-090000-abcd", Target.EMR, output="s3://b/r/", job={"pca_k": 5})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return ledger_here(tmp_path)


def file_of(ledger: Ledger, record: RunRecord) -> Path:
    return ledger.folder / f"{record.run_id}.json"


def test_a_record_is_read_back_as_it_was_written(ledger: Ledger) -> None:
    written = ledger.write(SECOND)

    assert ledger.load(SECOND.run_id) == written
    assert written.created_at == written.updated_at != ""


def test_records_lie_in_the_folder_of_the_project(ledger: Ledger, tmp_path: Path) -> None:
    ledger.write(FIRST)

    assert (tmp_path / ".fruits" / "runs" / f"{FIRST.run_id}.json").is_file()


def test_a_record_is_for_its_owner_alone_and_leaves_no_scratch_file(ledger: Ledger) -> None:
    ledger.write(FIRST)
    ledger.write(FIRST)

    assert stat.S_IMODE(file_of(ledger, FIRST).stat().st_mode) == 0o600
    assert len(list(ledger.folder.iterdir())) == 1


def test_fields_of_a_newer_version_survive_an_older_one(ledger: Ledger) -> None:
    ledger.write(FIRST)
    file = file_of(ledger, FIRST)
    file.write_text(json.dumps({**json.loads(file.read_text()), "budget_usd": 5}))

    record = ledger.load(FIRST.run_id)
    assert record is not None
    ledger.write(replace(record, phase=RunPhase.DONE))

    assert json.loads(file.read_text())["budget_usd"] == 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": "x"}', '{"target": "moon"}'])
def test_a_broken_file_does_not_hide_the_others(ledger: Ledger, text: str) -> None:
    ledger.write(FIRST)
    (ledger.folder / "20260901-000000-zzzz.json").write_text(text)

    assert [record.run_id for record in ledger.records()] == [FIRST.run_id]


def test_the_newest_record_comes_first_and_is_last(ledger: Ledger) -> None:
    ledger.write(SECOND)
    ledger.write(FIRST)

    assert [record.run_id for record in ledger.records()] == [SECOND.run_id, FIRST.run_id]
    assert ledger.find("last").run_id == SECOND.run_id


def test_a_unique_prefix_is_enough(ledger: Ledger) -> None:
    ledger.write(FIRST)
    ledger.write(SECOND)

    assert ledger.find("20260823").run_id == FIRST.run_id
    with pytest.raises(UsageError, match="more than one run") as refused:
        ledger.find("202608")
    assert SECOND.run_id in refused.value.hint


def test_an_unknown_run_is_answered_with_the_known_ones(ledger: Ledger) -> None:
    ledger.write(FIRST)

    with pytest.raises(UsageError, match="'nope' is no run") as refused:
        ledger.find("nope")

    assert FIRST.run_id in refused.value.hint


def test_an_empty_ledger_says_so(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="knows no run"):
        ledger.find("last")


def test_a_cluster_without_results_is_no_run(ledger: Ledger) -> None:
    ledger.write(replace(FIRST, output=""))

    with pytest.raises(UsageError, match="knows no run"):
        ledger.find("last")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MachineError, match="cannot be written"):
        Ledger(tmp_path / "file" / "runs").write(FIRST)


def test_a_change_keeps_what_another_command_has_written_since(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    read = ledger.write(RunRecord("20260823-141502-k3f9", Target.EMR, RunPhase.SUBMITTED))
    ledger.write(replace(read, phase=RunPhase.DONE, cost_usd=1.25))

    ledger.update(read, folder="/fetched")

    after = ledger.load(read.run_id)
    assert after is not None
    assert (after.phase, after.cost_usd, after.folder) == (RunPhase.DONE, 1.25, "/fetched")


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_id": 5},
        {"output": 7},
        {"output": "\ud800"},
        {"images": "a\0b"},
        {"job": 7},
        {"cost_usd": "much"},
        {"lifetime_min": []},
        {"cluster_id": {}},
    ],
    ids=str,
)
def test_a_record_of_another_shape_hides_no_other(ledger: Ledger, wrong: dict[str, object]) -> None:
    ledger.write(FIRST)
    file = file_of(ledger, ledger.write(SECOND))
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    (ledger.folder / "20260825-090000-nest.json").write_text("[" * 5000)

    assert [record.run_id for record in ledger.records()] == [FIRST.run_id]
