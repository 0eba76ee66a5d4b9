"""Decides what a launch does, from the configuration and what was observed; pure.

A plan is complete: executing it asks nothing more, and a dry run is a plan that is not executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fruits_cli.cloud.account import Foundation, Machine, Network, Observed
from fruits_cli.cloud.clusters import (
    EMR_NAME_PREFIX,
    LAUNCH_ID_TAG,
    NAME_TAG,
    OWNER_TAG,
    RUN_ID_TAG,
    ClusterSpec,
    NodeGroup,
    OnFailure,
    Role,
    StepSpec,
    ssh_group_name,
)
from fruits_cli.cloud.layout import Places, places_of
from fruits_cli.cloud.policies import Scope
from fruits_cli.cluster.cost import hourly_price
from fruits_cli.cluster.foundations import FoundationNames, foundation_names, scope_of
from fruits_cli.cluster.nodes import (
    check_quota,
    executor_plan,
    managed_falls_short,
    node_groups,
    on_demand_falls_short,
    refuse_unfit_types,
    workers,
)
from fruits_cli.cluster.steps import SparkOptions, step_args
from fruits_cli.config import ClusterConfig, Config, JobConfig
from fruits_cli.errors import ConfigError
from fruits_cli.job.arguments import Job, job_args
from fruits_cli.job.node_python import NodePython, bootstrap_action

_RUN_LIFETIME_MIN, _CLUSTER_LIFETIME_MIN = 240, 720
_BOOT_MIN = 20
# A boot, a small run, and its end.
_LEAST_MIN = 40
_RUN_APPLICATIONS = ("Hadoop", "Spark")
# Source: EMR Management Guide, work with steps: considerations.
_STEP_CHARACTERS = 10_240
_NOT_IN_A_TAG = re.compile(r"[^\w .:/=+@-]")


@dataclass(frozen=True)
class StepPlan:
    """A step but for what it runs: that is known once code and model are packed."""

    config: JobConfig
    options: SparkOptions
    run_id: str
    # Tells this attempt at the run from earlier ones, whose last words may still be there.
    attempt: str
    deadline_min: int
    on_failure: OnFailure

    def step(self, job: Job) -> StepSpec:
        """The step that runs `job`."""
        # The run id in the name is how a step is found again after an answer got lost.
        name = f"{EMR_NAME_PREFIX}{self.run_id}"
        arguments = job_args(
            self.config,
            job.places,
            run_id=self.run_id,
            resume=job.resume,
            deadline_min=self.deadline_min,
            slots=self.options.slots,
            attempt=self.attempt,
        )
        args = step_args(self.options, main=job.main, package=job.package, name=name, job=arguments)
        if (length := sum(len(word) + 1 for word in args)) > _STEP_CHARACTERS:
            raise ConfigError(
                f"The job's arguments are {length:,} characters; EMR takes {_STEP_CHARACTERS:,}.",
                hint="Shorten --prefix or --extensions.",
            )
        return StepSpec(name, args, self.on_failure)


@dataclass(frozen=True)
class RunPlan:
    """One launch, decided: the cluster with its step, and what has to be made before."""

    run_id: str
    name: str
    scope: Scope
    places: Places
    spec: ClusterSpec
    names: FoundationNames
    missing: frozenset[Foundation]
    network: Network | None
    kms_key: str | None
    # None for run's own cluster: no key pair and no port 22.
    ssh_group: str | None
    lifetime_min: int
    step: StepPlan | None = None
    notes: tuple[str, ...] = ()

    def with_job(self, job: Job) -> RunPlan:
        """The same plan, now with what its step runs."""
        assert self.step is not None
        return replace(self, spec=replace(self.spec, step=self.step.step(job)))


def plan_cluster(
    config: Config,
    observed: Observed,
    *,
    run_id: str,
    launch_id: str,
    python: NodePython,
) -> RunPlan:
    """A cluster that stays until it has been idle: create-cluster's.

    Raises ConfigError on types that cannot run the job, QuotaTooSmall with the shape that fits.
    """
    name = config.cluster.name
    return _run_plan(config, observed, name=name, run_id=run_id, launch_id=launch_id, python=python)


def plan_run(
    config: Config,
    observed: Observed,
    job: Job,
    *,
    run_id: str,
    launch_id: str,
    python: NodePython,
    keep: bool = False,
) -> RunPlan:
    """run's own cluster: the job travels with the launch, and EMR ends the cluster after it.

    job: as far as it is known; `with_job` gives the plan the final one. With `keep` the cluster
    stays as create-cluster's would. Raises as `plan_cluster` does.
    """
    plan = _run_plan(
        config,
        observed,
        name=run_id,
        run_id=run_id,
        launch_id=launch_id,
        python=python,
        transient=not keep,
    )
    options = SparkOptions(
        executor_plan(workers(plan.spec.groups, observed.machines), config.job.engine),
        region=observed.region,
        python=python.interpreter,
        fixed=config.cluster.managed_max is None,
        managed_max=config.cluster.managed_max,
    )
    deadline_min = job_deadline_min(plan.lifetime_min)
    on_failure = OnFailure.CONTINUE if keep else OnFailure.TERMINATE_CLUSTER
    step = StepPlan(config.job, options, run_id, launch_id, deadline_min, on_failure)
    return replace(plan, step=step).with_job(job)


def plan_step(
    config: Config,
    job: Job,
    *,
    node_types: Sequence[str],
    machines: Mapping[str, Machine],
    region: str,
    run_id: str,
    attempt: str,
    python: str,
) -> StepSpec:
    """The job as a step of a cluster that lives already, sized for the smallest of its nodes.

    attempt: an id that no other step has. python: the interpreter that those nodes have.
    """
    groups = [NodeGroup(Role.CORE, kind, 1) for kind in dict.fromkeys(node_types)]
    refuse_unfit_types(groups, machines, config.job.precision)
    options = SparkOptions(
        executor_plan(workers(groups, machines), config.job.engine),
        region=region,
        python=python,
        fixed=False,
    )
    deadline_min = job_deadline_min(lifetime_min(config.cluster, transient=False))
    return StepPlan(config.job, options, run_id, attempt, deadline_min, OnFailure.CONTINUE).step(
        job
    )


def lifetime_min(cluster: ClusterConfig, *, transient: bool) -> int:
    """Minutes after which a cluster or a job ends, whatever it does."""
    return cluster.max_lifetime_min or (_RUN_LIFETIME_MIN if transient else _CLUSTER_LIFETIME_MIN)


def planned_lifetime_min(config: Config, observed: Observed, *, transient: bool) -> int:
    """The lifetime, cut to what the budget allows at the highest price.

    Raises ConfigError where that is too short for any run, or no price is known.
    """
    cluster = config.cluster
    lifetime = lifetime_min(cluster, transient=transient)
    if cluster.budget_usd is None:
        return lifetime
    price = hourly_price(node_groups(cluster), observed.prices, managed_max=cluster.managed_max)
    if price.unknown:
        raise ConfigError(
            f"No price is known for {', '.join(price.unknown)}, so no budget can be kept.",
            hint="Leave out --budget-usd, or take another type.",
        )
    minutes = int(cluster.budget_usd / price.at_most_usd * 60)
    if minutes < _LEAST_MIN:
        raise ConfigError(
            f"${cluster.budget_usd:.2f} pay for {minutes} minutes of this cluster (at most "
            f"${price.at_most_usd:.2f} an hour), too few for a run.",
            hint=f"Give --budget-usd {price.at_most_usd * _LEAST_MIN / 60:.2f} or more, or fewer "
            "nodes.",
        )
    return min(lifetime, minutes)


def job_deadline_min(lifetime: int) -> int:
    """Minutes after which the job ends itself: before its node does, so that it can say why.

    The node counts from its boot, the job from its start, some ten minutes later.
    """
    return max(lifetime - _BOOT_MIN, lifetime // 2, 1)


def _run_plan(
    config: Config,
    observed: Observed,
    *,
    name: str,
    run_id: str,
    launch_id: str,
    python: NodePython,
    transient: bool = False,
) -> RunPlan:
    cluster, places, groups = config.cluster, places_of(config), node_groups(config.cluster)
    refuse_unfit_types(groups, observed.machines, config.job.precision)
    check_quota(cluster, observed)
    names = foundation_names(config, keep_alive=not transient)
    lifetime = planned_lifetime_min(config, observed, transient=transient)
    bootstrap = bootstrap_action(python, places, region=observed.region, lifetime_min=lifetime)
    spec = ClusterSpec(
        emr_name=f"{EMR_NAME_PREFIX}{name}",
        release_label=cluster.release_label,
        applications=_RUN_APPLICATIONS if transient else cluster.applications,
        groups=groups,
        subnets=observed.network.subnets if observed.network else cluster.subnets,
        log_uri=places.logs,
        service_role=names.service_role,
        instance_profile=names.instance_role,
        security_configuration=names.security_configuration,
        root_volume_gib=cluster.root_volume_gib,
        idle_timeout_s=None if transient else cluster.idle_timeout_min * 60,
        tags=_tags(observed, python, name=name, run_id=run_id, launch_id=launch_id),
        key_name=None if transient else cluster.key_name,
        managed_max=cluster.managed_max,
        notebook_bucket=None if transient else places.bucket,
        python=python.interpreter,
        bootstrap=(bootstrap,),
    )
    return RunPlan(
        run_id=run_id,
        name=name,
        scope=scope_of(config, observed.identity, observed.region),
        places=places,
        spec=spec,
        names=names,
        missing=observed.missing,
        network=observed.network,
        kms_key=cluster.kms_key,
        ssh_group=None if transient else ssh_group_name(name),
        lifetime_min=lifetime,
        notes=tuple(_notes(config, observed)),
    )


def _tags(
    observed: Observed, python: NodePython, *, name: str, run_id: str, launch_id: str
) -> dict[str, str]:
    owner = _NOT_IN_A_TAG.sub("_", observed.identity.user)[:256]
    own = {NAME_TAG: name, RUN_ID_TAG: run_id, LAUNCH_ID_TAG: launch_id, OWNER_TAG: owner}
    return {**own, **python.tags}


def _notes(config: Config, observed: Observed) -> Iterator[str]:
    if observed.on_demand is None:
        yield "The vCPU quota could not be read; AWS may refuse the launch for it."
    if observed.network is None:
        yield "The subnets could not be read; EMR looks for one in the default VPC."
    if config.cluster.kms_key:
        # Source: EMR Management Guide, create keys and certificates for data encryption.
        names = foundation_names(config, keep_alive=True)
        roles = f"{names.instance_role} and {names.service_role}"
        yield f"No node starts unless the KMS key names the roles {roles} among its users."
    if on_demand_falls_short(config.cluster, observed):
        yield "Should Spot have no capacity: the quota leaves no room on demand instead."
    if managed_falls_short(config.cluster, observed):
        yield "The vCPU quota keeps managed scaling from its maximum; it grows as far as it may."
