"""Commands against an AWS where things go wrong: exit code, one sentence, nothing forgotten."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fruits_cli import rehearsal
from fruits_cli.dataset.sample import draw_sample
from fruits_cli.rehearsal import Rehearsal
from tests.support.faults import SERVER, add_fault, clear_faults
from tests.support.paths import ROOT
from tests.support.rehearsed import Account
from tests.support.written_job import write_spark

QUICK = ROOT / "tests" / "support" / "quick_fruits.py"
PICTURES = 3
CREATE = ("create-cluster", "--yes")
UPLOAD = ("upload", "pictures", "--yes")
RUN = ("run", "pictures", "--target", "emr", "--yes", "--no-report")
ALWAYS = 0
EXPIRED = {
    "kind": "error",
    "status": 400,
    "code": "ExpiredTokenException",
    "message": "The security token included in the request is expired",
}


@dataclass
class Laptop:
    """A working folder beside an embedded AWS; waits pass thirty times as fast."""

    folder: Path
    found: Rehearsal
    cache: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str, quick: float = 30) -> subprocess.Popen[str]:
        environ = rehearsal.environ_beside(self.found, os.environ)
        environ.pop("PYTHONPATH", None)
        return subprocess.Popen(
            [sys.executable, QUICK, *words],
            cwd=self.folder,
            env={
                **environ,
                "HOME": str(self.folder.parent),
                "XDG_CACHE_HOME": str(self.cache),
                "QUICK": str(quick),
                **self.environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, quick: float = 30) -> tuple[int, str]:
        """Exit code, and what the user read."""
        with self.start(*words, quick=quick) as process:
            answer, story = process.communicate()
        assert "Traceback" not in story
        return process.returncode, story + answer


def live_clusters(found: Rehearsal) -> list[str]:
    clusters = Account(found).emr.list_clusters(
        ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
    )
    return [cluster["Name"] for cluster in clusters["Clusters"]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with pytest.MonkeyPatch.context() as patch:
        spark = write_spark(tmp_path_factory.mktemp("spark"), pictures=PICTURES)
        patch.setenv("PYTHONPATH", str(spark))
        folder = tmp_path_factory.mktemp("faulty")
        yield rehearsal.start(folder, minutes_per_second=600, quota_vcpus=1000, module=SERVER)
        rehearsal.stop(folder)


@pytest.fixture
def make_laptop(tmp_path: Path, machine_cache: Path) -> Callable[..., Laptop]:
    def made(found: Rehearsal, name: str = "laptop") -> Laptop:
        folder = tmp_path / name
        draw_sample(folder / "pictures", count=PICTURES)
        for file in sorted((folder / "pictures").rglob("*.*"))[PICTURES:]:
            file.unlink()
        bucket = f"fruits-{tmp_path.name.replace('_', '-').lower()[-40:].strip('-')}"
        (folder / "fruits.toml").write_text(
            f"[aws]\nregion = 'eu-west-3'\n[storage]\nbucket = '{bucket}'\n"
            "[job]\nweights = 'random'\nimage_size = 96\n"
        )
        return Laptop(folder, found, machine_cache)

    return made


@pytest.fixture
def laptop(shared: Rehearsal, make_laptop: Callable[..., Laptop]) -> Iterator[Laptop]:
    made = make_laptop(shared)
    yield made
    clear_faults(shared)
    assert made.run("terminate", "--yes")[0] == 0
    assert live_clusters(shared) == []


def fault(laptop: Laptop, kind: str, action: str = "*", **members: Any) -> None:
    add_fault(laptop.found, kind=kind, action=action, **members)


@pytest.mark.parametrize(
    ("kind", "action", "members"),
    [
        ("throttle", "RunJobFlow", {"times": 2}),
        ("error", "DescribeCluster", {"times": 3}),
        ("lost-answer", "RunJobFlow", {}),
        ("lost-answer", "CreateSecurityGroup", {"service": "ec2"}),
        ("lost-answer", "CreateSecurityConfiguration", {"service": "elasticmapreduce"}),
        ("lost-answer", "PutObject", {"service": "s3", "path": "/locks/"}),
        ("denied", "GetServiceQuota", {"times": ALWAYS}),
        ("denied", "GetProducts", {"times": ALWAYS}),
        ("denied", "DescribeSpotPriceHistory", {"times": ALWAYS}),
        ("denied", "ListInstances", {"times": ALWAYS}),
        ("denied", "SimulatePrincipalPolicy", {"times": ALWAYS}),
    ],
)
def test_a_cluster_comes_up_all_the_same(
    laptop: Laptop, kind: str, action: str, members: dict[str, Any]
) -> None:
    fault(laptop, kind, action, **members)

    code, text = laptop.run(*CREATE)

    assert code == 0, text
    assert len(live_clusters(laptop.found)) == 1


@pytest.mark.parametrize(
    ("words", "action", "right"),
    [
        (CREATE, "RunJobFlow", "elasticmapreduce:RunJobFlow"),
        (CREATE, "CreateBucket", "s3:CreateBucket"),
        (CREATE, "CreateRole", "iam:CreateRole"),
        (CREATE, "CreateSecurityGroup", "ec2:CreateSecurityGroup"),
        (UPLOAD, "PutObject", "s3:PutObject"),
        (RUN, "RunJobFlow", "elasticmapreduce:RunJobFlow"),
    ],
)
def test_a_right_that_is_missing_is_named_and_nothing_started(
    laptop: Laptop, words: tuple[str, ...], action: str, right: str
) -> None:
    fault(laptop, "denied", action, times=ALWAYS)

    code, text = laptop.run(*words)

    assert code == 1
    assert "AWS does not let you" in text
    assert right in text
    assert live_clusters(laptop.found) == []


@pytest.mark.parametrize(
    ("kind", "action", "members"),
    [
        ("slow-down", "PutObject", {"times": 3}),
        ("error", "ListSteps", {"times": 30}),
        ("error", "*", EXPIRED | {"service": "elasticmapreduce", "skip": 4, "times": 12}),
        ("error", "DescribeCluster", {"times": 100}),
        ("cut", "*", {"service": "s3", "times": 3}),
        ("cut", "PutObject", {"service": "s3", "times": 3}),
        ("cut", "GetObject", {"service": "s3", "times": 3, "path": "/features/"}),
        ("cut", "*", {"service": "elasticmapreduce", "skip": 4, "times": 40}),
    ],
    ids=[
        *("slow-down", "list-steps", "expired", "fifteen-minutes"),
        *("cut-at-once", "cut-while-sending", "cut-while-fetching", "cut-for-long-while-watching"),
    ],
)
def test_a_run_survives_temporary_faults(
    laptop: Laptop, kind: str, action: str, members: dict[str, Any]
) -> None:
    fault(laptop, **({"kind": kind, "action": action} | members))

    code, text = laptop.run(*RUN)

    assert code == 0, text
    assert (laptop.folder / "fruits-runs").is_dir()


def test_a_deleted_bucket_is_reported(laptop: Laptop) -> None:
    assert laptop.run(*UPLOAD)[0] == 0
    (laptop.folder / "pictures" / "more").mkdir()
    draw_sample(laptop.folder / "pictures" / "more" / "drawn", count=PICTURES)
    gone = {"code": "NoSuchBucket", "message": "The specified bucket does not exist"}
    fault(laptop, "error", "PutObject", service="s3", times=ALWAYS, status=404, **gone)

    code, text = laptop.run(*UPLOAD)

    assert code == 1
    assert "NoSuchBucket" in text


def test_an_upload_without_a_network_is_reported_and_continues_later(laptop: Laptop) -> None:
    fault(laptop, "cut", "PutObject", service="s3", skip=1, times=ALWAYS)
    code, text = laptop.run(*UPLOAD)
    clear_faults(laptop.found)
    again = laptop.run(*UPLOAD)

    assert code == 1
    assert "AWS did not answer" in text
    assert again[0] == 0, again[1]


def test_results_are_fetched_later_after_a_network_failure_and_the_cluster_stays(
    laptop: Laptop,
) -> None:
    fault(laptop, "cut", "GetObject", service="s3", path="manifest.json", times=ALWAYS)
    code, text = laptop.run(*RUN)
    living = live_clusters(laptop.found)
    clear_faults(laptop.found)
    again = laptop.run("run", "--resume", "last", "--yes")

    assert code != 0
    assert "fruits run --resume" in text, text
    assert len(living) <= 1
    assert again[0] == 0, again[1]
    assert list((laptop.folder / "fruits-runs").glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("service", "code"), [("s3", "RequestTimeTooSkewed"), ("ec2", "RequestInTheFuture")]
)
def test_a_wrong_clock_is_reported_and_nothing_starts(
    laptop: Laptop, service: str, code: str
) -> None:
    fault(laptop, "error", service=service, code=code, status=403, times=ALWAYS)

    exit_code, text = laptop.run(*CREATE)

    assert exit_code == 1
    assert "Set the clock" in text
    assert live_clusters(laptop.found) == []


def test_a_laptop_that_sleeps_again_and_again_runs_to_the_end(laptop: Laptop) -> None:
    with laptop.start(*RUN) as process:
        while process.poll() is None:
            # Two minutes asleep, then half a minute awake, at the pace of these tests.
            process.send_signal(signal.SIGSTOP)
            time.sleep(4)
            process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        answer, story = process.communicate()

    assert process.returncode == 0, story
    assert "Pictures: 3" in answer
    assert live_clusters(laptop.found) == []


def test_nothing_secret_is_left_anywhere(laptop: Laptop) -> None:
    token = "FwoGZXIvYXdzEtoken0fAsession"
    laptop.environ = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnsecretEXAMPLE", "AWS_SESSION_TOKEN": token}
    refused = f"The canonical string should have been 'PUT\nx-amz-security-token:{token}\n'"
    expired = {"code": "SignatureDoesNotMatch", "message": refused}
    fault(laptop, "lost-answer", "RunJobFlow")
    fault(laptop, "error", "PutObject", service="s3", status=400, skip=2, **expired)
    trace = str(laptop.folder / "aws.trace")

    said = [
        laptop.run(*words, "--trace", trace)[1]
        for words in (
            ("init", "--key"),
            UPLOAD,
            (*CREATE, "--output", "json"),
            ("submit", "--wait"),
            ("logs", "last", "--all"),
            ("status", "--output", "json"),
            ("fetch-results", "last"),
        )
    ]

    account = Account(laptop.found)
    left = {f"screen {number}": text for number, text in enumerate(said)}
    left |= files_below(laptop.folder) | objects_of(account) | steps_of(account)
    key_file = next(laptop.folder.parent.glob(".ssh/*.pem"))
    secrets = {token, "wJalrXUtnsecretEXAMPLE", laptop.found.key}
    secrets |= set(key_file.read_text().splitlines()[1:-1])
    found = [(name, secret) for name, text in left.items() for secret in secrets if secret in text]
    found += [(name, "a signature") for name, text in left.items() if "X-Amz-Signature=" in text]
    assert found == []
    assert any(name.endswith("stderr.gz") for name in left)


def files_below(folder: Path) -> dict[str, str]:
    return {
        str(file): file.read_bytes().decode("utf-8", "replace")
        for file in folder.rglob("*")
        if file.is_file()
    }


def objects_of(account: Account) -> dict[str, str]:
    """Every object of every bucket as text, unpacked where it is gzip."""
    texts = {}
    for bucket in account.s3.list_buckets()["Buckets"]:
        pages = account.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
        for found in (one for page in pages for one in page.get("Contents", [])):
            body = account.s3.get_object(Bucket=bucket["Name"], Key=found["Key"])["Body"].read()
            content = gzip.decompress(body) if found["Key"].endswith(".gz") else body
            texts[f"{bucket['Name']}/{found['Key']}"] = content.decode("utf-8", "replace")
    return texts


def steps_of(account: Account) -> dict[str, str]:
    """Every cluster and its steps, as EMR tells them."""
    clusters = [one["Id"] for one in account.emr.list_clusters()["Clusters"]]
    return {
        cluster_id: json.dumps(
            [
                account.emr.describe_cluster(ClusterId=cluster_id),
                account.emr.list_steps(ClusterId=cluster_id),
            ],
            default=str,
        )
        for cluster_id in clusters
    }


def test_a_bootstrap_that_fails_shows_its_log_and_leaves_no_cluster(laptop: Laptop) -> None:
    fault(laptop, "bootstrap", "1", status=17, message="pip: no space")

    code, text = laptop.run(*CREATE)

    assert code == 1
    assert "ended in stage bootstrap: pip: no space" in text
    assert live_clusters(laptop.found) == []


def test_a_run_survives_the_loss_of_its_spot_nodes(laptop: Laptop) -> None:
    fault(laptop, "reclaim", "TASK", path="/_chunks/")

    code, text = laptop.run(*RUN)

    assert code == 0, text
    assert "Pictures: 3" in text


def test_a_run_that_loses_all_core_nodes_says_so_and_continues_later(laptop: Laptop) -> None:
    fault(laptop, "reclaim", "CORE", path="/manifest.json")

    code, text = laptop.run(*RUN)

    assert code == 1
    assert (
        "Error: The cluster ended while the job ran: "
        "All slaves in the job flow were terminated due to Spot"
    ) in text
    assert "fruits run --resume" in text
    assert live_clusters(laptop.found) == []
    (run,) = (laptop.folder / ".fruits" / "runs").glob("*.json")
    kept = objects_of(Account(laptop.found))
    assert any(f"/runs/{run.stem}/_chunks/0.json" in name for name in kept)
    again = laptop.run("run", "--resume", "last", "--yes", "--no-report")
    assert again[0] == 0, again[1]


def test_a_traced_run_compared_with_itself_shows_no_difference(laptop: Laptop) -> None:
    file = laptop.folder / "aws.trace"

    code, text = laptop.run(*RUN, "--trace", str(file))
    command = [sys.executable, "-m", "fruits_cli.rehearsal", "--compare", str(file), str(file)]
    compared = subprocess.run(command, capture_output=True, text=True, check=False)

    assert code == 0, text
    assert compared.stdout == "0 differences\n", compared.stdout + compared.stderr
    told = file.read_text()
    assert "RunJobFlow" in told
    assert "123456789012" not in told
    assert laptop.found.key not in told
    assert file.stat().st_mode & 0o077 == 0


def test_two_laptops_at_once_make_one_cluster(
    laptop: Laptop, make_laptop: Callable[..., Laptop]
) -> None:
    other = make_laptop(laptop.found, "other")

    started = [one.start(*CREATE) for one in (laptop, other)]
    stories = [process.communicate()[1] for process in started]

    assert len(live_clusters(laptop.found)) == 1
    for process, story in zip(started, stories, strict=True):
        assert process.returncode == 0 or "has been launching the same thing" in story, story
    assert 0 in [process.returncode for process in started]


def test_a_cluster_stuck_in_starting_times_out_with_the_command_to_end_it(
    tmp_path: Path, make_laptop: Callable[..., Laptop]
) -> None:
    folder = tmp_path / "slow"
    laptop = make_laptop(rehearsal.start(folder, minutes_per_second=0.001))
    try:
        code, text = laptop.run(*CREATE, quick=600)

        assert code == 1
        assert "STARTING" in text
        assert "fruits terminate" in text
        assert len(live_clusters(laptop.found)) == 1
    finally:
        rehearsal.stop(folder)
