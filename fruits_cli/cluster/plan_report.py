"""A plan as lines for the user and as facts for --output json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fruits_cli.cloud.account import CLEANUP_ROLE, SPOT_ROLE, Foundation, Observed
from fruits_cli.cloud.regions import with_place
from fruits_cli.cluster.cost import hourly_price, lifetime_line, price_line
from fruits_cli.cluster.plan import RunPlan
from fruits_cli.config import Config, Target


def _foundation_lines(plan: RunPlan, which: frozenset[Foundation]) -> list[str]:
    """What the launch will see to first, one line each."""
    names = {
        "bucket": plan.places.bucket,
        "EC2 role and instance profile": plan.names.instance_role,
        "EMR service role": plan.names.service_role,
        "security configuration": plan.names.security_configuration,
        "service-linked role": CLEANUP_ROLE.name,
        "service-linked role for Spot": SPOT_ROLE.name,
        "tags on subnets and VPC": ", ".join(plan.network.untagged) if plan.network else "",
    }
    return [f"{what.value} {names[what.value]}" for what in sorted(which)]


def _made_lines(plan: RunPlan, observed: Observed) -> list[str]:
    lines = _foundation_lines(plan, plan.missing - observed.outdated)
    return [*lines, f"security group {plan.ssh_group}"] if plan.ssh_group else lines


def plan_lines(config: Config, plan: RunPlan, observed: Observed, *, images: str) -> list[str]:
    """The plan of a run as the user confirms it."""
    job, verb = config.job, "Continuing run" if "--resume" in _args(plan) else "Run"
    what = f"{job.engine} {job.precision}, {job.image_size} px, weights {Path(job.weights).name}"
    return [
        f"{verb} {plan.run_id} on EMR in {with_place(observed.region)}: {what}.",
        f"{images} -> {plan.places.run(plan.run_id)}",
        *cluster_lines(plan, observed),
    ]


def cluster_lines(plan: RunPlan, observed: Observed) -> list[str]:
    """The cluster of a plan, its price, and what is made before it."""
    nodes = ", ".join(
        f"{group.count} {group.role} {group.instance_type} {group.market}"
        for group in plan.spec.groups
    )
    end = (
        f"ends after {plan.spec.idle_timeout_s // 60} idle minutes"
        if plan.spec.idle_timeout_s is not None
        else f"ends after the job, which ends after {plan.lifetime_min} minutes at the latest"
    )
    price = hourly_price(plan.spec.groups, observed.prices, managed_max=plan.spec.managed_max)
    lines = [
        f"Cluster {plan.spec.emr_name}: {nodes}; {plan.spec.release_label}; {end}.",
        f"Price: {price_line(price, observed.prices)}. {lifetime_line(price, plan.lifetime_min)}",
    ]
    lines += [
        f"Python of the nodes: {plan.spec.python}, made by {action.script}."
        for action in plan.spec.bootstrap
    ]
    lines += [f"Will be made first: {line}." for line in _made_lines(plan, observed)]
    updated = _foundation_lines(plan, observed.outdated)
    lines += [f"Will be brought up to date: {line}." for line in updated]
    return [*lines, *(f"Note: {note}" for note in plan.notes)]


def plan_facts(plan: RunPlan, observed: Observed, *, images: str = "") -> dict[str, Any]:
    """The plan for --output json."""
    price = hourly_price(plan.spec.groups, observed.prices, managed_max=plan.spec.managed_max)
    return {
        "run_id": plan.run_id,
        "target": Target.EMR.value,
        "region": observed.region,
        "cluster": plan.spec.emr_name,
        "release_label": plan.spec.release_label,
        "nodes": [group.facts for group in plan.spec.groups],
        "price_usd_h": round(price.usd, 4),
        "price_at_most_usd_h": round(price.at_most_usd, 4),
        "cost_at_most_usd": round(price.at_most_usd * plan.lifetime_min / 60, 2),
        "price_source": observed.prices.source,
        "to_be_made": _made_lines(plan, observed),
        "to_be_updated": _foundation_lines(plan, observed.outdated),
        "notes": list(plan.notes),
        "python": plan.spec.python,
        "bootstrap": [[str(action.script), *action.args] for action in plan.spec.bootstrap],
        "lifetime_min": plan.lifetime_min,
        "images": images,
        "output": str(plan.places.run(plan.run_id)) if plan.spec.step else "",
        "step": list(_args(plan)),
    }


def _args(plan: RunPlan) -> tuple[str, ...]:
    return plan.spec.step.args if plan.spec.step else ()
