"""Questions about release, instance types, memory, zones and vCPUs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from fruits_cli.cloud.account import Observed, PriceBook
from fruits_cli.cloud.clusters import Market
from fruits_cli.cluster.nodes import (
    check_quota,
    executor_plan,
    managed_falls_short,
    on_demand_falls_short,
    refuse_unfit_types,
    vcpus_of,
    workers,
)
from fruits_cli.doctor.ask import Ask
from fruits_cli.doctor.findings import Finding, Verdict, failing, not_asked, ok, warning
from fruits_cli.errors import QuotaTooSmall

# The last day of standard support. Source: EMR Release Guide, standard support; as of 2026-11-23.
_SUPPORTED_UNTIL = {
    "emr-5.": date(2026, 8, 31),
    "emr-6.": date(2026, 8, 31),
    "emr-7.0.": date(2026, 8, 31),
    "emr-7.1.": date(2026, 8, 31),
    "emr-7.2.": date(2026, 8, 31),
    "emr-7.3.": date(2026, 10, 15),
    "emr-7.4.": date(2026, 11, 12),
    "emr-7.5.": date(2026, 11, 20),
    "emr-7.13.": date(2028, 4, 21),
    "emr-7.14.": date(2028, 9, 8),
}
# JupyterHub's image, Python's packages and the system fill the 15 GiB that are EMR's default.
_ROOT_GIB = 32


def release(ask: Ask) -> Finding:
    """Whether the region offers the release, and AWS still supports it."""
    label, offered = ask.config.cluster.release_label, ask.cloud.preflight.releases()
    if label not in offered:
        return failing(f"The region has no release {label}.", f"Give {_newest(offered)}.")
    until = next((day for start, day in _SUPPORTED_UNTIL.items() if label.startswith(start)), None)
    if until and ask.clock.now().date() > until:
        return failing(f"{label} is out of support since {until}.", f"Give {_newest(offered)}.")
    return ok(f"{label}, supported until {until}" if until else label)


def _newest(offered: Sequence[str]) -> str:
    # The line of emr-spark-8 has neither JupyterHub nor TensorFlow.
    newest = next((release for release in offered if release.startswith("emr-7.")), "another one")
    return f"--release-label {newest}"


def applications(ask: Ask) -> Finding:
    """Whether the release has what create-cluster installs; EMR does not look at upper case."""
    label, wanted = ask.config.cluster.release_label, ask.config.cluster.applications
    known = {application.lower() for application in ask.cloud.preflight.applications(label)}
    if missing := [application for application in wanted if application.lower() not in known]:
        rest = ",".join(application for application in wanted if application not in missing)
        return failing(
            f"{label} has no {', '.join(missing)}.",
            f"Give --applications {rest}, or another --release-label.",
        )
    return ok(", ".join(wanted))


def instance_types(ask: Ask) -> Finding:
    """Whether the release runs on the instance types."""
    label = ask.config.cluster.release_label
    supported = ask.cloud.preflight.supported_types(label)
    if bad := [kind for kind in ask.types if kind not in supported]:
        flags = ", ".join(
            f"--{group.role}-type" for group in ask.groups if group.instance_type in bad
        )
        return failing(f"{label} does not run on {', '.join(bad)}.", f"Give another {flags}.")
    return ok(", ".join(ask.types))


def memory(ask: Ask) -> Finding:
    """Whether the types' processors and memory can run the job."""
    job, machines = ask.config.job, ask.machines()
    refuse_unfit_types(ask.groups, machines, job.precision)
    plan = executor_plan(workers(ask.groups, machines), job.engine)
    return ok(
        f"{plan.count} executors of {plan.cores} cores, {plan.heap_mib + plan.overhead_mib} MiB "
        f"each, for {job.engine} in {job.precision}"
    )


def zones(ask: Ask) -> Finding:
    """Whether one of the subnets' zones has all the types: a cluster lies in one zone."""
    offered = ask.cloud.preflight.zones(sorted(ask.types))
    ours = sorted({subnet.zone for subnet in ask.found_subnets()})
    fit = [zone for zone in ours if all(zone in offered[kind] for kind in ask.types)]
    if not fit:
        lacking = next((kind for kind in ask.types if not offered[kind] & set(ours)), ask.types[0])
        elsewhere = ", ".join(sorted(offered[lacking])) or "no zone of the region"
        return failing(
            f"No zone of the subnets ({', '.join(ours)}) has all types; {lacking} is in "
            f"{elsewhere}.",
            "Give --subnets of other zones, or other --primary-type, --core-type and --task-type.",
        )
    without = [zone for zone in ours if zone not in fit]
    but = f"; not all types are in {', '.join(without)}" if without else ""
    return ok(f"{', '.join(fit)}{but}")


def vcpus(ask: Ask, market: Market) -> Finding:
    """Whether the account may run as many vCPUs of this market as the plan needs."""
    cluster, machines = ask.config.cluster, ask.machines()
    quota = ask.cloud.account.quota(market)
    if unknown := [kind for kind in ask.types if kind not in machines]:
        return not_asked(f"how many vCPUs {', '.join(unknown)} has is not known")
    needed = vcpus_of(ask.groups, machines, market)
    if quota is None:
        return Finding(
            Verdict.COULD_NOT_ASK,
            f"{needed} needed; the quota could not be read.",
            "It needs servicequotas:GetServiceQuota and ec2:DescribeInstances.",
        )
    # With the quota of this market alone: an unknown one is no obstacle.
    spot, on_demand = (quota, None) if market is Market.SPOT else (None, quota)
    prices = PriceBook({}, {})
    who = ask.identity()
    seen = Observed(who, ask.region, frozenset(), machines, None, on_demand, spot, prices)
    said = f"{needed} needed, {quota.free} free ({quota.used} of {quota.limit} in use)"
    try:
        check_quota(cluster, seen)
    except QuotaTooSmall as error:
        return failing(said, error.hint)
    if managed_falls_short(cluster, seen):
        return warning(
            f"{said}; too few for managed scaling up to {cluster.managed_max} nodes.",
            "The cluster grows as far as the quota allows: ask for a larger quota, or give a "
            "smaller --managed-max.",
        )
    if market is Market.ON_DEMAND and on_demand_falls_short(cluster, seen):
        said += "; too few for the Spot nodes, should Spot have no capacity"
    return ok(said)


def root_volume(ask: Ask) -> Finding:
    """Whether the nodes' root volume holds what the bootstrap and the applications install."""
    gib = ask.config.cluster.root_volume_gib
    if gib < _ROOT_GIB:
        return failing(
            f"{gib} GiB are too few for the applications and the job's Python.",
            f"Give --root-volume-gib {_ROOT_GIB}.",
        )
    return ok(f"{gib} GiB")
