"""Waits for a cluster, ends it, and computes its bill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, Cluster, ClusterState, ssh_group_name
from fruits_cli.cloud.layout import places_of_logs
from fruits_cli.cloud.protocols import Clock, Cloud
from fruits_cli.cluster.cost import Bill, bill_line, cluster_bill
from fruits_cli.cluster.diagnosis import Evidence, diagnose, proof_lines
from fruits_cli.cluster.launch import living
from fruits_cli.cluster.lock import read_lock, release_lock
from fruits_cli.cluster.logs import await_logs, failed_in_bootstrap, fetch_logs
from fruits_cli.cluster.watch import watch_cluster
from fruits_cli.errors import CloudError
from fruits_cli.ledger import RunPhase, records_of
from fruits_cli.screen import Progress
from fruits_cli.session import Session
from fruits_cli.signals import held

_READY_TIMEOUT_S, _END_TIMEOUT_S = 45 * 60.0, 40 * 60.0
_GROUP_TIMEOUT_S, _GROUP_POLL_S = 300.0, 10.0
_USUAL = {
    ClusterState.STARTING: "usually 6 to 12 minutes until it takes jobs",
    ClusterState.BOOTSTRAPPING: "installing what the nodes need",
    ClusterState.TERMINATING: "usually 1 to 3 minutes",
}


def wait_until_ready(cluster_id: str, session: Session) -> Cluster:
    """The cluster once it takes steps. Raises CloudError with the cause where it ends instead."""
    cluster = _followed(cluster_id, lambda state: state.is_ready, session, _READY_TIMEOUT_S)
    if not cluster.state.is_ready:
        raise failed_cluster(cluster, session)
    return cluster


def _followed(
    cluster_id: str, until: Callable[[ClusterState], bool], session: Session, timeout_s: float
) -> Cluster:
    states = watch_cluster(
        session.cloud.clusters,
        cluster_id,
        until=until,
        clock=session.clock,
        timeout_s=timeout_s,
        tell=session.screen.warn,
    )
    cluster = session.screen.follow(states, shown=cluster_progress)
    assert cluster is not None
    return cluster


def cluster_progress(cluster: Cluster) -> Progress:
    """A cluster's state as the bar shows it, with how long it usually takes."""
    usual = _USUAL.get(cluster.state, "")
    return Progress(f"cluster {cluster.cluster_id} {cluster.state}", 0, 0, 0.0, usual)


def failed_cluster(cluster: Cluster, session: Session) -> CloudError:
    """Why the cluster did not come up, or went down, as an error."""
    if failed_in_bootstrap(cluster):
        logs = await_logs(session, cluster, "", is_enough=lambda found: bool(found.bootstrap))
    else:
        logs = fetch_logs(session.cloud.storage, cluster, "", workers=False)
    found = diagnose(Evidence(cluster=cluster, logs=logs.telling))
    for line in proof_lines(found):
        session.screen.tell(line)
    return CloudError(
        f"Cluster {cluster.cluster_id} ended in stage {found.stage}: {found.cause}",
        hint=found.hint,
    )


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
    cluster = session.cloud.clusters.cluster(cluster_id)
    if cluster.state.is_live:
        with _saying_that_it_ends(cluster_id, session):
            stop_cluster(cluster_id, session)
    return await_end(cluster_id, session)


def stop_cluster(cluster_id: str, session: Session) -> None:
    """Ask EMR to end the cluster; signals wait until it has answered. Raises CloudError."""
    with held():
        session.cloud.clusters.stop_cluster(cluster_id)


@contextmanager
def _saying_that_it_ends(cluster_id: str, session: Session) -> Iterator[None]:
    """Say of a cluster that was asked to end that an interrupt changes nothing about it."""
    try:
        yield
    except KeyboardInterrupt:
        session.screen.tell(
            f"Not waiting: EMR goes on ending cluster {cluster_id}; "
            f"fruits status --cluster {cluster_id} shows when it is gone."
        )
        raise


def await_end(cluster_id: str, session: Session) -> Ended:
    """Wait until the cluster is gone; remove its security group, close its records; its bill."""
    cluster = session.cloud.clusters.cluster(cluster_id)
    if not cluster.state.is_final:
        with _saying_that_it_ends(cluster_id, session):
            cluster = _followed(cluster_id, lambda state: state.is_final, session, _END_TIMEOUT_S)
    _delete_ssh_group(cluster, session)
    release_launch_lock(cluster, session)
    bill, line = bill_of(cluster, session.cloud, session.clock)
    for record in records_of(cluster_id, session.ledger):
        ended = RunPhase.CANCELLED if record.images else RunPhase.DONE
        phase = record.phase if record.phase.is_final else ended
        record = replace(record, cluster_ended=True, phase=phase)
        if bill:
            record = replace(record, cost_usd=bill.usd, cluster_seconds=bill.seconds)
            record = replace(record, cluster_shape=bill.shape)
        session.note(record)
    return Ended(cluster, bill, line)


def _delete_ssh_group(cluster: Cluster, session: Session) -> None:
    group = ssh_group_name(cluster.name)
    if _has_successor(cluster, session):
        return
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


def _has_successor(cluster: Cluster, session: Session) -> bool:
    """Whether another launch of that name has found the group and uses it, or is about to."""
    with suppress(CloudError):
        if living(cluster.name, session.cloud):
            return True
        if cluster.log_uri:
            lock = places_of_logs(cluster.log_uri).lock(cluster.name)
            held = read_lock(session.cloud.storage, lock)
            is_anothers = held and held.holder.launch_id != cluster.tags.get(LAUNCH_ID_TAG)
            return bool(held and is_anothers and not held.holder.has_died)
    return False


def release_launch_lock(cluster: Cluster, session: Session) -> None:
    """A launch that was killed after RunJobFlow leaves its lock."""
    launch_id = cluster.tags.get(LAUNCH_ID_TAG)
    if cluster.log_uri is None or not launch_id:
        return
    lock = places_of_logs(cluster.log_uri).lock(cluster.name)
    with suppress(CloudError):
        release_lock(session.cloud.storage, lock, launch_id)


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
