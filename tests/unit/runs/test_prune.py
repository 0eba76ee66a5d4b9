from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.protocols import StoredObject
from fruits_cli.cluster.notebook import cluster_notebook
from fruits_cli.commands.create_cluster import create
from fruits_cli.dataset.manifest import Shard, manifest_of
from fruits_cli.errors import AccessDenied, UsageError
from fruits_cli.files import templates_dir
from fruits_cli.runs.prune import find_unneeded, remove_unneeded, unneeded_lines
from fruits_cli.s3uri import S3Uri
from tests.support.fakes import FakeAws
from tests.support.scenes import put, session
from tests.support.worlds import BUCKET, RUN_ID, config

PLACES = places_of(config())
DAY_S = 24 * 3600.0


def shard(letter: str) -> Shard:
    return Shard(name=f"{letter * 64}.parquet", pictures=2, bytes=10, sha256=letter * 64)


def at(key: str) -> S3Uri:
    return S3Uri(BUCKET, f"fruits/{key}")


@pytest.fixture
def aws() -> FakeAws:
    """A dataset in its third state; a run is bound to the first, an unfinished one to nothing."""
    aws = FakeAws()
    aws.storage.create_bucket(BUCKET)
    states = [manifest_of([shard(letter)]) for letter in "abc"]
    for state in states:
        for one in state.shards:
            put(aws, at(f"datasets/Test/{one.name}"), {"rows": 2})
        put_text(aws, f"datasets/Test/manifests/{state.digest}.json", state.to_json())
    put_text(aws, "datasets/Test/dataset.json", states[2].to_json())
    run = {"dataset_digest": states[0].digest, "model_fingerprint": "m1", "code_digest": "c1"}
    put(aws, at("runs/20260801-100000-aaaa/manifest.json"), run)
    put(aws, at("runs/20260802-100000-bbbb/_plan/job.json"), {"fingerprint": "m2"})
    for key in ("models/m1/g", "models/m2/g", "models/m3/g", "code/c1/main.py", "code/c2/main.py"):
        put(aws, at(key), {})
    put(aws, at("logs/emr/j-1/steps/stderr"), {})
    aws.clock.sleep(2 * DAY_S)
    return aws


def put_text(aws: FakeAws, key: str, text: str) -> None:
    aws.storage.put_bytes(text.encode(), at(key))


def unneeded(aws: FakeAws) -> set[str]:
    found = find_unneeded(PLACES, aws.cloud, aws.clock)
    return {one.uri.key.removeprefix("fruits/") for kind in found for one in kind.objects}


def test_only_what_no_run_refers_to_is_unneeded(aws: FakeAws) -> None:
    second = manifest_of([shard("b")]).digest

    assert unneeded(aws) == {
        f"datasets/Test/{'b' * 64}.parquet",
        f"datasets/Test/manifests/{second}.json",
        "models/m3/g",
        "code/c2/main.py",
    }


def test_code_that_a_notebook_reads_is_needed(aws: FakeAws) -> None:
    template = (templates_dir() / "notebook.ipynb").read_text(encoding="utf-8")
    codes = [PLACES.code(letter * 32) / "spark_job.zip" for letter in "def"]
    for code in codes:
        aws.storage.put_bytes(b"", code)
    own, copied = (cluster_notebook(template, runs=PLACES.runs, code=one) for one in codes[:2])
    aws.storage.put_bytes(own.content, own.uri)
    aws.storage.put_bytes(copied.content, S3Uri(BUCKET, "jupyter/ada/my look at figs.ipynb"))
    aws.clock.sleep(2 * DAY_S)

    found = {key for key in unneeded(aws) if key.startswith("code/")}

    assert found == {"code/c2/main.py", f"code/{'f' * 32}/spark_job.zip"}


def test_logs_are_kept_for_sixty_days(aws: FakeAws) -> None:
    aws.clock.sleep(60 * DAY_S)

    assert "logs/emr/j-1/steps/stderr" in unneeded(aws)


def test_what_was_put_today_is_left_alone(aws: FakeAws) -> None:
    put(aws, at("models/m4/g"), {})

    assert "models/m4/g" not in unneeded(aws)


def test_an_upload_that_was_interrupted_keeps_its_shards(aws: FakeAws) -> None:
    put(aws, at(f"datasets/Other/{'d' * 64}.parquet"), {})
    aws.clock.sleep(2 * DAY_S)

    assert not any("Other" in key for key in unneeded(aws))


def test_removing_leaves_what_runs_refer_to(aws: FakeAws) -> None:
    found = find_unneeded(PLACES, aws.cloud, aws.clock)
    remove_unneeded(found, aws.storage)

    assert unneeded(aws) == set()
    keys = {key for _, key in aws.storage.objects}
    assert f"fruits/datasets/Test/{'a' * 64}.parquet" in keys
    assert f"fruits/datasets/Test/{'c' * 64}.parquet" in keys
    assert {"fruits/models/m1/g", "fruits/models/m2/g", "fruits/code/c1/main.py"} <= keys


def test_parts_of_uploads_that_nobody_finished_are_removed(aws: FakeAws) -> None:
    long_ago, now = aws.clock.now() - timedelta(days=3), aws.clock.now()
    left = StoredObject(at("runs/20260801-100000-aaaa/features/1"), 10, long_ago, "u1")
    under_way = replace(left, modified_at=now, upload_id="u2")
    not_ours = replace(left, uri=S3Uri(BUCKET, "films/1"), upload_id="u3")
    aws.storage.uploads = [left, under_way, not_ours]

    remove_unneeded(find_unneeded(PLACES, aws.cloud, aws.clock), aws.storage)

    assert aws.storage.uploads == [under_way, not_ours]


def test_who_may_not_list_unfinished_uploads_removes_the_rest(aws: FakeAws) -> None:
    def denied(below: S3Uri) -> NoReturn:
        raise AccessDenied("AWS does not let you list the unfinished uploads.")

    aws.storage.list_uploads = denied  # type: ignore[method-assign]

    assert "models/m3/g" in unneeded(aws)


def test_the_sum_has_a_price() -> None:
    assert unneeded_lines([]) == ["The bucket keeps nothing that no run needs."]


def test_a_live_cluster_of_the_bucket_forbids_it(aws: FakeAws, tmp_path: Path) -> None:
    create(config(), session(aws, tmp_path), RUN_ID, yes=True)

    with pytest.raises(UsageError, match="is live"):
        find_unneeded(PLACES, aws.cloud, aws.clock)


def test_a_broken_manifest_of_a_run_is_no_reason_to_remove_its_data(aws: FakeAws) -> None:
    put_text(aws, "runs/20260801-100000-aaaa/manifest.json", "{")
    put(aws, at("runs/20260801-100000-aaaa/_plan/job.json"), {"fingerprint": "m1"})

    assert "models/m1/g" not in unneeded(aws)
