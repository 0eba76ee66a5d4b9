"""fruits status: clusters, steps, progress, time and dollars so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster, Step, StepState
from fruits_cli.cloud.protocols import Clock, Cloud, SystemClock
from fruits_cli.cluster.diagnosis import report_lines
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.life import bill_of, wait_until_ready
from fruits_cli.cluster.watch import RunState
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.errors import CloudError, ConfigError, UsageError
from fruits_cli.job.progress import argument
from fruits_cli.ledger import Ledger, RunRecord, ledger_here
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.runs.follow import diagnosed, follow, has_failed, jobs_on, state_of
from fruits_cli.runs.overview import HEADS, known_runs, run_facts, run_rows
from fruits_cli.screen import Outcome, Screen, Table
from fruits_cli.session import Session

Watch = Annotated[bool, typer.Option("--watch", help="Follow the newest job to its end.")]
All = Annotated[bool, typer.Option("--all", help="Every live cluster of fruits in the region.")]
AllRegions = Annotated[bool, typer.Option("--all-regions", help="The same in every region.")]

# Watching ends after the longest lifetime of a cluster.
_WATCH_S = 7 * 24 * 3600.0


@with_config("storage")
def status(
    *,
    cluster: ClusterChoice = None,
    watch: Watch = False,
    everything: All = False,
    all_regions: AllRegions = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Show the cluster, its steps, progress and cost; without a cluster the runs of this folder."""
    if everything or all_regions:
        from fruits_cli.aws import connect_everywhere

        account = open_session(config, screen).cloud.account
        regions = account.regions() if all_regions else [account.region]
        return all_clusters(map(connect_everywhere(config.aws), regions), screen, SystemClock())
    if cluster is None and not uses_cloud(config):
        return local_status(ledger_here())
    session = open_session(config, screen)
    clusters = session.cloud.clusters
    try:
        found = find_cluster(
            cluster, clusters, session.ledger, region=session.cloud.region, ended=True
        )
    except UsageError as error:
        if cluster or isinstance(error, ConfigError) or clusters.find_clusters(live=True):
            raise
        return local_status(session.ledger)
    if watch:
        watch_newest_job(found, session)
        found = clusters.cluster(found.cluster_id)
    return cluster_status(found, session)


def uses_cloud(config: Config) -> bool:
    """Whether this folder uses AWS at all; asking AWS needs credentials."""
    if config.storage.bucket:
        return True
    return any(record.target is Target.EMR for record in ledger_here().records())


def watch_newest_job(cluster: Cluster, session: Session) -> None:
    """Show the newest job until its end, or a cluster without jobs until it is ready."""
    step = next(iter(jobs_on(cluster, session)), None)
    state = state_of(cluster, step, session)
    output = argument(step.args, "--output") if step else ""
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


def cluster_status(cluster: Cluster, session: Session) -> Outcome:
    """A cluster's state, cost so far, steps, and its progress or the cause of its failure."""
    steps = jobs_on(cluster, session)
    state = state_of(cluster, steps[0] if steps else None, session)
    bill, cost = bill_of(cluster, session.cloud, session.clock)
    found = diagnosed(state, session, wait_for_logs=False) if has_failed(state) else None
    lines: list[str | Table] = [
        f"Cluster {cluster.emr_name} ({cluster.cluster_id}): {cluster.state}"
    ]
    lines += report_lines(found) if found else []
    lines += _progress_lines(state)
    lines.append(f"Cost so far: {cost}")
    lines += _step_lines(steps, session.clock.now())
    facts = {
        **_cluster_facts(cluster),
        "cost_usd": round(bill.usd, 4) if bill else None,
        "seconds": round(bill.seconds) if bill else None,
        "steps": [_step_facts(step) for step in steps],
        "progress": asdict(state.progress) if state.progress else None,
        "failure": asdict(found) if found else None,
    }
    return Outcome(lines, facts)


def _progress_lines(state: RunState) -> list[str]:
    running = state.step is not None and state.step.state is StepState.RUNNING
    if not state.progress or not running:
        return []
    seen = state.progress
    return [
        f"Progress: {seen.stage}, {seen.done} of {seen.total} pictures, {seen.rate:.0f} images/s"
    ]


def _step_lines(steps: Sequence[Step], now: datetime) -> list[str | Table]:
    if not steps:
        return ["No steps."]
    rows: list[Sequence[object]] = [("step", "name", "state", "minutes")]
    rows += [(step.step_id, step.name, step.state.value, _minutes(step, now)) for step in steps]
    return [Table(rows)]


def _minutes(step: Step, now: datetime) -> str:
    if step.started_at is None:
        return ""
    return f"{((step.ended_at or now) - step.started_at).total_seconds() / 60:.1f}"


def _cluster_facts(cluster: Cluster) -> dict[str, Any]:
    return {
        "cluster_id": cluster.cluster_id,
        "name": cluster.name,
        "state": cluster.state.value,
        "reason": cluster.reason,
        "created_at": cluster.created_at.isoformat() if cluster.created_at else None,
        "ended_at": cluster.ended_at.isoformat() if cluster.ended_at else None,
        "primary": cluster.primary_dns,
        "tags": dict(cluster.tags),
    }


def _step_facts(step: Step) -> dict[str, Any]:
    return {
        "step_id": step.step_id,
        "name": step.name,
        "state": step.state.value,
        "started_at": step.started_at.isoformat() if step.started_at else None,
        "ended_at": step.ended_at.isoformat() if step.ended_at else None,
        "reason": step.reason,
        "message": step.message,
    }


def all_clusters(clouds: Iterable[Cloud], screen: Screen, clock: Clock) -> Outcome:
    """Every live cluster of fruits, region by region, with what each cost so far.

    Raises CloudError where no region answered.
    """
    unseen: dict[str, CloudError] = {}
    answered = False
    rows: list[Sequence[object]] = [("region", "cluster", "id", "state", "minutes", "about $")]
    facts = []
    for cloud in clouds:
        try:
            found = cloud.clusters.find_clusters(live=True)
        except CloudError as error:
            # A region that is not enabled, or that a policy forbids, must not hide the others.
            unseen[cloud.region] = error
            continue
        answered = True
        for cluster in found:
            bill, _ = bill_of(cluster, cloud, clock)
            minutes = f"{bill.seconds / 60:.0f}" if bill else "?"
            cost = f"{bill.usd:.2f}" if bill else "?"
            name = cluster.emr_name
            rows.append(
                (cloud.region, name, cluster.cluster_id, cluster.state.value, minutes, cost)
            )
            usd = round(bill.usd, 4) if bill else None
            facts.append({**_cluster_facts(cluster), "region": cloud.region, "cost_usd": usd})
    if unseen and not answered:
        raise next(iter(unseen.values()))
    for region, refusal in unseen.items():
        screen.warn(f"{region}: {refusal}")
    where = " in the regions that answered" if unseen else ""
    none = f"No cluster of fruits is live{where}."
    lines: list[str | Table] = [Table(rows)] if len(rows) > 1 else [none]
    return Outcome(lines, {"clusters": facts, "not_seen": sorted(unseen)})


def local_status(ledger: Ledger) -> Outcome:
    """The runs that this folder knows of, the newest first."""
    runs = known_runs(ledger, None, None)
    lines: list[str | Table] = [Table([HEADS, *run_rows(runs)])]
    facts = {"runs": [run_facts(known) for known in runs]}
    return Outcome(lines if runs else ["This folder knows no runs."], facts)
