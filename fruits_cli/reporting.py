"""What `fruits status` and `fruits logs` tell of clusters, steps and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from fruits_cli.cloud.clusters import Cluster, Step, StepState
from fruits_cli.cloud.protocols import Clock, Cloud
from fruits_cli.cluster.diagnosis import Diagnosis, report_lines
from fruits_cli.cluster.life import bill_of
from fruits_cli.cluster.logs import JobLogs, fetch_logs
from fruits_cli.cluster.steps import is_housekeeping
from fruits_cli.cluster.watch import RunState
from fruits_cli.config import Target
from fruits_cli.errors import CloudError, FruitsError, UsageError
from fruits_cli.ledger import Ledger, RunRecord
from fruits_cli.runs.follow import diagnosed, has_failed, state_of
from fruits_cli.screen import Outcome, Screen, table
from fruits_cli.session import Session

_LOCAL_LOG = "_plan/driver.log"


def cluster_status(cluster: Cluster, session: Session) -> Outcome:
    """One cluster: its state, its cost so far, its steps, the progress or the cause of failure."""
    steps = [
        step
        for step in session.cloud.clusters.steps(cluster.cluster_id)
        if not is_housekeeping(step.name)
    ]
    state = state_of(cluster, None, session)
    bill, cost = bill_of(cluster, session.cloud, session.clock)
    found = diagnosed(state, session, wait_for_logs=False) if has_failed(state) else None
    lines = [f"Cluster {cluster.emr_name} ({cluster.cluster_id}): {cluster.state}"]
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
    one = state.progress
    return [f"Progress: {one.stage}, {one.done} of {one.total} pictures, {one.rate:.0f} images/s"]


def _step_lines(steps: Sequence[Step], now: datetime) -> list[str]:
    if not steps:
        return ["No steps."]
    rows: list[Sequence[object]] = [("step", "name", "state", "minutes")]
    rows += [(step.step_id, step.name, step.state.value, _minutes(step, now)) for step in steps]
    return table(rows)


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
    """Every live cluster of fruits, region by region, with what each cost so far."""
    rows: list[Sequence[object]] = [("region", "cluster", "id", "state", "minutes", "about $")]
    facts = []
    for cloud in clouds:
        try:
            found = cloud.clusters.find_clusters(live=True)
        except CloudError as error:
            # A region that is not enabled, or that a policy forbids, must not hide the others.
            screen.warn(f"{cloud.region}: {error}")
            continue
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
    lines = table(rows) if len(rows) > 1 else ["No cluster of fruits is live."]
    return Outcome(lines, {"clusters": facts})


def local_status(ledger: Ledger) -> Outcome:
    """The runs that this folder knows of, the newest first."""
    records = [record for record in ledger.records() if record.output]
    rows: list[Sequence[object]] = [("run", "target", "phase", "images", "output")]
    rows += [
        (one.run_id, one.target.value, one.phase.value, one.images, one.output) for one in records
    ]
    lines = table(rows) if records else ["This folder knows no runs."]
    return Outcome(lines, {"runs": [_run_facts(record) for record in records]})


def _run_facts(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "target": record.target.value,
        "phase": record.phase.value,
        "images": record.images,
        "output": record.output,
        "cluster_id": record.cluster_id,
        "updated_at": record.updated_at,
    }


def local_logs(record: RunRecord) -> Outcome:
    """What the driver of a local run wrote. Raises UsageError where its log is gone."""
    file = Path(record.output) / _LOCAL_LOG
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    return Outcome(text.splitlines(), {"run_id": record.run_id, "logs": {_LOCAL_LOG: text}})


def cluster_logs(
    cluster: Cluster, record: RunRecord | None, session: Session, *, workers: bool
) -> Outcome:
    """The driver's output; after a failure the cause first. Raises FruitsError without any log."""
    state = state_of(cluster, record, session)
    step_id = state.step.step_id if state.step else ""
    failed = has_failed(state)
    found = diagnosed(state, session, wait_for_logs=False) if failed else None
    logs = fetch_logs(session.cloud.storage, cluster, step_id, workers=workers)
    lines = [*(report_lines(found) if found else []), *_log_lines(logs, workers=workers)]
    if not lines:
        raise FruitsError(
            f"There is no log of {cluster.cluster_id} on S3 yet.",
            hint="EMR copies them every five minutes.",
        )
    return Outcome(lines, _log_facts(logs, found, state))


def _log_lines(logs: JobLogs, *, workers: bool) -> list[str]:
    texts = {**logs.bootstrap, **(logs.driver or logs.step), **(logs.workers if workers else {})}
    lines = []
    for name, text in texts.items():
        lines += [f"== {name}", *text.splitlines()]
    return lines


def _log_facts(logs: JobLogs, found: Diagnosis | None, state: RunState) -> dict[str, Any]:
    return {
        "cluster_id": state.cluster.cluster_id,
        "step_id": state.step.step_id if state.step else None,
        "failure": asdict(found) if found else None,
        "logs": logs.telling,
    }


def record_for(cluster: Cluster, run: str | None, ledger: Ledger) -> RunRecord | None:
    """The ledger's record of a run on this cluster; None lets the newest step be taken."""
    if run is None:
        return None
    with suppress(UsageError):
        record = ledger.find(run)
        if record.target is Target.EMR and record.cluster_id == cluster.cluster_id:
            return record
    return None


def clouds_of(regions: Iterable[str], connect: Callable[[str], Cloud]) -> Iterable[Cloud]:
    """One cloud after the other, each made when its turn comes."""
    return (connect(region) for region in regions)
