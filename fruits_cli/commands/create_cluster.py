"""fruits create-cluster: a cluster that stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.foundations import ensure_bucket, foundation_names, observe
from fruits_cli.cluster.launch import adopted, launch_once, launch_record, living, new_launch_id
from fruits_cli.cluster.life import wait_until_ready
from fruits_cli.cluster.nodes import node_groups
from fruits_cli.cluster.notebook import ship_notebook
from fruits_cli.cluster.plan import RunPlan, plan_cluster
from fruits_cli.cluster.plan_report import cluster_lines, plan_facts
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.errors import CloudError, DeadlineReached
from fruits_cli.job.node_python import node_python, ship_python
from fruits_cli.ledger import RunPhase, RunRecord, new_run_id
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session
from fruits_cli.signals import heard_again, termination_as_interrupt


@with_config("storage", "cluster")
def create_cluster(
    *, dry_run: DryRun = False, yes: Yes = False, config: Config, screen: Screen
) -> Outcome:
    """Create the cluster, or find the live one of that name; returns when it takes jobs.

    \b
    fruits create-cluster --dry-run    what would be made, and its price
    """
    return create(config, open_session(config, screen), new_run_id(), dry_run=dry_run, yes=yes)


def create(
    config: Config, session: Session, run_id: str, *, dry_run: bool = False, yes: bool = False
) -> Outcome:
    """Create the cluster of the configured name, or find the live one; wait until it takes steps.

    Raises CloudError with the cause where it does not come up, QuotaTooSmall, Locked, Declined.
    """
    name, cloud, screen = config.cluster.name, session.cloud, session.screen
    if cluster := living(name, cloud):
        screen.tell(f"Cluster {cluster.emr_name} is already running: {cluster.cluster_id}.")
        for line in ignored_settings(config, cluster, session):
            screen.warn(line)
        if dry_run:
            return _outcome(cluster)
        blank = RunRecord(run_id, Target.EMR, region=cloud.region, cluster_name=name)
        return _ready(adopted(cluster, blank, session.ledger), session)
    observed = observe(config, cloud, keep_alive=True)
    python = node_python(config.job.engine)
    plan = plan_cluster(config, observed, run_id=run_id, launch_id=new_launch_id(), python=python)
    lines = cluster_lines(plan, observed)
    if dry_run:
        return Outcome(lines, plan_facts(plan, observed))
    for line in lines:
        screen.tell(line)
    if config.cluster.key_name is None:
        screen.warn("Without a key pair no tunnel can be opened: fruits init --key makes one.")
    screen.ask("Create it?", yes=yes)
    with termination_as_interrupt():
        ensure_bucket(plan.places.bucket, session, yes=True)
        ship_python(python, plan.places, session)
        return _ready(_launched(config, plan, session), session)


def _launched(config: Config, plan: RunPlan, session: Session) -> RunRecord:
    latest = [launch_record(config, plan, session.cloud.region)]
    try:
        record = launch_once(plan, latest[0], session, adopt=True, started=latest.append)
        if "JupyterHub" in plan.spec.applications:
            _put_notebook(plan, session)
    except KeyboardInterrupt:
        _say_what_lives(latest[-1], session)
        raise
    return record


def _put_notebook(plan: RunPlan, session: Session) -> None:
    try:
        uri = ship_notebook(plan.places, session.cloud.storage)
    except CloudError as error:
        # The cluster has started, and is of use without its notebook.
        session.screen.warn(f"The notebook was not put into the bucket. {error}")
        return
    session.screen.tell(f"A notebook that reads the bucket's runs is at {uri}.")


def _ready(record: RunRecord, session: Session) -> Outcome:
    try:
        with termination_as_interrupt():
            cluster = wait_until_ready(record.cluster_id, session)
    except (KeyboardInterrupt, DeadlineReached):
        _say_what_lives(record, session)
        raise
    finally:
        _note_end(record, session)
    return _outcome(cluster)


def _say_what_lives(record: RunRecord, session: Session) -> None:
    heard_again()
    if not record.cluster_id:
        session.screen.tell("No cluster was started.")
        return
    session.screen.tell(
        f"Cluster {record.cluster_id} keeps running; "
        f"fruits terminate --cluster {record.cluster_id} ends it."
    )


def _note_end(record: RunRecord, session: Session) -> None:
    """Record a cluster that ended instead of becoming ready."""
    with suppress(CloudError):
        cluster = session.cloud.clusters.cluster(record.cluster_id)
        if cluster.state.is_final:
            session.note(record, phase=RunPhase.FAILED, cluster_ended=True)


def ignored_settings(config: Config, cluster: Cluster, session: Session) -> Iterator[str]:
    """A sentence for each setting that differs from those of the cluster that is there."""
    wanted, has = config.cluster.release_label, cluster.release_label
    if has and has != wanted:
        yield f"It runs {has}; release_label {wanted} has no effect."
    bucket = places_of(config).bucket
    if cluster.log_uri and cluster.log_uri.bucket != bucket:
        yield f"It was made for bucket {cluster.log_uri.bucket}; bucket {bucket} has no effect."
    if (key := config.cluster.key_name) and key != cluster.key_name:
        pair = f"key pair {cluster.key_name}" if cluster.key_name else "no key pair"
        yield f"It has {pair}; {key} has no effect."
    secured = foundation_names(config, keep_alive=True).security_configuration
    if config.cluster.kms_key and cluster.security_configuration != secured:
        yield "Its disks are not encrypted with the KMS key; kms_key has no effect."
    try:
        nodes = session.cloud.clusters.nodes(cluster.cluster_id)
    except CloudError:
        return
    there = Counter((node.role, node.instance_type) for node in nodes if node.ended_at is None)
    for group in node_groups(config.cluster):
        own = {kind: n for (role, kind), n in there.items() if role is group.role}
        if own and own != {group.instance_type: group.count}:
            told = " and ".join(f"{n} {kind}" for kind, n in sorted(own.items()))
            yield (
                f"Its {group.role} nodes are {told}; {group.count} {group.instance_type} "
                "has no effect."
            )


def _outcome(cluster: Cluster) -> Outcome:
    lines = [
        f"Cluster {cluster.emr_name} ({cluster.cluster_id}) is {cluster.state}.",
        "Next: fruits submit, fruits tunnel, and at the end fruits terminate.",
    ]
    facts = {
        "cluster_id": cluster.cluster_id,
        "name": cluster.name,
        "state": cluster.state.value,
        "primary": cluster.primary_dns,
    }
    return Outcome(lines, facts)
