"""What a launch that died leaves, and what the next command makes of it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.launch import forget_dead_launches
from fruits_cli.cluster.lock import take_lock, this_process
from fruits_cli.commands.create_cluster import create
from fruits_cli.commands.terminate import terminate_cluster
from fruits_cli.config import Config
from fruits_cli.errors import CloudError
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.session import Session
from tests.support.fakes import FakeAws
from tests.support.scenes import session
from tests.support.worlds import RUN_ID, config

OTHER_RUN = "20260823-160000-abcd"
THIRD_RUN = "20260823-170000-efgh"
# Larger than Linux and macOS count.
_NO_PROCESS = 2**22 + 1


def record_of(here: Session, run_id: str) -> RunRecord:
    record = here.ledger.load(run_id)
    assert record is not None
    return record


def killed_after_launch(aws: FakeAws, here: Session, settings: Config) -> None:
    """create-cluster, killed when RunJobFlow was done and before it was written down."""
    create(settings, here, RUN_ID, yes=True)
    record = record_of(here, RUN_ID)
    here.ledger.write(replace(record, phase=RunPhase.PLANNED, cluster_id=""))
    lock = places_of(settings).lock(settings.cluster.name)
    take_lock(aws.storage, lock, replace(this_process(record.launch_id), pid=_NO_PROCESS))


def test_a_killed_launch_is_ended_by_its_id_beside_a_colleagues_cluster(tmp_path: Path) -> None:
    aws = FakeAws()
    here, elsewhere = session(aws, tmp_path), session(aws, tmp_path / "colleague")
    killed_after_launch(aws, here, config())
    create(config(cluster={"name": "pears"}), elsewhere, OTHER_RUN, yes=True)

    outcome = terminate_cluster(None, here, yes=True)
    forget_dead_launches(places_of(config()), here)

    assert outcome.facts["cluster_id"] == "j-0001"
    assert aws.live_clusters() == ["fruits-pears"]
    assert record_of(here, RUN_ID).phase is RunPhase.CANCELLED
    assert [key for _, key in aws.storage.objects if "/locks/" in key] == []


def test_the_record_of_a_killed_launch_stays_while_its_cluster_lives(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    killed_after_launch(aws, here, config())

    forget_dead_launches(places_of(config()), here)

    assert record_of(here, RUN_ID).phase is RunPhase.PLANNED


def test_an_s3_that_does_not_answer_is_no_error_after_the_end(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    killed_after_launch(aws, here, config())

    def silent(*_: object) -> None:
        raise CloudError("S3 did not answer.")

    aws.storage.list_objects = aws.storage.fetch_bytes = silent  # type: ignore

    terminate_cluster(None, here, yes=True)
    forget_dead_launches(places_of(config()), here)

    assert aws.live_clusters() == []


def test_the_cluster_of_a_killed_launch_is_found_though_the_list_lags(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    killed_after_launch(aws, here, config())
    aws.script.unseen_s = aws.clock.now_s + 40

    create(config(), here, OTHER_RUN, yes=True)

    assert aws.clusters.starts == 1


def test_terminate_waits_until_the_list_shows_what_a_killed_launch_started(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    killed_after_launch(aws, here, config())
    aws.script.unseen_s = aws.clock.now_s + 40

    outcome = terminate_cluster(None, here, yes=True)

    assert outcome.facts["cluster_id"] == "j-0001"
    assert aws.clusters.cluster("j-0001").state.is_final


def meanwhile(aws: FakeAws, act: Callable[[], object]) -> None:
    """What another terminal does while this one waits for the first time."""
    sleep = aws.clock.sleep

    def slept(seconds: float) -> None:
        aws.clock.sleep = sleep  # type: ignore[method-assign]
        sleep(seconds)
        act()

    aws.clock.sleep = slept  # type: ignore[method-assign]


def test_terminate_leaves_the_group_to_the_cluster_that_another_terminal_starts(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    create(config(), here, RUN_ID, yes=True)
    meanwhile(aws, lambda: create(config(), here, OTHER_RUN, yes=True))

    terminate_cluster("j-0001", here, yes=True)

    assert aws.live_clusters() == ["fruits-fruits"]
    assert set(aws.rights.groups) == {"fruits-fruits-ssh"}


@pytest.mark.parametrize("pid", [os.getpid(), _NO_PROCESS], ids=["at work", "dead"])
def test_terminate_leaves_the_group_to_a_launch_that_is_under_way(tmp_path: Path, pid: int) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    create(config(), here, RUN_ID, yes=True)
    lock = places_of(config()).lock("fruits")
    take_lock(aws.storage, lock, replace(this_process("l2"), pid=pid))

    terminate_cluster("j-0001", here, yes=True)

    assert bool(aws.rights.groups) is (pid == os.getpid())
