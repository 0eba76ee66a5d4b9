"""Purging against the fake AWS: what is refused, what is stuck, and what a second run does."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fruits_cli.cloud.account import Foundation
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.foundations import foundation_names
from fruits_cli.cluster.plan import plan_cluster
from fruits_cli.commands.terminate import purge_account
from fruits_cli.config import Config
from fruits_cli.errors import CloudError, ConfigError, Forbidden, UsageError
from fruits_cli.job.model import model_artefact
from fruits_cli.ledger import Ledger
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session
from tests.support.fakes import FakeAccount, FakeAws
from tests.support.worlds import PYTHON, RUN_ID, config, observed

NAMES = foundation_names(config(), keep_alive=True)
NODES = f"EC2 role and instance profile {NAMES.instance_role}"


def purged(
    aws: FakeAws,
    folder: Path,
    *,
    yes: bool = True,
    dry_run: bool = False,
    elsewhere: Cloud | None = None,
) -> Outcome:
    session = session_on(aws, folder)
    return purge_account(
        config(), None, session, lambda _: elsewhere or aws.cloud, dry_run=dry_run, yes=yes
    )


def session_on(aws: FakeAws, folder: Path) -> Session:
    return Session(
        Screen(),
        Ledger(folder),
        aws.cloud,
        aws.clock,
        {},
        load_model=model_artefact,
        fetch_wheels=None,
    )


def with_roles() -> FakeAws:
    aws = FakeAws()
    aws.rights.made |= {NAMES.instance_role, NAMES.service_role}
    return aws


def start(aws: FakeAws) -> None:
    plan = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON)
    aws.clusters.start_cluster(plan.spec)


def test_what_cannot_be_removed_is_reported_and_the_rest_is_removed(tmp_path: Path) -> None:
    aws = with_roles()
    aws.rights.stuck.add(NAMES.instance_role)

    with pytest.raises(
        CloudError, match=f"Not removed: EC2 role and instance profile {NAMES.instance_role}"
    ):
        purged(aws, tmp_path)

    assert aws.rights.made == {NAMES.instance_role}
    aws.rights.stuck.clear()
    assert purged(aws, tmp_path).facts["removed"] == [NODES]
    assert aws.rights.made == set()


def test_what_may_not_be_read_is_reported_and_the_rest_is_removed(tmp_path: Path) -> None:
    aws = with_roles()
    aws.rights.hidden.add(Foundation.KEY_PAIR)

    with pytest.raises(CloudError, match=r"Not removed: any key pair \(not seen\)") as left:
        purged(aws, tmp_path)

    assert left.value.exit_code == 1
    assert aws.rights.made == set()


def test_nothing_left_is_no_error(tmp_path: Path) -> None:
    outcome = purged(FakeAws(), tmp_path)

    assert outcome.lines[-1] == "Nothing is left to remove."
    assert outcome.facts["removed"] == []


def test_security_configurations_with_and_without_the_key_go(tmp_path: Path) -> None:
    aws = FakeAws()
    keyed = foundation_names(config(cluster={"kms_key": "k"}), keep_alive=False)
    plain = foundation_names(config(), keep_alive=False)
    aws.rights.made |= {keyed.security_configuration, plain.security_configuration, "others"}
    session = session_on(aws, tmp_path)

    purge_account(config(cluster={"kms_key": "k"}), None, session, lambda _: aws.cloud, yes=True)

    assert aws.rights.made == {"others"}


def test_without_a_bucket_purge_refuses_and_ends_nothing(tmp_path: Path) -> None:
    aws = FakeAws()
    start(aws)
    session = session_on(aws, tmp_path)

    with pytest.raises(ConfigError, match="No bucket is configured"):
        purge_account(Config(), None, session, lambda _: aws.cloud, yes=True)

    assert aws.live_clusters() == ["fruits-fruits"]


class TwoRegions(FakeAccount):
    def regions(self) -> list[str]:
        return ["eu-west-3", "us-east-1"]


@dataclass
class Refusing:
    error: CloudError

    def find_clusters(self, **_: object) -> None:
        raise self.error


def test_a_region_that_the_organisation_shuts_does_not_keep_roles(tmp_path: Path) -> None:
    aws = with_roles()
    aws.account = TwoRegions()
    shut = replace(aws.cloud, clusters=Refusing(Forbidden("no")))  # type: ignore[arg-type]

    purged(aws, tmp_path, elsewhere=shut)

    assert aws.rights.made == set()


def test_a_region_that_cannot_be_asked_is_a_refusal_before_anything_ends(tmp_path: Path) -> None:
    aws = with_roles()
    aws.account = TwoRegions()
    start(aws)
    silence = Refusing(CloudError("AWS did not answer."))
    silent = replace(aws.cloud, clusters=silence)  # type: ignore[arg-type]

    with pytest.raises(CloudError, match="cluster in us-east-1 could not be checked") as refused:
        purged(aws, tmp_path, elsewhere=silent)

    assert "nothing was done" in str(refused.value)
    assert aws.live_clusters() == ["fruits-fruits"]
    assert aws.rights.made == {NAMES.instance_role, NAMES.service_role}


def test_all_that_goes_is_shown_before_the_one_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = with_roles()
    start(aws)

    with pytest.raises(UsageError, match=r"End cluster fruits-fruits \(j-0001\) and remove these"):
        purged(aws, tmp_path, yes=False)

    told = capsys.readouterr().err
    assert f"To be removed: {NODES}." in told
    assert "The bucket with its data" in told
    assert aws.live_clusters() == ["fruits-fruits"]


def test_a_dry_run_says_what_would_be_removed(tmp_path: Path) -> None:
    aws = with_roles()

    facts = purged(aws, tmp_path, dry_run=True).facts

    assert facts["to_remove"] == [NODES, f"EMR service role {NAMES.service_role}"]
    assert "removed" not in facts
    assert aws.rights.made == {NAMES.instance_role, NAMES.service_role}


def test_a_cluster_that_was_started_while_purge_asked_is_not_ended(tmp_path: Path) -> None:
    aws = with_roles()

    class Agreeing(Screen):
        def ask(self, question: str, *, yes: bool) -> None:
            if not yes:
                start(aws)

    here = replace(session_on(aws, tmp_path), screen=Agreeing())

    with pytest.raises(CloudError, match="may use what --purge removes; nothing was done"):
        purge_account(config(), None, here, lambda _: aws.cloud)

    assert aws.live_clusters() == ["fruits-fruits"]
    assert aws.rights.made == {NAMES.instance_role, NAMES.service_role}
