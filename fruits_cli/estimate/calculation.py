"""Minutes and dollars of a job on this machine and on clusters, before it runs; pure.

Each number is a range: from what was measured here, and from the assumptions of this file, which
are shown beside it. `low` is the best case, `high` the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fruits_cli.cloud.account import Machine, PriceBook
from fruits_cli.cloud.clusters import NodeGroup
from fruits_cli.cloud.machines import fast_precisions, has_bf16, has_vnni, is_arm_type
from fruits_cli.cluster.cost import hourly_price
from fruits_cli.cluster.nodes import at_managed_max, executor_plan, node_groups, workers
from fruits_cli.config import ClusterConfig, Engine, Precision
from fruits_cli.errors import UsageError

HERE = "this machine"
# The smallest piece of work that one Python worker takes.
_CHUNK = 32
_LEAST_BILLED_S = 60.0
_MOST_PICTURES = 10**9
_SPOT_TASKS = 4


@dataclass(frozen=True)
class Range:
    """A number between two: the best case and the worst one."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class Assumptions:
    """What cannot be measured before a run; a vCPU's speed is relative to a core of this one."""

    efficiency: Range = Range(0.80, 0.95)
    start_here_s: Range = Range(4, 10)
    start_cluster_s: Range = Range(6 * 60, 12 * 60)
    end_cluster_s: Range = Range(1 * 60, 3 * 60)
    older_vcpu: Range = Range(0.4, 1.0)
    newer_vcpu: Range = Range(0.6, 1.3)
    bf16_gain: Range = Range(1.4, 2.2)
    int8_gain: Range = Range(2.0, 3.2)
    int8_without_vnni: float = 0.9
    send_mbit_s: Range = Range(10, 100)
    fetch_mbit_s: Range = Range(50, 300)
    pca_fixed_s: Range = Range(0.5, 3)
    pca_core_s: Range = Range(0.15e-3, 0.6e-3)
    spot_share: float = 0.3
    result_bytes: int = 6_000
    result_bytes_without_features: int = 3_200


ASSUMED = Assumptions()


@dataclass(frozen=True)
class Work:
    """The job's pictures; `bytes_to_send` is 0 where they are on S3 already."""

    pictures: int
    bytes_to_send: float
    keep_features: bool = True

    def of(self, pictures: int) -> Work:
        """The same with another number of such pictures."""
        share = self.bytes_to_send / self.pictures if self.pictures else 0.0
        return replace(self, pictures=pictures, bytes_to_send=share * pictures)


@dataclass(frozen=True)
class Shape:
    """Where the job may run: so many Python workers at once, each with images a second.

    groups: the nodes of a cluster, none for this machine.
    """

    name: str
    precision: Precision
    slots: int
    images_s: Range
    groups: tuple[NodeGroup, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """Seconds by stage until the results are here, and dollars; None where no price is known."""

    shape: Shape
    stages: Mapping[str, Range]
    usd: Range | None

    @property
    def seconds(self) -> Range:
        return sum(self.stages.values(), Range(0, 0))

    @property
    def on_cluster(self) -> Range:
        """The time for which the cluster is up."""
        return sum((self.stages[name] for name in ("start", "features", "pca")), Range(0, 0))


@dataclass(frozen=True)
class Candidate:
    """A cluster to compare, and the precision to compute in there."""

    name: str
    cluster: ClusterConfig
    precision: Precision


def candidates(
    cluster: ClusterConfig, *, engine: Engine, precision: Precision, has_int8: bool = False
) -> list[Candidate]:
    """The configured cluster on demand, one with more nodes on Spot, one that has bf16; where the
    pictures allow int8, one that has that; with managed scaling, the cluster at its maximum.
    """
    if precision is Precision.AUTO:
        fast = fast_precisions((cluster.core_type, cluster.task_type))
        may = {Precision.INT8: has_int8, Precision.BF16: engine is Engine.OPENVINO}
        precision = next((p for p, ok in may.items() if ok and p in fast), Precision.F32)
    on_demand = cluster.model_copy(update={"task_market": "on-demand"})
    tasks = max(_SPOT_TASKS, 2 * cluster.task_count)
    spot = cluster.model_copy(update={"task_market": "spot", "task_count": tasks})
    keys = ("core_type", "task_type")
    types = {key: _type_with(has_bf16, "m7i", getattr(cluster, key)) for key in keys}
    bf16 = on_demand.model_copy(update=types)
    types = {key: _type_with(has_vnni, "m6i", getattr(cluster, key)) for key in keys}
    int8 = [Candidate("int8-capable", on_demand.model_copy(update=types), Precision.INT8)]
    most = at_managed_max(cluster)
    # The other engine computes in f32 only, there too.
    best = Precision.BF16 if engine is Engine.OPENVINO else Precision.F32
    return [
        Candidate("on demand", on_demand, precision),
        Candidate("Spot", spot, precision),
        Candidate("bf16-capable", bf16, best),
        *(int8 if has_int8 else []),
        *([Candidate("managed maximum", most, precision)] if cluster.managed_max else []),
    ]


def _type_with(has: Callable[[str], bool], family: str, instance_type: str) -> str:
    if has(instance_type):
        return instance_type
    return f"{family}.{instance_type.partition('.')[2]}"


def cluster_shape(
    candidate: Candidate,
    machines: Mapping[str, Machine],
    speeds: Mapping[Precision, float],
    engine: Engine,
    assumed: Assumptions = ASSUMED,
) -> Shape:
    """The cluster with its speed; in f32 where its nodes have no bf16.

    speeds: images a second of one core of this machine, f32 among them. Raises UsageError for
    types that are unknown or cannot run the job.
    """
    groups = node_groups(candidate.cluster)
    for kind in (group.instance_type for group in groups):
        if is_arm_type(kind) or (kind in machines and machines[kind].is_arm):
            raise UsageError(f"{kind} has an Arm processor, for which the job is not built.")
        if kind not in machines:
            raise UsageError(f"the number of vCPUs of {kind} is not known here.")
    nodes = workers(groups, machines)
    executors = executor_plan(nodes, engine)
    types = {kind for kind in (candidate.cluster.core_type, candidate.cluster.task_type)}
    computes = all(has_bf16(kind) for kind in types)
    precision = candidate.precision
    if precision is Precision.BF16 and not computes:
        precision = Precision.F32
    vcpu = assumed.newer_vcpu if computes else assumed.older_vcpu
    images_s = vcpu * speeds[Precision.F32]
    if precision is not Precision.F32:
        gain = gain_of(precision, speeds, assumed)
        if precision is Precision.INT8 and not all(map(has_vnni, types)):
            gain = Range(min(gain.low, assumed.int8_without_vnni), gain.high)
        images_s = Range(images_s.low * gain.low, images_s.high * gain.high)
    return Shape(candidate.name, precision, executors.cores * executors.count, images_s, groups)


def gain_of(precision: Precision, speeds: Mapping[Precision, float], assumed: Assumptions) -> Range:
    """How much faster than f32 it is on nodes that have it: at least as much as measured here.

    The nodes may have AMX where this machine does not.
    """
    guess = assumed.int8_gain if precision is Precision.INT8 else assumed.bf16_gain
    if precision not in speeds:
        return guess
    measured = speeds[precision] / speeds[Precision.F32]
    return Range(0.8 * measured, max(1.25 * measured, guess.high))


def estimated(
    shape: Shape, work: Work, prices: PriceBook, assumed: Assumptions = ASSUMED
) -> Estimate:
    """Time and money of this work on that shape."""
    stages = stage_seconds(shape, work, assumed)
    if not shape.groups:
        return Estimate(shape, stages, Range(0, 0))
    usd_h = price_range(shape.groups, prices, assumed)
    found = Estimate(shape, stages, usd=None)
    if usd_h is None:
        return found
    return replace(found, usd=cost(found.on_cluster + assumed.end_cluster_s, usd_h))


def stage_seconds(shape: Shape, work: Work, assumed: Assumptions) -> dict[str, Range]:
    """Seconds of each stage; pictures are sent before a cluster starts, results come last."""
    slots = shape.slots
    core_s = work.pictures / slots
    # One Python worker computes at least one chunk, however many others there are.
    at_least = min(work.pictures, _CHUNK)
    speed, efficiency = shape.images_s, assumed.efficiency
    features = Range(
        max(core_s / efficiency.high, at_least) / speed.high,
        max(core_s / efficiency.low, at_least) / speed.low,
    )
    pca = assumed.pca_core_s * core_s + assumed.pca_fixed_s
    if not shape.groups:
        return {"start": assumed.start_here_s, "features": features, "pca": pca}
    result_bytes = (
        assumed.result_bytes if work.keep_features else assumed.result_bytes_without_features
    )
    return {
        "send": _transfer(work.bytes_to_send, assumed.send_mbit_s),
        "start": assumed.start_cluster_s,
        "features": features,
        "pca": pca,
        "fetch": _transfer(result_bytes * work.pictures, assumed.fetch_mbit_s),
    }


def _transfer(size: float, mbit_s: Range) -> Range:
    mbit = size * 8 / 1e6
    return Range(mbit / mbit_s.high, mbit / mbit_s.low)


def price_range(
    groups: Sequence[NodeGroup], prices: PriceBook, assumed: Assumptions
) -> Range | None:
    """Dollars an hour: with Spot, and where all of it falls back to on demand.

    A Spot price that is not known is assumed. None where a type has no price.
    """
    guessed = {kind: {"": usd * assumed.spot_share} for kind, usd in prices.on_demand.items()}
    price = hourly_price(groups, replace(prices, spot={**guessed, **prices.spot}))
    return None if price.unknown else Range(price.usd, price.at_most_usd)


def cost(seconds: Range, usd_h: Range) -> Range:
    """Dollars of so many seconds: billed by the second, a minute at least."""
    return Range(
        max(_LEAST_BILLED_S, seconds.low) * usd_h.low / 3600,
        max(_LEAST_BILLED_S, seconds.high) * usd_h.high / 3600,
    )


@dataclass(frozen=True)
class BreakEven:
    """Up to how many pictures this machine is faster than every cluster; None: than any number.

    At `low` the clusters are at their best and this machine at its worst, at `high` the reverse.
    """

    low: int | None
    middle: int | None
    high: int | None


def break_even(
    here: Shape, clusters: Sequence[Shape], work: Work, assumed: Assumptions = ASSUMED
) -> BreakEven:
    """Where the fastest cluster overtakes this machine."""

    def seconds(end: str, shape: Shape, pictures: int) -> float:
        total = sum(stage_seconds(shape, work.of(pictures), assumed).values(), Range(0, 0))
        return float(getattr(total, end))

    def up_to(ours: str, theirs: str) -> int | None:
        found = [
            crossing(partial(seconds, ours, here), partial(seconds, theirs, cluster))
            for cluster in clusters
        ]
        return min((number for number in found if number is not None), default=None)

    return BreakEven(up_to("high", "low"), up_to("middle", "middle"), up_to("low", "high"))


def crossing(ours: Callable[[int], float], theirs: Callable[[int], float]) -> int | None:
    """The largest number for which `ours` is not above `theirs`; None where it never is above.

    Both grow with the number, and meet once at most.
    """
    if ours(1) > theirs(1):
        return 0
    if ours(_MOST_PICTURES) <= theirs(_MOST_PICTURES):
        return None
    below, above = 1, _MOST_PICTURES
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if ours(middle) <= theirs(middle) else (below, middle)
    return below


def fastest(estimates: Sequence[Estimate]) -> Estimate:
    """The one with the shortest middle time."""
    return min(estimates, key=lambda estimate: estimate.seconds.middle)


def instance_types(found: Sequence[Candidate]) -> Iterator[str]:
    """Every instance type of these clusters, once."""
    groups = (group for candidate in found for group in node_groups(candidate.cluster))
    yield from dict.fromkeys(group.instance_type for group in groups)
