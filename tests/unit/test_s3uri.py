from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.ledger import RunPhase, RunRecord, is_run_id, new_run_id
from fruits_cli.s3uri import S3Uri, is_s3_uri, parse_s3_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://pictures/a/b.jpg", S3Uri("pictures", "a/b.jpg")),
        ("s3a://pictures/a/", S3Uri("pictures", "a/")),
        ("s3n://my.old-bucket/", S3Uri("my.old-bucket", "")),
        ("s3://pictures", S3Uri("pictures", "")),
        ("s3://pictures/a b/é#?.jpg", S3Uri("pictures", "a b/é#?.jpg")),
    ],
)
def test_an_address_on_s3_has_a_bucket_and_a_key(text: str, uri: S3Uri) -> None:
    assert is_s3_uri(text)
    assert parse_s3_uri(text) == uri


@pytest.mark.parametrize(
    "text",
    [
        "pictures/a",
        "s3:/pictures",
        "s3:///a",
        "s3://Upper/a",
        "s3://a",
        "gs://pictures/a",
        "",
        "s3",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not an S3 address"):
        parse_s3_uri(text)


@pytest.mark.parametrize("key", ["runs", "runs/"])
def test_a_name_is_put_below_a_prefix_with_one_slash(key: str) -> None:
    assert str(S3Uri("bucket", key) / "r1/") == "s3://bucket/runs/r1/"


def test_a_name_is_put_below_a_bucket_without_a_slash_before_it() -> None:
    assert str(S3Uri("bucket", "") / "runs/") == "s3://bucket/runs/"


def test_run_ids_sort_by_time() -> None:
    early = new_run_id(datetime(2026, 8, 23, 14, 15, 2, tzinfo=UTC))
    late = new_run_id(datetime(2026, 8, 23, 14, 15, 3, tzinfo=UTC))

    assert early.startswith("20260823-141502-")
    assert early < late
    assert is_run_id(early)


def test_two_runs_of_one_second_differ() -> None:
    moment = datetime(2026, 8, 23, tzinfo=UTC)

    assert len({new_run_id(moment) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "text",
    ["last", "20260823", "20260823-141502", "20260823-141502-k3f9x", "../20260823-141502-k3f9"],
)
def test_a_part_of_a_run_id_is_none(text: str) -> None:
    assert not is_run_id(text)


def test_a_record_cannot_be_changed() -> None:
    record = RunRecord("20260823-141502-k3f9", Target.LOCAL)

    with pytest.raises(FrozenInstanceError):
        record.phase = RunPhase.DONE  # type: ignore[misc]


def test_a_run_is_over_when_it_is_done_failed_or_cancelled() -> None:
    assert {phase.value for phase in RunPhase if phase.is_final} == {"done", "failed", "cancelled"}
