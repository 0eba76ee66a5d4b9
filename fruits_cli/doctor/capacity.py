"""Verdicts on release, instance types, memory and vCPUs; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from fruits_cli.cloud.account import Machine, Observed, PriceBook, Quota, SubnetFacts
from fruits_cli.cloud.clusters import Market, NodeGroup
from fruits_cli.cluster.nodes import (
    check_quota,
    executor_plan,
    node_groups,
    on_demand_falls_short,
    refuse_unfit_types,
    workers,
)
from fruits_cli.config import ClusterConfig, JobConfig
from fruits_cli.doctor.findings import Finding, Verdict, failing, not_asked, ok
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
_SPOT, _ON_DEMAND = "vCPUs Spot", "vCPUs on demand"
QUOTA_NAMES = {Market.ON_DEMAND: _ON_DEMAND, Market.SPOT: _SPOT}
# JupyterHub's image, Python's packages and the system fill the 15 GiB that are EMR's default.
_ROOT_GIB = 32


def release(label: str, offered: Sequence[str], *, today: date) -> Finding:
    """Whether the region offers the release, and AWS still supports it."""
    if label not in offered:
        near = _newest(offered)
        return failing("release", f"The region has no release {label}.", f"Give {near}.")
    until = next((day for start, day in _SUPPORTED_UNTIL.items() if label.startswith(start)), None)
    if until and today > until:
        return failing(
            "release",
            f"{label} is out of support since {until}.",
            f"Give {_newest(offered)}.",
        )
    return ok("release", f"{label}, supported until {until}" if until else label)


def _newest(offered: Sequence[str]) -> str:
    # The line of emr-spark-8 has neither JupyterHub nor TensorFlow.
    newest = next((one for one in offered if one.startswith("emr-7.")), "another one")
    return f"--release-label {newest}"


def applications(label: str, wanted: Sequence[str], offered: Collection[str]) -> Finding:
    """Whether the release has what create-cluster installs; EMR does not look at upper case."""
    known = {one.lower() for one in offered}
    if missing := [one for one in wanted if one.lower() not in known]:
        rest = ",".join(one for one in wanted if one not in missing)
        return failing(
            "applications",
            f"{label} has no {', '.join(missing)}.",
            f"Give --applications {rest}, or another --release-label.",
        )
    return ok("applications", ", ".join(wanted))


def types(groups: Sequence[NodeGroup], label: str, supported: Collection[str]) -> Finding:
    """Whether the release runs on the instance types."""
    wanted = _types(groups)
    if bad := [one for one in wanted if one not in supported]:
        flags = ", ".join(f"--{group.role}-type" for group in groups if group.instance_type in bad)
        return failing(
            "instance types", f"{label} does not run on {', '.join(bad)}.", f"Give another {flags}."
        )
    return ok("instance types", ", ".join(wanted))


def processors(
    groups: Sequence[NodeGroup], machines: Mapping[str, Machine], job: JobConfig
) -> Finding:
    """Whether the types' processors and memory can run the job.

    Raises ConfigError or UsageError saying which cannot, and what to take.
    """
    refuse_unfit_types(groups, machines, job.precision)
    plan = executor_plan(workers(groups, machines), job.engine)
    return ok(
        "memory",
        f"{plan.count} executors of {plan.cores} cores, {plan.heap_mib + plan.overhead_mib} MiB "
        f"each, for {job.engine} in {job.precision}",
    )


def zones(
    groups: Sequence[NodeGroup],
    offered: Mapping[str, Collection[str]],
    subnets: Sequence[SubnetFacts],
) -> Finding:
    """Whether one of the subnets' zones has all the types: a cluster lies in one zone."""
    ours = sorted({one.zone for one in subnets})
    fit = [zone for zone in ours if all(zone in offered[one] for one in _types(groups))]
    if not fit:
        lacking = next(
            (one for one in _types(groups) if not set(ours) & set(offered[one])), _types(groups)[0]
        )
        elsewhere = ", ".join(sorted(offered[lacking])) or "no zone of the region"
        return failing(
            "zones",
            f"No zone of the subnets ({', '.join(ours)}) has all types; {lacking} is in "
            f"{elsewhere}.",
            "Give --subnets of other zones, or other --primary-type, --core-type and --task-type.",
        )
    without = [zone for zone in ours if zone not in fit]
    but = f"; not all types are in {', '.join(without)}" if without else ""
    return ok("zones", f"{', '.join(fit)}{but}")


def vcpus(
    cluster: ClusterConfig,
    market: Market,
    quota: Quota | None,
    machines: Mapping[str, Machine],
    region: str,
) -> Finding:
    """Whether the account may run as many vCPUs of this market as the plan needs."""
    name, groups = QUOTA_NAMES[market], node_groups(cluster)
    if unknown := [one for one in _types(groups) if one not in machines]:
        return not_asked(name, f"how many {', '.join(unknown)} has is not known")
    needed = sum(
        machines[group.instance_type].vcpus * group.count
        for group in groups
        if group.market is market
    )
    if quota is None:
        return Finding(
            name,
            Verdict.COULD_NOT_ASK,
            f"{needed} are needed; the quota could not be read.",
            "It needs servicequotas:GetServiceQuota and ec2:DescribeInstances.",
        )
    seen = _only(quota, market, machines, region)
    said = f"{needed} needed, {quota.free} free ({quota.used} of {quota.limit} in use)"
    try:
        check_quota(cluster, seen)
    except QuotaTooSmall as error:
        return failing(name, said, error.hint)
    if market is Market.ON_DEMAND and on_demand_falls_short(cluster, seen):
        said += "; too few for the Spot nodes, should Spot have no capacity"
    return ok(name, said)


def _only(quota: Quota, market: Market, machines: Mapping[str, Machine], region: str) -> Observed:
    """The account with the quota of one market alone: an unknown one holds nothing up."""
    spot, on_demand = (quota, None) if market is Market.SPOT else (None, quota)
    prices = PriceBook({}, {})
    return Observed("", "", region, frozenset(), machines, None, on_demand, spot, prices)


def root_volume(cluster: ClusterConfig) -> Finding:
    """Whether the nodes' root volume holds what the bootstrap and the applications install."""
    gib = cluster.root_volume_gib
    if gib < _ROOT_GIB:
        return failing(
            "root volume",
            f"{gib} GiB are too few for the applications and the job's Python.",
            f"Give --root-volume-gib {_ROOT_GIB}.",
        )
    return ok("root volume", f"{gib} GiB")


def _types(groups: Sequence[NodeGroup]) -> list[str]:
    return list(dict.fromkeys(group.instance_type for group in groups))
