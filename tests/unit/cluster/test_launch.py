from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from fruits_cli.cloud.account import Foundation, RoleFacts
from fruits_cli.cloud.clusters import OnFailure, StepSpec
from fruits_cli.cloud.policies import RoleSpec, instance_role, service_role
from fruits_cli.cluster.foundations import observe
from fruits_cli.cluster.launch import launch
from fruits_cli.cluster.lock import Holder, take_lock, this_process
from fruits_cli.cluster.plan import RunPlan, plan_cluster, plan_run
from fruits_cli.cluster.plan_report import cluster_lines
from fruits_cli.cluster.steps import MOST_STEPS, cancel, require_room, submit
from fruits_cli.config import Target
from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    ConfigError,
    Locked,
    MachineError,
    RoleNotReady,
)
from fruits_cli.ledger import Ledger, RunPhase, RunRecord
from fruits_cli.s3uri import S3Uri, parse_s3_uri
from spark_job.schema import stop_file
from tests.support.fakes import FakeAccount, FakeAws, FakeClock, FakeRights, FakeStorage
from tests.support.scenes import session
from tests.support.worlds import BUCKET, PYTHON, RUN_ID, config, job, observed

# The bucket is there; the others are no part of what is looked for before a launch.
_NOT_MISSING = {Foundation.BUCKET, Foundation.KEY_PAIR, Foundation.SECURITY_GROUP}
RECORD = RunRecord(RUN_ID, Target.EMR, cluster_name="fruits")


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def standing(**changes: object) -> RunPlan:
    return plan_cluster(config(), observed(**changes), run_id=RUN_ID, launch_id="l1", python=PYTHON)


def launched(aws: FakeAws, ledger: Ledger, plan: RunPlan) -> RunRecord:
    here = replace(session(aws, ledger.folder), ledger=ledger)
    aws.storage.create_bucket(BUCKET)
    lock = plan.places.lock(plan.name)
    take_lock(aws.storage, lock, this_process(plan.spec.launch_id))
    record = replace(RECORD, images="s3://b/x/") if plan.spec.step else RECORD
    return launch(plan, record, here, lock=lock)


def test_a_launch_is_in_the_ledger_with_its_cluster(aws: FakeAws, ledger: Ledger) -> None:
    record = launched(aws, ledger, standing())

    assert record.phase is RunPhase.LAUNCHED
    assert record.cluster_id == "j-0001"
    assert ledger.load(RUN_ID) == record


def test_a_launch_with_a_step_is_submitted_with_it(aws: FakeAws, ledger: Ledger) -> None:
    plan = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON)

    record = launched(aws, ledger, plan)

    assert record.phase is RunPhase.SUBMITTED
    assert [step.name for step in aws.clusters.steps("j-0001")] == [f"fruits-{RUN_ID}"]


def test_a_cluster_is_named_even_where_the_ledger_cannot_be_written(
    aws: FakeAws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class FullAfterThePlan(Ledger):
        def write(self, record: RunRecord, *, now: datetime | None = None) -> RunRecord:
            if record.cluster_id:
                raise MachineError("The ledger cannot be written: No space left on device.")
            return super().write(record, now=now)

    record = launched(aws, FullAfterThePlan(tmp_path), standing())

    assert record.cluster_id == "j-0001"
    told = capsys.readouterr().err
    assert told.index("Cluster j-0001 was started.") < told.index("No space left")
    assert "fruits terminate --cluster j-0001" in told


def test_a_launch_that_slept_past_its_lock_starts_nothing(aws: FakeAws, ledger: Ledger) -> None:
    plan = standing()
    lock = plan.places.lock(plan.name)
    here = replace(session(aws, ledger.folder), ledger=ledger)
    aws.storage.create_bucket(BUCKET)
    take_lock(aws.storage, lock, Holder("l2", "grace", "laptop"))

    with pytest.raises(Locked, match="grace on laptop took over its lock; nothing was started"):
        launch(plan, RECORD, here, lock=lock)

    assert aws.clusters.starts == 0
    # Grace's launch has found it.
    assert set(aws.rights.groups) == {"fruits-fruits-ssh"}


class _LosesAnswers(FakeStorage):
    """S3 that writes, and whose answer gets lost: a second attempt finds the object there."""

    def put_if_absent(self, content: bytes, uri: S3Uri) -> bool:
        super().put_if_absent(content, uri)
        return super().put_if_absent(content, uri)

    def replace_if_same(self, content: bytes, uri: S3Uri, *, etag: str) -> bool:
        super().replace_if_same(content, uri, etag=etag)
        return super().replace_if_same(content, uri, etag=etag)


def test_a_lock_whose_answer_got_lost_is_not_taken_for_somebody_elses() -> None:
    storage, lock = _LosesAnswers(FakeClock()), S3Uri(BUCKET, "locks/fruits")
    storage.create_bucket(BUCKET)

    take_lock(storage, lock, this_process("l1"))

    with pytest.raises(Locked):
        take_lock(storage, lock, this_process("l2"))


def test_a_lock_taken_over_tells_whose_it_was_even_if_its_answer_got_lost() -> None:
    storage, lock = _LosesAnswers(FakeClock()), S3Uri(BUCKET, "locks/fruits")
    storage.create_bucket(BUCKET)
    take_lock(storage, lock, replace(this_process("l1"), pid=2**22 + 1))

    assert take_lock(storage, lock, this_process("l2")) == "l1"


class _NoNetwork(FakeAccount):
    def network(self, subnets: Sequence[str]) -> None:
        return None


def test_an_account_without_a_default_vpc_is_told_before_anything_is_made(aws: FakeAws) -> None:
    cloud = replace(aws.cloud, account=_NoNetwork())

    with pytest.raises(ConfigError, match="no default VPC in eu-west-3") as refused:
        observe(config(), cloud, keep_alive=True)

    assert "--subnets" in refused.value.hint


def test_a_crash_at_launch_leaves_a_planned_record(aws: FakeAws, ledger: Ledger) -> None:
    aws.script.refusals = [AccessDenied("no")]

    with pytest.raises(AccessDenied):
        launched(aws, ledger, standing())

    left = ledger.load(RUN_ID)
    assert left is not None
    assert left.phase is RunPhase.PLANNED
    assert left.launch_id == "l1"
    assert left.cluster_id == ""


def test_a_lost_answer_is_looked_for_before_a_second_launch(aws: FakeAws, ledger: Ledger) -> None:
    aws.script.lost_after, aws.script.unseen_s = 1, 40

    record = launched(aws, ledger, standing())

    assert record.cluster_id == "j-0001"
    assert aws.clusters.starts == 1


def test_a_request_that_never_arrived_is_repeated_after_a_minute(
    aws: FakeAws, ledger: Ledger
) -> None:
    aws.script.lost_before = 1

    record = launched(aws, ledger, standing())

    assert record.cluster_id == "j-0001"
    assert aws.clusters.starts == 1
    assert aws.clock.now_s >= 60


def test_three_lost_requests_are_enough(aws: FakeAws, ledger: Ledger) -> None:
    aws.script.lost_before = 99

    with pytest.raises(CloudError, match="requested 3 times"):
        launched(aws, ledger, standing())

    assert aws.live_clusters() == []


def test_a_role_that_emr_does_not_see_yet_is_waited_for(aws: FakeAws, ledger: Ledger) -> None:
    aws.script.refusals = [RoleNotReady("not yet"), RoleNotReady("not yet")]

    assert launched(aws, ledger, standing()).cluster_id == "j-0001"


@dataclass
class _SlowIam(FakeRights):
    unseen: int = 2

    def make_role(self, spec: RoleSpec) -> None:
        if self.unseen:
            self.unseen -= 1
            raise RoleNotReady("The role cannot be found.")
        super().make_role(spec)


@pytest.mark.parametrize("unseen", [2, 99])
def test_a_role_that_iam_does_not_see_yet_is_made_to_its_end(
    aws: FakeAws, ledger: Ledger, unseen: int
) -> None:
    aws.rights = _SlowIam(unseen=unseen)
    plan = standing(missing=frozenset({Foundation.SERVICE_ROLE}))

    if unseen == 2:
        assert launched(aws, ledger, plan).cluster_id == "j-0001"
        assert plan.names.service_role in aws.rights.made
        return
    with pytest.raises(RoleNotReady):
        launched(aws, ledger, plan)
    assert aws.clusters.starts == 0


def test_a_role_that_never_becomes_valid_ends_the_wait(aws: FakeAws, ledger: Ledger) -> None:
    aws.script.refusals = [RoleNotReady("invalid")] * 99

    with pytest.raises(RoleNotReady):
        launched(aws, ledger, standing())

    assert 60 <= aws.clock.now_s < 120


def test_what_is_missing_is_made_and_found_the_next_time(aws: FakeAws, ledger: Ledger) -> None:
    aws.storage.create_bucket(BUCKET)
    before = observe(config(), aws.cloud, keep_alive=True)
    plan = plan_cluster(config(), before, run_id=RUN_ID, launch_id="l1", python=PYTHON)

    launched(aws, ledger, plan)

    assert before.missing == frozenset(Foundation) - _NOT_MISSING
    assert observe(config(), aws.cloud, keep_alive=True).missing == frozenset()


def out_of_date(aws: FakeAws, **changes: object) -> RunPlan:
    """A plan whose EC2 role is there, and not as this version writes it."""
    aws.storage.create_bucket(BUCKET)
    before = observe(config(), aws.cloud, keep_alive=True)
    plan = plan_cluster(config(), before, run_id=RUN_ID, launch_id="l1", python=PYTHON)
    spec = instance_role(plan.scope)
    aws.rights.make_role(spec)
    role = aws.rights.roles[spec.name]
    aws.rights.roles[spec.name] = replace(role, **changes)  # type: ignore[arg-type]
    before = observe(config(), aws.cloud, keep_alive=True)
    assert Foundation.INSTANCE_ROLE in before.missing
    return plan_cluster(config(), before, run_id=RUN_ID, launch_id="l1", python=PYTHON)


class _MayNotWrite(FakeRights):
    def make_role(self, spec: RoleSpec) -> None:
        raise AccessDenied("AWS does not let you make roles.")


@pytest.mark.parametrize("changes", [{"policy": {}}, {"profile": None}, {"trust": {}}])
def test_a_role_that_is_out_of_date_is_brought_up_to_date(
    aws: FakeAws, ledger: Ledger, changes: dict[str, object]
) -> None:
    plan = out_of_date(aws, **changes)
    told = cluster_lines(plan, observe(config(), aws.cloud, keep_alive=True))
    launched(aws, ledger, plan)

    name = f"EC2 role and instance profile {plan.names.instance_role}"
    assert f"Will be brought up to date: {name}." in told
    assert f"Will be made first: {name}." not in told
    assert observe(config(), aws.cloud, keep_alive=True).missing == frozenset()


def test_a_sufficient_role_that_may_not_be_updated_stays(
    aws: FakeAws, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = out_of_date(aws, policy={"Statement": []})
    aws.rights = _MayNotWrite(roles={**aws.rights.roles, **roles_of(plan)})

    record = launched(aws, ledger, plan)

    assert record.cluster_id == "j-0001"
    assert "is out of date, and could not be updated" in capsys.readouterr().err


def roles_of(plan: RunPlan) -> dict[str, RoleFacts]:
    """EMR's role as it should be."""
    rights = FakeRights()
    rights.make_role(service_role(plan.scope))
    return rights.roles


def test_an_incomplete_role_that_may_not_be_changed_stops_the_launch(
    aws: FakeAws, ledger: Ledger
) -> None:
    plan = out_of_date(aws, profile=None)
    aws.rights = _MayNotWrite(roles=aws.rights.roles)

    with pytest.raises(AccessDenied):
        launched(aws, ledger, plan)

    assert aws.clusters.starts == 0


def test_a_role_with_our_name_but_not_our_tag_is_refused_before_planning(
    aws: FakeAws,
) -> None:
    aws.storage.create_bucket(BUCKET)
    name = standing().names.instance_role
    aws.rights.roles[name] = RoleFacts({}, foreign=("role",))

    with pytest.raises(ConfigError, match=f"The role {name} was not made by fruits"):
        observe(config(), aws.cloud, keep_alive=True)


def test_a_standing_cluster_gets_its_own_security_group(aws: FakeAws, ledger: Ledger) -> None:
    launched(aws, ledger, standing())

    assert set(aws.rights.groups) == {"fruits-fruits-ssh"}


def test_runs_own_cluster_has_no_security_group(aws: FakeAws, ledger: Ledger) -> None:
    launched(
        aws,
        ledger,
        plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON),
    )

    assert aws.rights.groups == {}


def test_a_launch_that_is_denied_leaves_no_security_group(aws: FakeAws, ledger: Ledger) -> None:
    aws.script.refusals = [AccessDenied("no")]

    with pytest.raises(AccessDenied):
        launched(aws, ledger, standing())

    assert aws.rights.groups == {}


def test_a_step_whose_answer_got_lost_is_not_added_twice(aws: FakeAws, ledger: Ledger) -> None:
    record = launched(aws, ledger, standing())
    step = plan_run(
        config(), observed(), job(), run_id=RUN_ID, launch_id="l2", python=PYTHON
    ).spec.step
    assert step is not None
    aws.script.lost_after = 1

    record = submit(step, record, replace(session(aws, ledger.folder), ledger=ledger))

    assert record.phase is RunPhase.SUBMITTED
    assert len(aws.clusters.steps(record.cluster_id)) == 1
    assert ledger.load(RUN_ID) == record


def test_a_full_queue_of_steps_is_refused_before_emr_does(aws: FakeAws, ledger: Ledger) -> None:
    record = launched(aws, ledger, standing())
    for number in range(MOST_STEPS - 1):
        aws.clusters.add_step(record.cluster_id, StepSpec(str(number), (), OnFailure.CONTINUE))
    require_room(record.cluster_id, aws.clusters)
    aws.clusters.add_step(record.cluster_id, StepSpec("last", (), OnFailure.CONTINUE))

    with pytest.raises(CloudError, match="EMR takes 256 at most"):
        require_room(record.cluster_id, aws.clusters)


def launched_with_step(aws: FakeAws, ledger: Ledger) -> RunRecord:
    """A kept cluster whose first step is the run's job."""
    plan = plan_run(
        config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON, keep=True
    )
    return replace(launched(aws, ledger, plan), step_id="s-0001-1")


def test_cancelling_a_running_step_also_ends_what_it_left_in_yarn(
    aws: FakeAws, ledger: Ledger
) -> None:
    record = launched_with_step(aws, ledger)
    aws.clock.sleep(aws.script.boot_s + 10)

    cancel(record, aws.cloud)

    assert aws.clusters.cancelled == [record.step_id]
    names = [step.name for step in aws.clusters.steps(record.cluster_id)]
    assert names == [f"fruits-stop-{RUN_ID}", f"fruits-{RUN_ID}"]


def test_cancelling_asks_the_job_to_stop_for_its_kill_step_may_queue(
    aws: FakeAws, ledger: Ledger
) -> None:
    record = launched_with_step(aws, ledger)
    aws.clock.sleep(aws.script.boot_s + 10)

    cancel(record, aws.cloud)

    asked = parse_s3_uri(job().places.output) / stop_file("l1")
    assert aws.storage.puts[-1] == asked.key


def test_cancelling_a_waiting_step_needs_no_second_one(aws: FakeAws, ledger: Ledger) -> None:
    record = launched_with_step(aws, ledger)

    cancel(record, aws.cloud)

    assert not [key for key in aws.storage.puts if "/stop-" in key]
    assert len(aws.clusters.steps(record.cluster_id)) == 1


def test_the_ledger_keeps_the_time_of_the_first_writing(aws: FakeAws, ledger: Ledger) -> None:
    first = ledger.write(RECORD)

    second = ledger.write(replace(first, phase=RunPhase.DONE))

    assert second.created_at == first.created_at
