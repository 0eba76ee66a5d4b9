"""A cluster's life: made once for its name, waited for, ended, billed."""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fruits_cli.cloud import Clock, Cloud
from fruits_cli.cluster import EMR_NAME_PREFIX, LAUNCH_ID_TAG, Cluster
from fruits_cli.config import Config
from fruits_cli.diagnose import Evidence, diagnose, proof_lines
from fruits_cli.errors import CloudError, Locked
from fruits_cli.execute import launch, look_for
from fruits_cli.joblogs import JobLogs, fetch_logs
from fruits_cli.ledger import Ledger
from fruits_cli.locks import Holder, read_lock, release_lock, take_lock
from fruits_cli.models import Progress, RunPhase, RunRecord, S3Uri, Target
from fruits_cli.observe import check_bucket
from fruits_cli.plan import RunPlan
from fruits_cli.pricing import Bill, bill_line, cluster_bill
from fruits_cli.session import Session
from fruits_cli.targets import records_of
from fruits_cli.watch import watch_cluster

_READY_TIMEOUT_S, _END_TIMEOUT_S = 45 * 60.0, 40 * 60.0
# EMR copies logs every five minutes.
_LOGS_AFTER_S, _LOGS_POLL_S = 330.0, 15.0
_GROUP_TIMEOUT_S, _GROUP_POLL_S = 300.0, 10.0


def new_launch_id() -> str:
    """An id that no other launch has."""
    return uuid.uuid4().hex


def holder(launch_id: str) -> Holder:
    """Who we are, for those who find our lock."""
    return Holder(launch_id, getpass.getuser(), socket.gethostname())


def living(name: str, cloud: Cloud) -> Cluster | None:
    """The live cluster of that name, None where there is none."""
    found = cloud.clusters.find_clusters(live=True, emr_name=f"{EMR_NAME_PREFIX}{name}")
    return next((one for one in found if one.state.is_live and one.name == name), None)


def launch_once(plan: RunPlan, record: RunRecord, session: Session, *, adopt: bool) -> RunRecord:
    """Launch under the lock of the plan's name, so that there is one such cluster.

    adopt: take one that lives already. Raises Locked where somebody else launches or has it.
    """
    cloud, ledger, clock = session.cloud, session.ledger, session.clock
    lock = plan.places.lock(plan.name)
    if not check_bucket(cloud, plan.places.bucket):
        # The lock lies in the bucket, so the bucket comes before everything else.
        cloud.storage.create_bucket(plan.places.bucket)
    dead = _dead_launches(lock, session)
    take_lock(cloud.storage, lock, holder(plan.spec.launch_id), clock=clock, own=dead)
    try:
        # Whoever held the lock before us may have brought it up.
        if cluster := living(plan.name, cloud):
            if adopt:
                return adopted(cluster, record, ledger)
            raise Locked(
                f"Run {plan.run_id} is at work already, on {cluster.cluster_id}.",
                hint=f"fruits status --cluster {cluster.cluster_id}",
            )
        record = launch(plan, record, cloud=cloud, ledger=ledger, clock=clock)
        # Until the list shows it, the next to hold the lock would not see it.
        look_for(plan.spec.emr_name, plan.spec.launch_id, cloud.clusters, clock)
        return record
    finally:
        release_lock(cloud.storage, lock, plan.spec.launch_id)


def _dead_launches(lock: S3Uri, session: Session) -> list[str]:
    """Launch ids of this folder that hold the lock and led to no cluster."""
    held = read_lock(session.cloud.storage, lock)
    if held is None:
        return []
    for record in session.ledger.records():
        if record.launch_id == held.holder.launch_id and not record.cluster_id:
            name = f"{EMR_NAME_PREFIX}{record.cluster_name}"
            found = look_for(name, record.launch_id, session.cloud.clusters, session.clock)
            return [] if found else [record.launch_id]
    return []


def adopted(cluster: Cluster, record: RunRecord, ledger: Ledger) -> RunRecord:
    """The record of a cluster that lived already, written to the ledger unless it is there."""
    for known in records_of(cluster.cluster_id, ledger):
        if not known.images:
            return known
    launch_id = cluster.tags.get(LAUNCH_ID_TAG, "")
    for known in ledger.records():
        if known.launch_id and known.launch_id == launch_id:
            record = known
    return ledger.write(
        replace(
            record,
            phase=RunPhase.LAUNCHED,
            launch_id=launch_id,
            cluster_id=cluster.cluster_id,
        )
    )


def cluster_record(config: Config, plan: RunPlan, region: str) -> RunRecord:
    """The record of a launch that is about to happen."""
    return RunRecord(
        plan.run_id,
        Target.EMR,
        region=region,
        cluster_name=plan.name,
        launch_id=plan.spec.launch_id,
        job=config.job.model_dump(mode="json", exclude={"target", "output_dir"}),
    )


def wait_until_ready(cluster_id: str, session: Session) -> Cluster:
    """The cluster once it takes steps. Raises CloudError with the cause where it ends instead."""
    last: list[Cluster] = []
    states = watch_cluster(
        session.cloud.clusters,
        cluster_id,
        until=lambda state: state.is_ready,
        clock=session.clock,
        timeout_s=_READY_TIMEOUT_S,
    )
    session.screen.follow(_shown(states, last))
    if not last[-1].state.is_ready:
        raise failed_cluster(last[-1], session)
    return last[-1]


def failed_cluster(cluster: Cluster, session: Session) -> CloudError:
    """Why the cluster did not come up, or went down, as an error."""
    logs = _boot_logs(cluster, session)
    found = diagnose(Evidence(cluster=cluster, logs=logs.telling))
    for line in proof_lines(found):
        session.screen.tell(line)
    return CloudError(
        f"Cluster {cluster.cluster_id} ended in stage {found.stage}: {found.cause}",
        hint=found.hint,
    )


def _boot_logs(cluster: Cluster, session: Session) -> JobLogs:
    """The cluster's logs; those of a failed bootstrap come minutes after it."""
    clock = session.clock
    failed = any(error.code.startswith("BOOTSTRAP_FAILURE") for error in cluster.errors)
    until = clock.monotonic() + (_LOGS_AFTER_S if failed else 0)
    while True:
        logs = fetch_logs(session.cloud.storage, cluster, "", workers=False)
        if logs.bootstrap or clock.monotonic() >= until:
            return logs
        session.screen.detail("Waiting until EMR has copied the bootstrap's log to S3.")
        clock.sleep(_LOGS_POLL_S)


@dataclass(frozen=True)
class Ended:
    """A cluster that is gone, and what it cost."""

    cluster: Cluster
    bill: Bill | None
    line: str


def end_cluster(cluster_id: str, session: Session) -> Ended:
    """End the cluster, wait until it is gone, remove its security group; its bill.

    One that is gone already is no error. Raises CloudError.
    """
    clusters = session.cloud.clusters
    cluster = clusters.cluster(cluster_id)
    if cluster.state.is_live:
        clusters.stop_cluster(cluster_id)
    if not cluster.state.is_final:
        last: list[Cluster] = []
        states = watch_cluster(
            clusters,
            cluster_id,
            until=lambda state: state.is_final,
            clock=session.clock,
            timeout_s=_END_TIMEOUT_S,
        )
        session.screen.follow(_shown(states, last))
        cluster = last[-1]
    _delete_ssh_group(cluster, session)
    for record in records_of(cluster_id, session.ledger):
        phase = record.phase if record.phase.is_final else _phase_at_end(record)
        session.ledger.write(replace(record, cluster_ended=True, phase=phase))
    bill, line = bill_of(cluster, session.cloud, session.clock)
    return Ended(cluster, bill, line)


def _phase_at_end(record: RunRecord) -> RunPhase:
    return RunPhase.CANCELLED if record.images else RunPhase.DONE


def _delete_ssh_group(cluster: Cluster, session: Session) -> None:
    group = f"{EMR_NAME_PREFIX}{cluster.name}-ssh"
    until = session.clock.monotonic() + _GROUP_TIMEOUT_S
    try:
        # EC2 holds on to the group until the last network interface is gone.
        while not session.cloud.rights.delete_ssh_group(group):
            if session.clock.monotonic() >= until:
                session.screen.warn(f"Security group {group} is still in use; it costs nothing.")
                return
            session.clock.sleep(_GROUP_POLL_S)
    except CloudError as error:
        session.screen.warn(f"Security group {group} was not removed: {error}")


def bill_of(cluster: Cluster, cloud: Cloud, clock: Clock) -> tuple[Bill | None, str]:
    """What the cluster cost until now, and the same as a line; None where AWS does not tell."""
    try:
        nodes = cloud.clusters.nodes(cluster.cluster_id)
        prices = cloud.account.prices(sorted({node.instance_type for node in nodes}))
    except CloudError as error:
        return None, f"unknown ({error})"
    now = cluster.ended_at or clock.now()
    bill = cluster_bill(nodes, prices, zone=cluster.zone, now=now)
    return bill, bill_line(bill, prices) if nodes else "nothing: no instance was started"


def _shown(states: Iterator[Cluster], last: list[Cluster]) -> Iterator[Progress]:
    for cluster in states:
        last.append(cluster)
        yield Progress(f"cluster {cluster.cluster_id} {cluster.state}", 0, 0, 0.0)


def missing_lines(plan: RunPlan) -> list[str]:
    """What the launch will make first, one line each."""
    names = {
        "bucket": plan.places.bucket,
        "EC2 role and instance profile": plan.names.instance_role,
        "EMR service role": plan.names.service_role,
        "security configuration": plan.names.security_configuration,
        "service-linked role": "AWSServiceRoleForEMRCleanup",
        "tags on subnets and VPC": ", ".join(plan.network.untagged) if plan.network else "",
    }
    lines = [f"{what.value} {names[what.value]}" for what in sorted(plan.missing)]
    return [*lines, f"security group {plan.ssh_group}"] if plan.ssh_group else lines
