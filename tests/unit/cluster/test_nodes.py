import pytest

from fruits_cli.cloud.account import Machine
from fruits_cli.cloud.machines import MACHINES, has_bf16, has_vnni, is_arm_type, yarn_mib
from fruits_cli.cluster.nodes import (
    DRIVER_MIB,
    DRIVER_OVERHEAD_MIB,
    WORKER_MIB,
    ExecutorPlan,
    executor_plan,
)
from fruits_cli.config import Engine
from fruits_cli.errors import UsageError


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_executor_and_driver_fit_one_node_and_every_worker_has_its_memory(
    machine: Machine, engine: Engine
) -> None:
    plan = executor_plan([(machine, 2)], engine)

    used_mib = plan.heap_mib + plan.overhead_mib + DRIVER_MIB + DRIVER_OVERHEAD_MIB
    assert used_mib <= yarn_mib(machine)
    assert plan.overhead_mib >= plan.cores * WORKER_MIB[engine]
    assert 1 <= plan.cores <= machine.vcpus
    assert plan.heap_mib >= 1024
    assert plan.count >= 2


def test_m5_xlarge_gets_what_was_measured() -> None:
    assert executor_plan([(MACHINES["m5.xlarge"], 3)], Engine.OPENVINO) == ExecutorPlan(
        heap_mib=3072, overhead_mib=4096, cores=4, count=3
    )


def test_little_memory_costs_tensorflow_cores() -> None:
    machine = MACHINES["c5.xlarge"]

    assert executor_plan([(machine, 1)], Engine.OPENVINO).cores == 4
    assert executor_plan([(machine, 1)], Engine.TENSORFLOW).cores == 2


def test_executors_of_a_mixed_cluster_fit_its_smallest_node() -> None:
    nodes = [(MACHINES["m5.4xlarge"], 1), (MACHINES["m5.xlarge"], 2)]

    plan = executor_plan(nodes, Engine.OPENVINO)

    assert plan.cores == 4
    assert plan.count == 4 + 2


def test_a_node_without_room_for_one_worker_is_refused() -> None:
    with pytest.raises(UsageError, match="too little memory"):
        executor_plan([(Machine(2, 4096), 1)], Engine.TENSORFLOW)


@pytest.mark.parametrize(
    ("memory_mib", "yarn"), [(8192, 6144), (16384, 12288), (32768, 24576), (65536, 57344)]
)
def test_yarn_has_what_emr_documents(memory_mib: int, yarn: int) -> None:
    assert yarn_mib(Machine(4, memory_mib)) == yarn


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("m6g.xlarge", True), ("m7gd.2xlarge", True), ("c7gn.xlarge", True), ("a1.xlarge", True),
        ("t4g.large", True), ("x2gd.xlarge", True), ("m5.xlarge", False), ("g4dn.xlarge", False),
        ("g5.xlarge", False), ("m7i-flex.xlarge", False), ("r5ad.xlarge", False),
    ],
)  # fmt: skip
def test_arm_types_are_known_by_their_names(name: str, arm: bool) -> None:
    assert is_arm_type(name) is arm


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("m7i.xlarge", True), ("m7i-flex.xlarge", True), ("c7a.xlarge", True), ("r8i.xlarge", True),
        ("m5.xlarge", False), ("m6i.xlarge", False), ("m6a.xlarge", False), ("c5.xlarge", False),
    ],
)  # fmt: skip
def test_bf16_is_asked_of_the_types_that_have_it(name: str, bf16: bool) -> None:
    assert has_bf16(name) is bf16


@pytest.mark.parametrize(
    ("name", "has_it"),
    [
        ("m6i.xlarge", True),
        ("c6in.4xlarge", True),
        ("m7i-flex.large", True),
        ("r7a.xlarge", True),
        ("m6a.xlarge", False),
        ("m5.xlarge", False),
        ("m7g.xlarge", False),
    ],
)
def test_types_that_compute_int8_by_themselves(name: str, has_it: bool) -> None:
    assert has_vnni(name) is has_it
