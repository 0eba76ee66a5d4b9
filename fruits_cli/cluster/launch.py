"""Launches a planned cluster once, under a lock.

The ledger is written before and after each paid request, so that a crash leaves a trace.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from fruits_cli.cloud import policies
from fruits_cli.cloud.account import CLEANUP_ROLE, SPOT_ROLE, Foundation
from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, LAUNCH_ID_TAG, Cluster, ClusterSpec
from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import Clock, Cloud, Clusters, Storage
from fruits_cli.cluster.lock import read_lock, release_lock, require_lock, take_lock, this_process
from fruits_cli.cluster.plan import RunPlan
from fruits_cli.cluster.steps import ATTEMPTS, LOOK_EVERY_S, LOOK_FOR_S
from fruits_cli.config import Config, Target
from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    Locked,
    MachineError,
    RoleNotReady,
    Unanswered,
)
from fruits_cli.ledger import Ledger, RunPhase, RunRecord, records_of
from fruits_cli.s3uri import S3Uri
from fruits_cli.session import Session
from fruits_cli.signals import held


def new_launch_id() -> str:
    """An id that no other launch has."""
    return uuid.uuid4().hex


def living(name: str, cloud: Cloud) -> Cluster | None:
    """The live cluster of that name, None where there is none."""
    found = cloud.clusters.find_clusters(live=True, emr_name=f"{EMR_NAME_PREFIX}{name}")
    return next(
        (cluster for cluster in found if cluster.state.is_live and cluster.name == name), None
    )


def launch_once(
    plan: RunPlan,
    record: RunRecord,
    session: Session,
    *,
    adopt: bool,
    started: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """Launch under the lock of the plan's name, so that there is one such cluster.

    adopt: take one that is running already. started: called with the record of a new cluster.
    Raises Locked where somebody else launches or has it; after a start only an interrupt.
    """
    storage, lock = session.cloud.storage, plan.places.lock(plan.name)
    launch_id = plan.spec.launch_id
    # Before the lock: what a crash leaves, `fruits terminate` finds by this record.
    record = replace(record, phase=RunPhase.PLANNED, launch_id=launch_id)
    before = session.ledger.load(record.run_id)
    record = session.ledger.write(record)
    try:
        # Within: an interrupt may come when the lock is taken and S3 has not answered yet.
        try:
            died = take_lock(storage, lock, this_process(launch_id))
        except CloudError:
            _withdraw(record, before, session.ledger)
            raise
        if died:
            session.screen.tell("A launch before this one died; looking for a cluster of it.")
            look_for(plan.spec.emr_name, died, session.cloud.clusters, session.clock)
        # The previous holder of the lock may have started it.
        if cluster := living(plan.name, session.cloud):
            if adopt:
                session.ledger.write(replace(record, phase=RunPhase.CANCELLED))
                return adopted(cluster, record, session.ledger)
            _withdraw(record, before, session.ledger)
            raise Locked(
                f"Run {plan.run_id} is already running on {cluster.cluster_id}.",
                hint=f"fruits status --cluster {cluster.cluster_id}",
            )
        record = launch(plan, record, session, lock=lock, started=started)
        with suppress(CloudError):
            # Until the list shows it, the next to hold the lock would not see it.
            look_for(plan.spec.emr_name, launch_id, session.cloud.clusters, session.clock)
        return record
    finally:
        _release(storage, lock, launch_id, session)


def _withdraw(record: RunRecord, before: RunRecord | None, ledger: Ledger) -> None:
    """Record that this launch was not to be; another's of the same run keeps its record."""
    known = ledger.load(record.run_id)
    if known is None or known.launch_id == record.launch_id:
        ledger.write(before or replace(record, phase=RunPhase.FAILED))


def forget_dead_launches(places: Places, session: Session) -> None:
    """Remove the locks of this folder's launches that died, and close the records without cluster.

    Not before a cluster is ended: S3 may not answer, and such a record leads to its cluster.
    """
    records = [record for record in session.ledger.records() if record.launch_id]
    # Without a bucket, or the right to list it, there is no lock to remove.
    with suppress(CloudError):
        under_way = _release_dead_locks(places, {one.launch_id for one in records}, session)
        lost = [one for one in records if one.phase is RunPhase.PLANNED and not one.cluster_id]
        lost = [one for one in lost if one.launch_id not in under_way]
        live = session.cloud.clusters.find_clusters(live=True) if lost else []
        alive = {cluster.tags.get(LAUNCH_ID_TAG) for cluster in live if cluster.state.is_live}
        for record in lost:
            if record.launch_id not in alive:
                session.ledger.write(replace(record, phase=RunPhase.CANCELLED))


def _release_dead_locks(places: Places, ours: Set[str], session: Session) -> set[str]:
    """Remove those locks of our launches whose process is gone; the launches that still live."""
    under_way, storage = set(), session.cloud.storage
    for found in storage.list_objects(places.locks) if ours else ():
        held = read_lock(storage, found.uri)
        if held and held.holder.launch_id in ours:
            if held.holder.has_died:
                _release(storage, found.uri, held.holder.launch_id, session)
            else:
                under_way.add(held.holder.launch_id)
    return under_way


def _release(storage: Storage, lock: S3Uri, launch_id: str, session: Session) -> None:
    try:
        release_lock(storage, lock, launch_id)
    except CloudError as error:
        session.screen.warn(f"The lock {lock} was not removed: {error}")


def adopted(cluster: Cluster, record: RunRecord, ledger: Ledger) -> RunRecord:
    """The record of a cluster that was running already, written to the ledger if it is new."""
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


def launch_record(config: Config, plan: RunPlan, region: str, *, images: str = "") -> RunRecord:
    """The record of a launch that is about to happen; with `images` it is that of a run."""
    return RunRecord(
        plan.run_id,
        Target.EMR,
        images=images,
        output=str(plan.places.run(plan.run_id)) if images else "",
        region=region,
        cluster_name=plan.name,
        launch_id=plan.spec.launch_id,
        is_kept=plan.spec.keep_alive,
        lifetime_min=plan.lifetime_min,
        job=config.job.saved(),
    )


# A new role or profile takes seconds until EMR, or IAM itself, sees it.
_ROLE_WAIT_S = 60.0
_CLOCK_SKEW = timedelta(minutes=15)


def launch(
    plan: RunPlan,
    record: RunRecord,
    session: Session,
    *,
    lock: S3Uri,
    started: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """Make what is missing, then the cluster; the record with its id, written to the ledger.

    Raises CloudError; then no cluster is left behind that the ledger's launch id would not find.
    """
    cloud, ledger = session.cloud, session.ledger
    # RunJobFlow takes no idempotency token: after a crash this record leads to the cluster.
    record = ledger.write(replace(record, phase=RunPhase.PLANNED, launch_id=plan.spec.launch_id))
    prepare(plan, session)
    spec = replace(plan.spec, ssh_group_id=_ssh_group_id(plan, cloud))
    try:
        require_lock(cloud.storage, lock, plan.spec.launch_id)
        with held():
            cluster_id = _start(spec, cloud.clusters, session.clock)
            record = _note_start(replace(record, cluster_id=cluster_id), session, started)
    except Locked:
        # Whoever has the lock by now may have found that group, and use it.
        raise
    except CloudError:
        if plan.ssh_group and spec.ssh_group_id:
            with suppress(CloudError):
                cloud.rights.delete_ssh_group(plan.ssh_group)
        raise
    return record


def _note_start(
    record: RunRecord, session: Session, started: Callable[[RunRecord], None]
) -> RunRecord:
    """Report the cluster before anything else can fail: from now on it costs money."""
    phase = RunPhase.SUBMITTED if record.images else RunPhase.LAUNCHED
    record = replace(record, phase=phase)
    started(record)
    session.screen.tell(f"Cluster {record.cluster_id} was started.")
    try:
        return session.ledger.write(record)
    except MachineError as error:
        session.screen.warn(
            f"{error} Cluster {record.cluster_id} is running all the same; to end it: "
            f"fruits terminate --cluster {record.cluster_id}"
        )
        return record


def _make_role(spec: policies.RoleSpec, session: Session) -> None:
    """Create or update the role; where that is denied, one that suffices is left as it is."""
    rights, clock = session.cloud.rights, session.clock
    until = clock.monotonic() + _ROLE_WAIT_S
    try:
        while True:
            try:
                return rights.make_role(spec)
            except RoleNotReady:
                # What is made already is found: it can be repeated.
                if clock.monotonic() >= until:
                    raise
                clock.sleep(LOOK_EVERY_S)
    except AccessDenied as error:
        facts = rights.role(spec)
        if facts is None or spec.lacks(facts):
            raise
        session.screen.warn(f"Role {spec.name} is out of date, and could not be updated: {error}")


def prepare(plan: RunPlan, session: Session) -> None:
    """Make the roles and the rest that the plan found missing or out of date."""
    names, cloud, rights = plan.names, session.cloud, session.cloud.rights
    if Foundation.CLEANUP_ROLE in plan.missing:
        rights.create_linked_role(CLEANUP_ROLE)
    if Foundation.SPOT_ROLE in plan.missing:
        rights.create_linked_role(SPOT_ROLE)
    if Foundation.INSTANCE_ROLE in plan.missing:
        _make_role(policies.instance_role(plan.scope), session)
    if Foundation.SERVICE_ROLE in plan.missing:
        _make_role(policies.service_role(plan.scope), session)
    if Foundation.SECURITY_CONFIGURATION in plan.missing:
        rights.create_security_configuration(
            names.security_configuration, hop_limit=names.hop_limit, kms_key=plan.kms_key
        )
    if Foundation.NETWORK_TAGS in plan.missing and plan.network:
        cloud.account.tag_network(plan.network.untagged)


def _ssh_group_id(plan: RunPlan, cloud: Cloud) -> str | None:
    if plan.ssh_group is None or plan.network is None:
        return None
    return cloud.rights.create_ssh_group(
        plan.ssh_group, vpc_id=plan.network.vpc_id, tags=plan.spec.tags
    )


def _start(spec: ClusterSpec, clusters: Clusters, clock: Clock) -> str:
    roles_until = clock.monotonic() + _ROLE_WAIT_S
    lost: Unanswered | None = None
    attempts = 0
    while attempts < ATTEMPTS:
        try:
            return clusters.start_cluster(spec)
        except RoleNotReady:
            if clock.monotonic() >= roles_until:
                raise
            clock.sleep(LOOK_EVERY_S)
        except Unanswered as error:
            lost, attempts = error, attempts + 1
            if found := look_for(spec.emr_name, spec.launch_id, clusters, clock):
                return found.cluster_id
    raise CloudError(
        f"The cluster was requested {ATTEMPTS} times, and none started: {lost}",
        hint="fruits status --all shows whether one started after all.",
    ) from lost


def look_for(
    emr_name: str,
    launch_id: str,
    clusters: Clusters,
    clock: Clock,
    *,
    for_s: float = LOOK_FOR_S,
) -> Cluster | None:
    """The cluster of this launch, looked for until it is seen or `for_s` seconds have passed."""
    since, until = clock.now() - _CLOCK_SKEW, clock.monotonic() + for_s
    while True:
        for cluster in clusters.find_clusters(live=False, emr_name=emr_name, since=since):
            if cluster.tags.get(LAUNCH_ID_TAG) == launch_id:
                return cluster
        if clock.monotonic() >= until:
            return None
        clock.sleep(LOOK_EVERY_S)
