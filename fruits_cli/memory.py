"""How much memory and how many cores a Spark executor gets on an instance type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fruits_cli.cluster import Machine
from fruits_cli.errors import UsageError
from fruits_cli.models import Engine

_FAMILIES_GIB_PER_VCPU = {"m5": 4, "m6i": 4, "m7i": 4, "c5": 2, "r5": 8}
_SIZES_VCPUS = {"xlarge": 4, "2xlarge": 8, "4xlarge": 16}

# What EMR 7 is known to run our job on; other types are asked of EC2.
MACHINES = {
    f"{family}.{size}": Machine(vcpus, vcpus * gib * 1024)
    for family, gib in _FAMILIES_GIB_PER_VCPU.items()
    for size, vcpus in _SIZES_VCPUS.items()
}

DRIVER_MIB = 2048
# Spark adds so much to a container beside the heap: EMR sets the factor 0.1875, Spark 384 at least.
DRIVER_OVERHEAD_MIB = 512
# One Python worker a core, each with its own model.
WORKER_MIB = {Engine.OPENVINO: 400, Engine.TENSORFLOW: 1000}
_ROOMY_WORKER_MIB = 1024
_HEAP_MIB_A_CORE, _LEAST_HEAP_MIB = 768, 1024

_ARM = re.compile(r"(a1|[a-z]+\d+[a-z]*g[a-z]*)[.-]")
# Sapphire Rapids and later have amx_bf16, Zen 4 and later avx512_bf16.
_BF16 = re.compile(r"[mcr][78][ia](-flex)?\.")


@dataclass(frozen=True)
class ExecutorPlan:
    """One Spark executor: MiB of heap and of overhead, cores, and how many of them there are."""

    heap_mib: int
    overhead_mib: int
    cores: int
    count: int


def yarn_mib(machine: Machine) -> int:
    """What EMR lets YARN use of a node: all but a quarter, that quarter between 2 and 8 GiB.

    Source: EMR Release Guide, Hadoop task configuration (c5.2xlarge: 12288 MB of 16 GiB).
    """
    return machine.memory_mib - min(max(machine.memory_mib // 4, 2048), 8192)


def executor_plan(nodes: Sequence[tuple[Machine, int]], engine: Engine) -> ExecutorPlan:
    """Executors that fit on every type of `nodes` (machine, count) beside the application master.

    Raises UsageError where a node is too small for a single Python worker.
    """
    machine = min((machine for machine, _ in nodes), key=lambda one: (one.vcpus, one.memory_mib))
    room_mib = min(yarn_mib(one) for one, _ in nodes) - DRIVER_MIB - DRIVER_OVERHEAD_MIB
    heap_mib, overhead_mib, cores = _shape(room_mib, machine.vcpus, WORKER_MIB[engine])
    count = sum(
        number * max(1, min(yarn_mib(one) // (heap_mib + overhead_mib), one.vcpus // cores))
        for one, number in nodes
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


def is_arm_type(instance_type: str) -> bool:
    """Whether the name is that of an Arm type, such as m7g.xlarge."""
    return _ARM.match(instance_type) is not None


def has_bf16(instance_type: str) -> bool:
    """Whether the type's processor computes bf16 by itself (amx_bf16 or avx512_bf16)."""
    return _BF16.match(instance_type) is not None
