"""What `fruits status` and `fruits logs` look at: a cluster, all of them, or this folder's runs."""

from __future__ import annotations

from dataclasses import dataclass

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster
from fruits_cli.cloud.protocols import SystemClock
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.life import wait_until_ready
from fruits_cli.cluster.spark_ui import spark_ui_address
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.errors import ConfigError, UsageError
from fruits_cli.ledger import RunRecord, ledger_here
from fruits_cli.reporting import (
    all_clusters,
    cluster_logs,
    cluster_status,
    local_logs,
    local_status,
    record_for,
)
from fruits_cli.runs.follow import follow, state_of
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session

# A watcher gives up after as long as a cluster may live.
_WATCH_S = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Look:
    """What the user asked of `fruits status`."""

    cluster: str | None = None
    watch: bool = False
    everything: bool = False
    all_regions: bool = False


def look(config: Config, asked: Look, screen: Screen) -> Outcome:
    """The status that is meant: of all clusters, of one, or of this folder's runs."""
    if asked.everything or asked.all_regions:
        return _all(config, asked, screen)
    if asked.cluster is None and not _uses_cloud(config):
        return local_status(ledger_here())
    session = open_session(config, screen)
    try:
        cluster = _find(asked.cluster, session)
    except UsageError as error:
        if asked.cluster or isinstance(error, ConfigError):
            raise
        if session.cloud.clusters.find_clusters(live=True):
            raise
        return local_status(session.ledger)
    if asked.watch:
        watch(cluster, session)
        cluster = session.cloud.clusters.cluster(cluster.cluster_id)
    return cluster_status(cluster, session)


def _uses_cloud(config: Config) -> bool:
    """Whether this folder has to do with a cloud at all; asking AWS needs credentials."""
    if config.storage.bucket:
        return True
    return any(record.target is Target.EMR for record in ledger_here().records())


def _find(wanted: str | None, session: Session) -> Cluster:
    region = session.cloud.region
    return find_cluster(wanted, session.cloud.clusters, session.ledger, region=region, ended=True)


def _all(config: Config, asked: Look, screen: Screen) -> Outcome:
    from fruits_cli.aws.clients import connect_everywhere

    session = open_session(config, screen)
    regions = session.cloud.account.regions() if asked.all_regions else [session.cloud.region]
    return all_clusters(map(connect_everywhere(config.aws), regions), screen, SystemClock())


def watch(cluster: Cluster, session: Session) -> None:
    """Show the newest job until its end, or a cluster without jobs until it is ready."""
    state = state_of(cluster, None, session)
    step = state.step
    output = step.args[step.args.index("--output") + 1] if step and "--output" in step.args else ""
    if step and output and not state.is_final:
        record = RunRecord(
            step.name.removeprefix(EMR_NAME_PREFIX),
            Target.EMR,
            output=output,
            cluster_id=cluster.cluster_id,
            step_id=step.step_id,
        )
        follow(record, session, timeout_s=_WATCH_S)
    elif cluster.state.is_live and not cluster.state.is_ready:
        wait_until_ready(cluster.cluster_id, session)


def read_logs(
    config: Config, screen: Screen, *, run: str | None, cluster: str | None, workers: bool
) -> Outcome:
    """The logs that are meant: of a run of this machine, or of a cluster's job."""
    ledger = ledger_here()
    if run is not None:
        record = ledger.find(run)
        if record.target is Target.LOCAL:
            return local_logs(record)
        cluster = cluster or record.cluster_id or None
    elif cluster is None and not _uses_cloud(config):
        return local_logs(ledger.find("last"))
    session = open_session(config, screen)
    found = _find(cluster, session)
    return cluster_logs(found, record_for(found, run, ledger), session, workers=workers)


def open_spark_ui(
    config: Config, screen: Screen, *, run: str | None, cluster: str | None
) -> Outcome:
    """The address of the Spark UI of a cluster, also of one that has ended.

    Raises UsageError for a run of this machine.
    """
    if run is not None:
        record = ledger_here().find(run)
        if record.target is Target.LOCAL:
            raise UsageError(
                f"Run {record.run_id} ran on this machine, of which there is no Spark UI.",
                hint="fruits logs shows what its driver wrote.",
            )
        cluster = cluster or record.cluster_id or None
    session = open_session(config, screen)
    found = _find(cluster, session)
    screen.tell(f"Asking EMR for the Spark UI of {found.emr_name} ({found.cluster_id}).")
    address = spark_ui_address(found, session.cloud.clusters, session.clock)
    # Nobody but the reader of this answer is told: neither ledger nor log.
    screen.tell("It opens without any login, for a short while: treat it as a password.")
    return Outcome([address], {"url": address, "cluster_id": found.cluster_id})
