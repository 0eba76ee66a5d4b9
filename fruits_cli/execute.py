"""A plan becomes a cluster, a step, a record; and a cluster becomes nothing again.

Every paid act stands between two writes to the ledger: what a crash leaves can be found.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fruits_cli import policies
from fruits_cli.cloud import Clock, Cloud, Clusters
from fruits_cli.cluster import LAUNCH_ID_TAG, Cluster, ClusterSpec, Foundation, StepSpec
from fruits_cli.errors import CloudError, RoleNotReady, Unanswered
from fruits_cli.ledger import Ledger
from fruits_cli.models import RunPhase, RunRecord
from fruits_cli.plan import RunPlan, kill_step

# ListClusters may lag behind RunJobFlow by so much.
_LOOK_FOR_S, _LOOK_EVERY_S = 60.0, 5.0
# A new role or profile takes seconds until EMR sees it.
_ROLE_WAIT_S = 60.0
_ATTEMPTS = 3
_CLOCK_SKEW = timedelta(minutes=15)


def launch(
    plan: RunPlan, record: RunRecord, *, cloud: Cloud, ledger: Ledger, clock: Clock
) -> RunRecord:
    """Make what is missing, then the cluster; the record with its id, written to the ledger.

    Raises CloudError; then no cluster is left behind that the ledger's launch id would not find.
    """
    # RunJobFlow takes no idempotency token: this line is how a crash stays findable.
    record = ledger.write(replace(record, phase=RunPhase.PLANNED, launch_id=plan.spec.launch_id))
    prepare(plan, cloud)
    spec = replace(plan.spec, ssh_group_id=_ssh_group_id(plan, cloud))
    cluster_id = _start(spec, cloud.clusters, clock)
    record = ledger.write(replace(record, phase=RunPhase.LAUNCHED, cluster_id=cluster_id))
    if spec.step is None:
        return record
    # RunJobFlow answers with the cluster's id alone.
    step_id = _step_named(spec.step.name, cluster_id, cloud.clusters, clock) or ""
    return ledger.write(replace(record, phase=RunPhase.SUBMITTED, step_id=step_id))


def prepare(plan: RunPlan, cloud: Cloud) -> None:
    """Make the foundations that the plan found missing; each is left alone where it exists."""
    names, rights = plan.names, cloud.rights
    if Foundation.BUCKET in plan.missing:
        cloud.storage.create_bucket(plan.places.bucket)
    if Foundation.CLEANUP_ROLE in plan.missing:
        rights.create_cleanup_role()
    if Foundation.INSTANCE_ROLE in plan.missing:
        policy = policies.node_policy(
            bucket=plan.places.bucket,
            prefix=plan.places.root_prefix,
            region=cloud.region,
            account_id=plan.account_id,
        )
        rights.create_instance_role(
            names.instance_role, trust=policies.ec2_trust_policy(), policy=policy
        )
    if Foundation.SERVICE_ROLE in plan.missing:
        rights.create_service_role(
            names.service_role,
            trust=policies.emr_trust_policy(plan.account_id),
            policy=policies.pass_role_policy(plan.account_id, names.instance_role),
            managed_arn=policies.SERVICE_POLICY_ARN,
        )
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
    while attempts < _ATTEMPTS:
        try:
            return clusters.start_cluster(spec)
        except RoleNotReady:
            if clock.monotonic() >= roles_until:
                raise
            clock.sleep(_LOOK_EVERY_S)
        except Unanswered as error:
            lost, attempts = error, attempts + 1
            if found := look_for(spec.emr_name, spec.launch_id, clusters, clock):
                return found.cluster_id
    raise CloudError(
        f"The cluster was asked for {_ATTEMPTS} times, and none came up: {lost}",
        hint="fruits status --all shows whether one came up after all.",
    ) from lost


def look_for(
    emr_name: str,
    launch_id: str,
    clusters: Clusters,
    clock: Clock,
    *,
    for_s: float = _LOOK_FOR_S,
) -> Cluster | None:
    """The cluster of this launch, looked for until it is seen or `for_s` seconds have passed."""
    since, until = clock.now() - _CLOCK_SKEW, clock.monotonic() + for_s
    while True:
        for cluster in clusters.find_clusters(live=False, emr_name=emr_name, since=since):
            if cluster.tags.get(LAUNCH_ID_TAG) == launch_id:
                return cluster
        if clock.monotonic() >= until:
            return None
        clock.sleep(_LOOK_EVERY_S)


def submit(
    step: StepSpec, record: RunRecord, *, clusters: Clusters, ledger: Ledger, clock: Clock
) -> RunRecord:
    """Add the step to the record's cluster; the record with the step's id.

    AddJobFlowSteps has no idempotency token either: after a lost answer the step is looked for by
    its name, which holds the run id.
    """
    record = ledger.write(record)
    step_id = _add(step, record.cluster_id, clusters, clock)
    return ledger.write(replace(record, phase=RunPhase.SUBMITTED, step_id=step_id))


def _add(step: StepSpec, cluster_id: str, clusters: Clusters, clock: Clock) -> str:
    lost: Unanswered | None = None
    for _ in range(_ATTEMPTS):
        try:
            return clusters.add_step(cluster_id, step)
        except Unanswered as error:
            lost = error
            if found := _step_named(step.name, cluster_id, clusters, clock):
                return found
    raise CloudError(f"The step was asked for {_ATTEMPTS} times, in vain: {lost}") from lost


def _step_named(name: str, cluster_id: str, clusters: Clusters, clock: Clock) -> str | None:
    until = clock.monotonic() + _LOOK_FOR_S
    while True:
        for step in clusters.steps(cluster_id):
            if step.name == name:
                return step.step_id
        if clock.monotonic() >= until:
            return None
        clock.sleep(_LOOK_EVERY_S)


def cancel(record: RunRecord, clusters: Clusters) -> None:
    """Cancel the record's step, and what it left running in YARN.

    EMR ends the step's own process alone: in cluster mode the application would go on.
    """
    was_running = clusters.step(record.cluster_id, record.step_id).started_at is not None
    clusters.cancel_step(record.cluster_id, record.step_id, force=True)
    if was_running and clusters.cluster(record.cluster_id).state.is_live:
        clusters.add_step(record.cluster_id, kill_step(record.run_id))
