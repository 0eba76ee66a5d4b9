"""The nodes that a configuration asks for, and whether they can run the job; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fruits_cli.cloud.account import ON_DEMAND_QUOTA, SPOT_QUOTA, Machine, Observed, Quota
from fruits_cli.cloud.clusters import Market, NodeGroup, Role
from fruits_cli.cloud.machines import has_bf16, is_arm_type, is_standard_type, yarn_mib
from fruits_cli.config import ClusterConfig, Engine, Precision
from fruits_cli.errors import ConfigError, QuotaTooSmall, UsageError

DRIVER_MIB = 2048
# Spark adds so much to a container beside the heap: EMR sets the factor 0.1875, Spark 384 at least.
DRIVER_OVERHEAD_MIB = 512
# One Python worker a core, each with its own model.
WORKER_MIB = {Engine.OPENVINO: 400, Engine.TENSORFLOW: 1000}
_ROOMY_WORKER_MIB = 1024
_HEAP_MIB_A_CORE, _LEAST_HEAP_MIB = 768, 1024


@dataclass(frozen=True)
class ExecutorPlan:
    """One Spark executor: MiB of heap and of overhead, cores, and how many of them there are."""

    heap_mib: int
    overhead_mib: int
    cores: int
    count: int


def executor_plan(nodes: Sequence[tuple[Machine, int]], engine: Engine) -> ExecutorPlan:
    """Executors that fit on every type of `nodes` (machine, count) beside the application master.

    Raises UsageError where a node is too small for a single Python worker.
    """
    machine = min(
        (machine for machine, _ in nodes), key=lambda machine: (machine.vcpus, machine.memory_mib)
    )
    room_mib = min(yarn_mib(machine) for machine, _ in nodes) - DRIVER_MIB - DRIVER_OVERHEAD_MIB
    heap_mib, overhead_mib, cores = _shape(room_mib, machine.vcpus, WORKER_MIB[engine])
    count = sum(
        number * max(1, min(yarn_mib(machine) // (heap_mib + overhead_mib), machine.vcpus // cores))
        for machine, number in nodes
    )
    return ExecutorPlan(heap_mib, overhead_mib, cores, count)


def _shape(room_mib: int, vcpus: int, worker_mib: int) -> tuple[int, int, int]:
    heap_mib, overhead_mib = vcpus * _HEAP_MIB_A_CORE, vcpus * _ROOMY_WORKER_MIB
    if heap_mib + overhead_mib <= room_mib:
        return heap_mib, overhead_mib, vcpus
    overhead_mib = room_mib - _LEAST_HEAP_MIB
    cores = min(vcpus, overhead_mib // worker_mib)
    if cores < 1:
        raise UsageError(
            "The core nodes have too little memory for a single Python worker.",
            hint="Take --core-type m5.xlarge or larger.",
        )
    return _LEAST_HEAP_MIB, overhead_mib, cores


def node_groups(cluster: ClusterConfig) -> tuple[NodeGroup, ...]:
    """The nodes as configured; primary and core on demand, for a lost one ends the cluster."""
    groups = (
        NodeGroup(Role.PRIMARY, cluster.primary_type, 1),
        NodeGroup(Role.CORE, cluster.core_type, cluster.core_count),
        NodeGroup(Role.TASK, cluster.task_type, cluster.task_count, Market(cluster.task_market)),
    )
    return tuple(group for group in groups if group.count)


def at_managed_max(cluster: ClusterConfig) -> ClusterConfig:
    """The cluster as large as managed scaling may make it: the task fleet grows, else the core."""
    growing = "task_count" if cluster.task_count else "core_count"
    more = max((cluster.managed_max or 0) - cluster.core_count - cluster.task_count, 0)
    return cluster.model_copy(update={growing: getattr(cluster, growing) + more})


def uses_spot(cluster: ClusterConfig) -> bool:
    """Whether any node is asked for on Spot."""
    return any(group.market is Market.SPOT for group in node_groups(cluster))


def workers(
    groups: Sequence[NodeGroup], machines: Mapping[str, Machine]
) -> list[tuple[Machine, int]]:
    """Machine and number of the nodes that compute: all but the primary."""
    return [
        (machines[group.instance_type], group.count)
        for group in groups
        if group.role is not Role.PRIMARY
    ]


def refuse_unfit_types(
    groups: Sequence[NodeGroup], machines: Mapping[str, Machine], precision: Precision
) -> None:
    """Raises ConfigError where a type is unknown, has an Arm processor or lacks bf16."""
    for group in groups:
        kind, flag = group.instance_type, f"--{group.role.value}-type"
        machine = machines.get(kind)
        if is_arm_type(kind) or (machine and machine.is_arm):
            raise ConfigError(
                f"{kind} has an Arm processor, for which the job's Python is not built.",
                hint=f"Take an x86 type such as {flag} m7i.xlarge.",
            )
        if machine is None:
            raise ConfigError(
                f"{kind} is not an instance type of this region.", hint=f"Give another {flag}."
            )
        computes = group.role is not Role.PRIMARY
        if computes and precision is Precision.BF16 and not has_bf16(kind):
            raise ConfigError(
                f"{kind} has no bf16 instructions; emulated, bf16 is slower than f32 there.",
                hint=f"Take {flag} m7i.xlarge, or --precision f32.",
            )


def check_quota(cluster: ClusterConfig, observed: Observed) -> None:
    """Raises QuotaTooSmall with the largest shape that fits; an unknown quota passes."""
    groups = node_groups(cluster)
    if _fits(groups, observed):
        return
    wanted = {market: vcpus_of(groups, observed.machines, market) for market in Market}
    raise QuotaTooSmall(
        f"The cluster needs {sum(wanted.values())} vCPUs ({wanted[Market.ON_DEMAND]} on demand, "
        f"{wanted[Market.SPOT]} Spot), and the account has {_free(observed.on_demand)} on demand "
        f"and {_free(observed.spot)} Spot free in {observed.region}.",
        hint=f"{_advice(cluster, observed)}\n{_request(wanted, observed)}",
    )


def on_demand_falls_short(cluster: ClusterConfig, observed: Observed) -> bool:
    """Whether the quota leaves no room for the Spot nodes, should they fall back to on demand."""
    groups = node_groups(cluster)
    spot = vcpus_of(groups, observed.machines, Market.SPOT)
    needed = vcpus_of(groups, observed.machines, Market.ON_DEMAND) + spot
    return bool(spot and observed.on_demand and needed > observed.on_demand.free)


def managed_falls_short(cluster: ClusterConfig, observed: Observed) -> bool:
    """Whether the quota keeps managed scaling from its maximum."""
    return not _fits(node_groups(at_managed_max(cluster)), observed)


def _fits(groups: Sequence[NodeGroup], observed: Observed) -> bool:
    quotas = {Market.ON_DEMAND: observed.on_demand, Market.SPOT: observed.spot}
    return all(
        quota is None or vcpus_of(groups, observed.machines, market) <= quota.free
        for market, quota in quotas.items()
    )


def vcpus_of(groups: Sequence[NodeGroup], machines: Mapping[str, Machine], market: Market) -> int:
    """vCPUs of this market that count against the quotas of standard instances."""
    return sum(
        machines[group.instance_type].vcpus * group.count
        for group in groups
        if group.market is market and is_standard_type(group.instance_type)
    )


def _free(quota: Quota | None) -> str:
    return str(quota.free) if quota else "an unknown number"


def _advice(cluster: ClusterConfig, observed: Observed) -> str:
    shape = next(
        (fewer for fewer in _smaller(cluster) if _fits(node_groups(fewer), observed)), None
    )
    if shape is None:
        return "No smaller number of these nodes fits either."
    market = (
        "" if shape.task_market == cluster.task_market else f" --task-market {shape.task_market}"
    )
    return (
        f"The largest that fits: --core-count {shape.core_count} "
        f"--task-count {shape.task_count}{market}."
    )


def _smaller(cluster: ClusterConfig) -> Iterator[ClusterConfig]:
    """Shapes with fewer nodes, those with the most workers first, then those with more core."""
    counts = [
        (core, task)
        for core in range(1, cluster.core_count + 1)
        for task in range(cluster.task_count + 1)
    ]
    for core, task in sorted(counts, key=lambda pair: (sum(pair), pair[0]), reverse=True):
        for market in sorted({cluster.task_market, "on-demand"}, reverse=True):
            yield cluster.model_copy(
                update={"core_count": core, "task_count": task, "task_market": market}
            )


def _request(wanted: Mapping[Market, int], observed: Observed) -> str:
    short = observed.on_demand and wanted[Market.ON_DEMAND] > observed.on_demand.free
    quota = observed.on_demand if short else observed.spot
    code, need = (
        (ON_DEMAND_QUOTA, wanted[Market.ON_DEMAND]) if short else (SPOT_QUOTA, wanted[Market.SPOT])
    )
    used = quota.used if quota else 0
    return (
        "To ask AWS for more: aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {code} --desired-value {need + used}"
    )
