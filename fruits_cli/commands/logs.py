"""fruits logs: the driver's output, the cause of a failure, and the Spark UI."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fruits_cli.cloud.clusters import Cluster, Step
from fruits_cli.cluster.diagnosis import Diagnosis, report_lines
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.logs import JobLogs, fetch_logs
from fruits_cli.cluster.spark_ui import spark_ui_address
from fruits_cli.cluster.watch import RunState
from fruits_cli.commands.status import uses_cloud
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.errors import FruitsError, UsageError
from fruits_cli.job.spark import LOG_FILE
from fruits_cli.ledger import Ledger, RunRecord, ledger_here
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.runs.follow import diagnosed, has_failed, jobs_on, state_of
from fruits_cli.s3uri import is_s3_uri
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session

Run = Annotated[
    str | None, typer.Argument(help="A run id, a prefix of one, or last.", show_default=False)
]
Workers = Annotated[bool, typer.Option("--workers", help="The executors' logs, too.")]
Everything = Annotated[bool, typer.Option("--all", help="Spark's lines of level INFO as well.")]
SparkUi = Annotated[
    bool, typer.Option("--ui", help="The address of the Spark UI, up to 30 days after the end.")
]


@with_config("storage")
def logs(
    *,
    run: Run = None,
    cluster: ClusterChoice = None,
    workers: Workers = False,
    everything: Everything = False,
    ui: SparkUi = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Show the driver's output; after a failure the cause first."""
    if ui and workers:
        raise UsageError("Give --ui or --workers.")
    ledger = ledger_here()
    if run is None and cluster is None and not ui and not uses_cloud(config):
        return local_logs(ledger.find("last"), everything=everything)
    record = ledger.find(run) if run is not None else None
    if record and record.target is Target.LOCAL:
        if not ui:
            return local_logs(record, everything=everything)
        raise UsageError(
            f"Run {record.run_id} ran on this machine, which keeps no Spark UI.",
            hint="fruits logs shows what its driver wrote.",
        )
    session = open_session(config, screen)
    found = find_cluster(
        cluster or (record.cluster_id if record else None) or None,
        session.cloud.clusters,
        ledger,
        region=session.cloud.region,
        ended=True,
    )
    if ui:
        return show_spark_ui(found, session)
    return cluster_logs(
        found, record_for(found, run, ledger), session, workers=workers, everything=everything
    )


def show_spark_ui(cluster: Cluster, session: Session) -> Outcome:
    """The address of the Spark UI of a cluster, also of one that has ended."""
    session.screen.tell(
        f"Asking EMR for the Spark UI of {cluster.emr_name} ({cluster.cluster_id})."
    )
    address = spark_ui_address(cluster, session.cloud.clusters, session.clock)
    # The address is only printed: neither the ledger nor a log has it.
    session.screen.tell("It opens without any login, for a short while: treat it as a password.")
    return Outcome([address], {"url": address, "cluster_id": cluster.cluster_id})


def local_logs(record: RunRecord, *, everything: bool = False) -> Outcome:
    """What the driver of a local run wrote. Raises UsageError where its log is gone."""
    file = Path(record.output) / LOG_FILE
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise UsageError(
            f"Run {record.run_id} left no log in {record.output}.",
            hint="It ended before its job began, or its folder was removed.",
        ) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    facts = {"run_id": record.run_id, "logs": {LOG_FILE: text}}
    return Outcome(_shown(text, everything=everything), facts)


def cluster_logs(
    cluster: Cluster,
    record: RunRecord | None,
    session: Session,
    *,
    workers: bool,
    everything: bool = False,
) -> Outcome:
    """The driver's output, after the cause of a failure. Raises FruitsError without any log."""
    step: Step | None
    if record and record.step_id:
        step = session.cloud.clusters.step(cluster.cluster_id, record.step_id)
    else:
        step = next(iter(jobs_on(cluster, session)), None)
    output = record.output if record and is_s3_uri(record.output) else ""
    state = state_of(cluster, step, session, output=output)
    step_id = step.step_id if step else ""
    failed = has_failed(state)
    found = diagnosed(state, session, wait_for_logs=False) if failed else None
    logs = fetch_logs(session.cloud.storage, cluster, step_id, workers=workers)
    lines = [
        *(report_lines(found) if found else []),
        *_log_lines(logs, workers=workers, everything=everything),
    ]
    if not lines:
        if state.step is None:
            raise FruitsError(f"No job ran on {cluster.cluster_id}, so there is no log of one.")
        raise FruitsError(
            f"There is no log of {cluster.cluster_id} on S3 yet.",
            hint="EMR copies them every five minutes.",
        )
    return Outcome(lines, _log_facts(logs, found, state))


# A line of Spark, Hadoop or YARN below a warning: `26/11/28 10:00:00 INFO SparkContext: ...`.
_INFO = re.compile(r"\d\d(\d\d)?[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d\S* (INFO|DEBUG|TRACE) ")


def _shown(text: str, *, everything: bool) -> list[str]:
    """The lines of a log, without those of level INFO, whose number is shown, unless asked for."""
    lines = text.splitlines()
    told = lines if everything else [line for line in lines if not _INFO.match(line)]
    left_out = len(lines) - len(told)
    return (
        [*told, f"(lines of level INFO left out: {left_out}; --all shows them)"]
        if left_out
        else told
    )


def _log_lines(logs: JobLogs, *, workers: bool, everything: bool) -> list[str]:
    texts = {**logs.bootstrap, **(logs.driver or logs.step), **(logs.workers if workers else {})}
    lines = []
    for name, text in texts.items():
        lines += [f"== {name}", *_shown(text, everything=everything)]
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
