"""A cluster's life: made once for its name, waited for, ended, billed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster
from fruits_cli.cloud.protocols import Clock, Cloud
from fruits_cli.cluster.cost import Bill, bill_line, cluster_bill
from fruits_cli.cluster.diagnosis import Evidence, diagnose, proof_lines
from fruits_cli.cluster.logs import JobLogs, fetch_logs
from fruits_cli.cluster.watch import watch_cluster
from fruits_cli.errors import CloudError
from fruits_cli.ledger import RunPhase, RunRecord, records_of
from fruits_cli.screen import Progress
from fruits_cli.session import Session

_READY_TIMEOUT_S, _END_TIMEOUT_S = 45 * 60.0, 40 * 60.0
# EMR copies logs every five minutes.
_LOGS_AFTER_S, _LOGS_POLL_S = 330.0, 15.0
_GROUP_TIMEOUT_S, _GROUP_POLL_S = 300.0, 10.0


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
