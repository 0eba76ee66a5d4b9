"""Instance types: vCPUs, memory, processor, and which vCPU quota they count against."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fruits_cli.cloud.account import Machine
from fruits_cli.config import Precision

_FAMILIES_GIB_PER_VCPU = {"m5": 4, "m6i": 4, "m7i": 4, "c5": 2, "r5": 8}
_SIZES_VCPUS = {"xlarge": 4, "2xlarge": 8, "4xlarge": 16}

# What EMR 7 is known to run our job on; other types are asked of EC2.
MACHINES = {
    f"{family}.{size}": Machine(vcpus, vcpus * gib * 1024)
    for family, gib in _FAMILIES_GIB_PER_VCPU.items()
    for size, vcpus in _SIZES_VCPUS.items()
}

_ARM = re.compile(r"(a1|[a-z]+\d+[a-z]*g[a-z]*)[.-]")
_FAMILY = re.compile(r"[a-z]+")
_STANDARD_FAMILIES = frozenset("acdhimrtz")
# Sapphire Rapids and later have amx_bf16, Zen 4 and later avx512_bf16.
_BF16 = re.compile(r"[mcr][78][ia](-flex)?\.")


# Ice Lake and later, Zen 4 and later. Fifth generations have VNNI on a part of their machines.
_VNNI = re.compile(r"[mcr](6i|[78][ia])[dn]*(-flex)?\.")


def yarn_mib(machine: Machine) -> int:
    """What EMR lets YARN use of a node: all but a quarter, that quarter between 2 and 8 GiB.

    Source: EMR Release Guide, Hadoop task configuration (c5.2xlarge: 12288 MB of 16 GiB).
    """
    return machine.memory_mib - min(max(machine.memory_mib // 4, 2048), 8192)


def is_arm_type(instance_type: str) -> bool:
    """Whether the name is that of an Arm type, such as m7g.xlarge."""
    return _ARM.match(instance_type) is not None


def is_standard_type(instance_type: str) -> bool:
    """Whether the quotas of standard instances (A, C, D, H, I, M, R, T, Z) count the type.

    Not by its first letter: inf1, mac1, hpc6a and trn1 have quotas of their own.
    """
    family = _FAMILY.match(instance_type)
    return family is not None and family[0] in _STANDARD_FAMILIES


def has_bf16(instance_type: str) -> bool:
    """Whether the type's processor computes bf16 by itself (amx_bf16 or avx512_bf16)."""
    return _BF16.match(instance_type) is not None


def has_vnni(instance_type: str) -> bool:
    """Whether every machine of the type computes int8 by itself (avx512_vnni)."""
    return _VNNI.match(instance_type) is not None


def fast_precisions(instance_types: Iterable[str]) -> tuple[Precision, ...]:
    """The precisions for which all these types have instructions."""
    types = list(instance_types)
    tests = {Precision.BF16: has_bf16, Precision.INT8: has_vnni}
    return (
        Precision.F32,
        *(precision for precision, test in tests.items() if all(map(test, types))),
    )
