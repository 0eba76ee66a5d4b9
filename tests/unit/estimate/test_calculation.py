from __future__ import annotations

from dataclasses import replace

import pytest

from fruits_cli.cloud.account import Machine, PriceBook
from fruits_cli.cloud.clusters import Market, NodeGroup, Role
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.config import ClusterConfig, Engine, Precision
from fruits_cli.errors import UsageError
from fruits_cli.estimate.calculation import (
    ASSUMED,
    HERE,
    Assumptions,
    BreakEven,
    Range,
    Shape,
    Work,
    break_even,
    candidates,
    cluster_shape,
    cost,
    crossing,
    estimated,
    gain_of,
    instance_types,
    price_range,
    stage_seconds,
)

F32, BF16, INT8 = Precision.F32, Precision.BF16, Precision.INT8
NODES = (
    NodeGroup(Role.PRIMARY, "m5.xlarge", 1),
    NodeGroup(Role.CORE, "m5.xlarge", 2),
    NodeGroup(Role.TASK, "m5.xlarge", 1, Market.SPOT),
)
PRICES = PriceBook(
    on_demand={"m5.xlarge": 0.20},
    emr={"m5.xlarge": 0.05},
    spot={"m5.xlarge": {"eu-west-3a": 0.06, "eu-west-3b": 0.08}},
)
# Round numbers, of which results can be reckoned in one's head.
ROUND = Assumptions(
    efficiency=Range(0.5, 1.0),
    start_here_s=Range(4, 10),
    start_cluster_s=Range(300, 600),
    end_cluster_s=Range(60, 120),
    older_vcpu=Range(0.5, 1.0),
    newer_vcpu=Range(1.0, 2.0),
    bf16_gain=Range(1.5, 2.0),
    int8_gain=Range(2.0, 4.0),
    send_mbit_s=Range(8, 80),
    fetch_mbit_s=Range(8, 80),
    pca_fixed_s=Range(1, 2),
    pca_core_s=Range(0.001, 0.002),
    spot_share=0.25,
    result_bytes=1000,
    result_bytes_without_features=500,
)
LAPTOP = Shape(HERE, F32, 2, Range(100, 100))
CLUSTER = Shape("c", F32, 12, Range(50, 100), NODES)


def work(pictures: int, *, each: float = 1000) -> Work:
    return Work(pictures, pictures * each)


@pytest.mark.parametrize(
    ("pictures", "features", "pca"),
    [
        (12_000, Range(60, 120), Range(7, 14)),
        (120_000, Range(600, 1200), Range(61, 122)),
        # One worker takes a whole chunk, the other has nothing to do.
        (32, Range(0.32, 0.32), Range(1.016, 2.032)),
        (1, Range(0.01, 0.01), Range(1.0005, 2.001)),
        (0, Range(0, 0), Range(1, 2)),
    ],
)
def test_here_pictures_are_shared_by_all_cores(pictures: int, features: Range, pca: Range) -> None:
    stages = stage_seconds(LAPTOP, work(pictures), ROUND)

    assert list(stages) == ["start", "features", "pca"]
    assert stages["start"] == Range(4, 10)
    assert (stages["features"].low, stages["features"].high) == pytest.approx(
        (features.low, features.high)
    )
    assert (stages["pca"].low, stages["pca"].high) == pytest.approx((pca.low, pca.high))


def test_on_a_cluster_pictures_are_sent_first_and_results_fetched_last() -> None:
    stages = stage_seconds(CLUSTER, work(120_000), ROUND)

    assert stages == {
        "send": Range(12, 120),
        "start": Range(300, 600),
        "features": Range(100, 400),
        "pca": Range(11, 22),
        "fetch": Range(12, 120),
    }


def test_pictures_on_s3_are_not_sent_and_results_without_features_are_smaller() -> None:
    stages = stage_seconds(CLUSTER, Work(120_000, 0, keep_features=False), ROUND)

    assert (stages["send"], stages["fetch"]) == (Range(0, 0), Range(6, 60))


def test_a_cluster_is_paid_for_from_its_start_to_its_end_but_not_for_the_way() -> None:
    found = estimated(CLUSTER, work(120_000), PRICES, ROUND)

    assert found.seconds == Range(435, 1262)
    assert found.on_cluster == Range(411, 1022)
    assert found.usd is not None
    # Three nodes on demand with EMR's share, the fourth on Spot, or on demand as well.
    assert found.usd.low == pytest.approx((411 + 60) * (3 * 0.25 + 0.13) / 3600)
    assert found.usd.high == pytest.approx((1022 + 120) * 4 * 0.25 / 3600)


def test_this_machine_costs_nothing() -> None:
    assert estimated(LAPTOP, work(1), PRICES, ROUND).usd == Range(0, 0)


def test_a_type_without_a_price_has_minutes_and_no_dollars() -> None:
    found = estimated(CLUSTER, work(10), replace(PRICES, emr={}), ROUND)

    assert found.usd is None
    assert found.seconds.low > 300


@pytest.mark.parametrize(
    ("seconds", "billed"), [(Range(1, 59), (60, 60)), (Range(30, 61), (60, 61))]
)
def test_a_minute_is_paid_for_at_least(seconds: Range, billed: tuple[float, float]) -> None:
    found = cost(seconds, Range(36, 36))

    assert (found.low, found.high) == pytest.approx([0.01 * one for one in billed])


def test_emrs_share_is_paid_on_spot_too_and_an_unknown_spot_price_is_assumed() -> None:
    task = [NodeGroup(Role.TASK, "m5.xlarge", 2, Market.SPOT)]

    known = price_range(task, PRICES, ROUND)
    assumed = price_range(task, replace(PRICES, spot={}), ROUND)

    assert known is not None
    assert (known.low, known.high) == pytest.approx((2 * 0.13, 2 * 0.25))
    assert assumed is not None
    assert (assumed.low, assumed.high) == pytest.approx((2 * (0.2 * 0.25 + 0.05), 2 * 0.25))


@pytest.mark.parametrize("shape", [LAPTOP, CLUSTER], ids=["here", "cluster"])
@pytest.mark.parametrize("each", [0, 5_000, 5e6])
def test_more_pictures_are_never_faster_nor_cheaper(shape: Shape, each: float) -> None:
    numbers = [0, 1, 2, 31, 32, 33, 64, 1_000, 12_345, 10**6, 10**7, 10**9]
    found = [estimated(shape, work(n, each=each), PRICES) for n in numbers]

    for one in found:
        assert 0 < one.seconds.low <= one.seconds.high
        assert one.usd is not None
        assert 0 <= one.usd.low <= one.usd.high
    for end in ("low", "middle", "high"):
        times = [getattr(one.seconds, end) for one in found]
        dollars = [getattr(one.usd, end) for one in found]
        assert times == sorted(times)
        assert dollars == sorted(dollars)


def test_more_workers_are_never_slower() -> None:
    few, many = (replace(CLUSTER, slots=slots) for slots in (4, 64))

    for number in (1, 100, 10**6):
        assert (
            estimated(many, work(number), PRICES).seconds.middle
            <= estimated(few, work(number), PRICES).seconds.middle
        )


@pytest.mark.parametrize(
    ("slope", "start", "expected"),
    [(1.0, 100.0, 100), (1.0, 0.5, 0), (0.0, 100.0, None), (1e-7, 50.0, 500_000_000)],
)
def test_the_crossing_is_the_last_number_at_which_ours_is_not_above(
    slope: float, start: float, expected: int | None
) -> None:
    assert crossing(lambda n: slope * n, lambda n: start) == expected


def test_the_break_even_is_where_the_fastest_cluster_overtakes() -> None:
    exact = replace(
        ROUND,
        efficiency=Range(1, 1),
        start_here_s=Range(0, 0),
        start_cluster_s=Range(600, 600),
        send_mbit_s=Range(1e9, 1e9),
        fetch_mbit_s=Range(1e9, 1e9),
        pca_fixed_s=Range(0, 0),
        pca_core_s=Range(0, 0),
    )
    slow, fast = (Shape("c", F32, slots, Range(100, 100), NODES) for slots in (2, 4))

    # n / 200 = 600 + n / 400
    assert break_even(LAPTOP, [slow, fast], work(10), exact) == BreakEven(240_000, 240_000, 240_000)
    assert break_even(LAPTOP, [slow], work(10), exact) == BreakEven(None, None, None)
    assert break_even(LAPTOP, [], work(10), exact) == BreakEven(None, None, None)


def test_ranges_make_the_break_even_a_range() -> None:
    found = break_even(LAPTOP, [CLUSTER], work(1000))

    assert found.low is not None
    assert found.middle is not None
    assert 1_000 < found.low < found.middle
    assert found.high is None or found.middle < found.high
    here = estimated(LAPTOP, work(1000).of(found.middle + 1), PRICES).seconds.middle
    there = estimated(CLUSTER, work(1000).of(found.middle + 1), PRICES).seconds.middle
    assert here > there


def test_pictures_that_are_large_are_never_worth_sending() -> None:
    assert break_even(LAPTOP, [CLUSTER], work(1000, each=5e6)).middle is None


def test_three_clusters_are_compared() -> None:
    on_demand, spot, bf16 = candidates(ClusterConfig(), engine=Engine.OPENVINO, precision=F32)

    assert (on_demand.cluster.task_market, on_demand.cluster.task_count) == ("on-demand", 1)
    assert (spot.cluster.task_market, spot.cluster.task_count) == ("spot", 4)
    assert (bf16.cluster.core_type, bf16.cluster.task_type) == ("m7i.xlarge", "m7i.xlarge")
    assert [candidate.precision for candidate in (on_demand, spot, bf16)] == [F32, F32, BF16]
    assert list(instance_types([on_demand, spot, bf16])) == ["m5.xlarge", "m7i.xlarge"]


def test_int8_is_compared_where_the_pictures_allow_it() -> None:
    *_, int8 = candidates(ClusterConfig(), engine=Engine.OPENVINO, precision=F32, has_int8=True)

    assert (int8.cluster.core_type, int8.precision) == ("m6i.xlarge", INT8)
    shape = cluster_shape(int8, MACHINES, {F32: 100.0, INT8: 250.0}, Engine.OPENVINO, ROUND)
    assert shape.precision is INT8
    assert (shape.images_s.low, shape.images_s.high) == pytest.approx((50 * 2.0, 100 * 4.0))


def test_int8_may_gain_nothing_on_nodes_that_may_lack_its_instructions() -> None:
    (candidate, *_) = candidates(
        ClusterConfig(), engine=Engine.OPENVINO, precision=INT8, has_int8=True
    )

    shape = cluster_shape(candidate, MACHINES, {F32: 100.0, INT8: 250.0}, Engine.OPENVINO, ROUND)

    assert shape.precision is INT8
    assert (shape.images_s.low, shape.images_s.high) == pytest.approx((50 * 0.9, 100 * 4.0))


@pytest.mark.parametrize(
    ("core_type", "has_int8", "expected"),
    [
        ("m5.xlarge", True, F32),
        ("m6i.xlarge", True, INT8),
        ("m6i.xlarge", False, F32),
        ("m7i.xlarge", True, INT8),
        ("m7i.xlarge", False, BF16),
    ],
)
def test_auto_is_the_fastest_that_all_nodes_have(
    core_type: str, has_int8: bool, expected: Precision
) -> None:
    cluster = ClusterConfig(core_type=core_type, task_type=core_type)

    found = candidates(cluster, engine=Engine.OPENVINO, precision=Precision.AUTO, has_int8=has_int8)

    assert [candidate.precision for candidate in found[:2]] == [expected, expected]


def test_managed_scaling_is_compared_at_its_maximum() -> None:
    cluster = ClusterConfig(managed_max=10)
    *_, most = candidates(cluster, engine=Engine.OPENVINO, precision=F32)
    *_, core = candidates(
        cluster.model_copy(update={"task_count": 0}), engine=Engine.OPENVINO, precision=F32
    )

    assert (most.name, most.cluster.core_count, most.cluster.task_count) == (
        "managed maximum",
        2,
        8,
    )
    assert (core.cluster.core_count, core.cluster.task_count) == (10, 0)
    assert cluster_shape(most, MACHINES, {F32: 1.0}, Engine.OPENVINO).slots == 40


def test_the_reference_engine_computes_in_f32_everywhere() -> None:
    found = candidates(ClusterConfig(), engine=Engine.TENSORFLOW, precision=F32)

    assert {candidate.precision for candidate in found} == {F32}


@pytest.mark.parametrize(
    ("precision", "speeds", "expected"),
    [
        (F32, {F32: 100.0}, [(F32, 50, 100), (F32, 50, 100), (BF16, 150, 400)]),
        # Nodes without bf16 compute in f32, and those that have it are newer.
        (BF16, {F32: 100.0}, [(F32, 50, 100), (F32, 50, 100), (BF16, 150, 400)]),
        (F32, {F32: 100.0, BF16: 150.0}, [(F32, 50, 100), (F32, 50, 100), (BF16, 120, 400)]),
    ],
)
def test_a_vcpu_is_as_fast_as_assumed_beside_a_core_of_this_machine(
    precision: Precision,
    speeds: dict[Precision, float],
    expected: list[tuple[Precision, float, float]],
) -> None:
    asked = candidates(ClusterConfig(), engine=Engine.OPENVINO, precision=precision)

    shapes = [
        cluster_shape(candidate, MACHINES, speeds, Engine.OPENVINO, ROUND) for candidate in asked
    ]

    assert [shape.slots for shape in shapes] == [12, 24, 12]
    assert [shape.precision for shape in shapes] == [one for one, _, _ in expected]
    for shape, (_, low, high) in zip(shapes, expected, strict=True):
        assert (shape.images_s.low, shape.images_s.high) == pytest.approx((low, high))


def test_a_node_with_little_memory_has_fewer_workers_of_the_heavy_engine() -> None:
    cluster = ClusterConfig(core_type="c5.xlarge", task_count=0)
    (candidate, *_) = candidates(cluster, engine=Engine.TENSORFLOW, precision=F32)

    light = cluster_shape(candidate, MACHINES, {F32: 1.0}, Engine.OPENVINO)
    heavy = cluster_shape(candidate, MACHINES, {F32: 1.0}, Engine.TENSORFLOW)

    assert heavy.slots < light.slots <= 8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"core_type": "m7g.xlarge"}, "m7g.xlarge has an Arm processor"),
        ({"core_type": "x9.huge"}, "vCPUs of x9.huge is not known"),
        ({"core_type": "odd.arm"}, "odd.arm has an Arm processor"),
    ],
)
def test_types_that_cannot_run_the_job_are_told(change: dict[str, str], told: str) -> None:
    (candidate, *_) = candidates(ClusterConfig(**change), engine=Engine.OPENVINO, precision=F32)
    machines = {**MACHINES, "odd.arm": Machine(4, 16384, is_arm=True)}

    with pytest.raises(UsageError, match=told):
        cluster_shape(candidate, machines, {F32: 1.0}, Engine.OPENVINO)


def test_bf16_gains_what_was_measured_here_or_more_or_what_is_assumed() -> None:
    assert gain_of(BF16, {F32: 10.0}, ASSUMED) == ASSUMED.bf16_gain
    fast = gain_of(BF16, {F32: 10.0, BF16: 20.0}, ASSUMED)
    assert (fast.low, fast.high) == (1.6, 2.5)
    slow = gain_of(BF16, {F32: 10.0, BF16: 12.5}, ASSUMED)
    assert (slow.low, slow.high) == (1.0, ASSUMED.bf16_gain.high)
