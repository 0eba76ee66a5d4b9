"""An estimate as lines for the reader and as facts for --output json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fruits_cli.cloud.clusters import Market
from fruits_cli.cluster.cost import NOT_INCLUDED
from fruits_cli.config import Precision
from fruits_cli.estimate.calculation import (
    ASSUMED,
    HERE,
    BreakEven,
    Estimate,
    Range,
    Work,
    fastest,
    gain_of,
)
from fruits_cli.estimate.timing import Timed
from fruits_cli.screen import Table


@dataclass(frozen=True)
class Measured:
    """What was timed here, by precision; the sample was computed `rounds` times over."""

    timed: Mapping[Precision, Timed]
    sample: str
    pictures: int
    rounds: int
    cores: int
    engine: str
    image_size: int
    weights: str
    left_out: tuple[str, ...] = ()

    @property
    def core_speeds(self) -> dict[Precision, Range]:
        """Images a second of one core while all are at work: as measured, and left alone."""
        return {
            precision: Range(timed.images_s, timed.undisturbed_images_s) * (1 / self.cores)
            for precision, timed in self.timed.items()
        }

    @property
    def speeds(self) -> dict[Precision, float]:
        """Images a second of one core left alone, as those of a cluster are."""
        return {precision: speed.high for precision, speed in self.core_speeds.items()}


@dataclass(frozen=True)
class Report:
    """Everything that an estimate reports; `notes` say why `clusters` may be empty."""

    source: str
    work: Work
    measured: Measured
    here: tuple[Estimate, ...]
    clusters: tuple[Estimate, ...]
    break_even: BreakEven
    price_source: str
    notes: tuple[str, ...] = ()


def report_lines(report: Report) -> list[str | Table]:
    """The table, what it is based on, and which place is the better choice."""
    size = f"{report.work.bytes_to_send / 1e6:,.1f} MB" if report.work.bytes_to_send else "nothing"
    return [
        f"Pictures: {report.work.pictures:,} ({report.source}), {size} to send.",
        _timed_line(report.measured),
        Table([("where", "nodes", "workers", "precision", "minutes", "dollars"), *_rows(report)]),
        "Minutes: until the results are on this machine, start-up included; each number from the "
        "best case to the worst.",
        *verdict_lines(report),
        *(f"Note: {note}" for note in report.notes),
        *(f"Assumed: {line}." for line in assumption_lines(report)),
        f"Dollars: by the second and one minute at least, EMR's share also on Spot; "
        f"{report.price_source}; {NOT_INCLUDED}.",
    ]


def _timed_line(measured: Measured) -> str:
    speeds = ", ".join(
        f"{precision} {timed.images_s:.0f} images/s" for precision, timed in measured.timed.items()
    )
    times = f", {measured.rounds} times over" if measured.rounds > 1 else ""
    what = f"{measured.pictures} pictures of {measured.sample}{times}"
    how = f"{measured.engine}, {measured.image_size} px, weights {measured.weights}"
    return f"Timed here on {measured.cores} cores: {speeds} ({what}; {how})."


def _rows(report: Report) -> list[Sequence[object]]:
    return [
        (
            estimate.shape.name,
            _nodes(estimate),
            estimate.shape.slots,
            estimate.shape.precision.value,
            span(estimate.seconds * (1 / 60)),
            span(estimate.usd, places=2) if estimate.usd else "unknown",
        )
        for estimate in (*report.here, *report.clusters)
    ]


def _nodes(estimate: Estimate) -> str:
    return ", ".join(
        f"{group.count} {group.role} {group.instance_type}"
        f"{' Spot' if group.market is Market.SPOT else ''}"
        for group in estimate.shape.groups
    )


def span(numbers: Range, *, places: int = 0) -> str:
    """`low to high`, without meaningless digits."""
    low, high = (_number(number, places) for number in (numbers.low, numbers.high))
    return low if low == high else f"{low} to {high}"


def _number(number: float, places: int) -> str:
    if number == 0:
        return "0"
    if not places and number < 10:
        places = 1
    least = 10.0**-places
    return f"{number:,.{places}f}" if number >= least else f"{least:.{places}f}"


def verdict_lines(report: Report) -> list[str]:
    """Which is fastest for these pictures, and when this machine is the better choice."""
    here = fastest(report.here)
    if not report.clusters:
        return ["No cluster could be compared; this machine costs nothing."]
    cluster = fastest(report.clusters)
    first, second = sorted((here, cluster), key=lambda estimate: estimate.seconds.middle)
    sure = first.seconds.high <= second.seconds.low
    close = "" if sure else ", though the ranges overlap"
    cheap = _cheapest_line(report.clusters)
    return [
        f"Fastest for these pictures: {_name(first)}{close}. {cheap}",
        _choice_line(report.break_even),
    ]


def _name(estimate: Estimate) -> str:
    name = HERE if not estimate.shape.groups else f"the cluster {estimate.shape.name!r}"
    return f"{name}, {span(estimate.seconds * (1 / 60))} minutes"


def _cheapest_line(clusters: Sequence[Estimate]) -> str:
    priced = [estimate for estimate in clusters if estimate.usd]
    if not priced:
        return "This machine costs nothing."
    cheapest = min(priced, key=lambda estimate: estimate.usd.middle if estimate.usd else 0.0)
    usd = span(cheapest.usd, places=2) if cheapest.usd else ""
    return f"This machine costs nothing, the cheapest cluster ({cheapest.shape.name}) ${usd}."


def _choice_line(found: BreakEven) -> str:
    if found.middle is None:
        sure = "" if found.low is None else f" (certainly up to {_rounded(found.low)})"
        return (
            f"This machine is the better choice at any number of such pictures{sure}: for each of "
            "them it takes no longer than a cluster, upload and download included."
        )
    least = _rounded(found.low or 0)
    most = "any number" if found.high is None else _rounded(found.high)
    return (
        f"This machine is the better choice up to about {_rounded(found.middle)} such pictures "
        f"(between {least} and {most}): up to there it finishes before any cluster."
    )


def _rounded(number: int) -> str:
    """Two significant digits: the estimate is no more exact."""
    size = 10 ** max(0, len(str(number)) - 2)
    return f"{round(number / size) * size:,}"


def assumption_lines(report: Report) -> list[str]:
    """The assumptions behind the table."""
    assumed, speeds = ASSUMED, report.measured.speeds
    minute = 1 / 60
    gains = [
        f"{precision} on nodes that have it is {_speed(gain_of(precision, speeds, assumed))} times "
        f"as fast as f32 ({'as measured here, or more' if precision in speeds else 'a guess'})"
        for precision in (Precision.BF16, Precision.INT8)
        if precision in (Precision.BF16, *speeds)
    ]
    result_kb = (
        assumed.result_bytes if report.work.keep_features else assumed.result_bytes_without_features
    ) / 1000
    return [
        f"a cluster starts in {span(assumed.start_cluster_s * minute)} minutes and ends in "
        f"{span(assumed.end_cluster_s * minute)}, both paid for; Spark here starts in "
        f"{span(assumed.start_here_s)} seconds",
        f"a vCPU does {_speed(assumed.older_vcpu)} of what a core of this machine does, "
        f"one of m7i {_speed(assumed.newer_vcpu)}",
        *gains,
        f"all workers together reach {_speed(assumed.efficiency)} of their sum",
        f"PCA takes {span(assumed.pca_fixed_s)} seconds and "
        f"{_speed(assumed.pca_core_s * 1000)} ms of a core for each picture",
        f"sending at {span(assumed.send_mbit_s)} Mbit/s, fetching {result_kb:.1f} kB a picture "
        f"at {span(assumed.fetch_mbit_s)} Mbit/s",
        f"Spot costs {assumed.spot_share:.0%} of on demand where its price is not known, and all "
        "of it in the worst case",
    ]


def _speed(speed: Range) -> str:
    return f"{speed.low:.2g} to {speed.high:.2g}"


def report_facts(report: Report) -> dict[str, Any]:
    """The estimate for --output json; a range is [low, high]."""
    measured, found = report.measured, report.break_even
    return {
        "pictures": report.work.pictures,
        "bytes_to_send": round(report.work.bytes_to_send),
        "source": report.source,
        "sample": {
            "source": measured.sample,
            "pictures": measured.pictures,
            "rounds": measured.rounds,
            "rejected": {p.value: timed.rejected for p, timed in measured.timed.items()},
            "at_work": {p.value: round(timed.at_work, 3) for p, timed in measured.timed.items()},
            "images_per_s": {
                p.value: round(timed.images_s, 1) for p, timed in measured.timed.items()
            },
            "cores": measured.cores,
            "engine": measured.engine,
            "image_size": measured.image_size,
            "weights": measured.weights,
        },
        "places": [_facts(estimate) for estimate in (*report.here, *report.clusters)],
        "better_here_up_to_pictures": {
            "low": found.low,
            "middle": found.middle,
            "high": found.high,
        },
        "assumptions": assumption_lines(report),
        "notes": list(report.notes),
        "prices": {"source": report.price_source, "not_included": NOT_INCLUDED},
        "verdict": verdict_lines(report),
    }


def _facts(estimate: Estimate) -> dict[str, Any]:
    return {
        "name": estimate.shape.name,
        "target": "emr" if estimate.shape.groups else "local",
        "precision": estimate.shape.precision.value,
        "workers": estimate.shape.slots,
        "nodes": [group.facts for group in estimate.shape.groups],
        "minutes": _pair(estimate.seconds * (1 / 60)),
        "stages_minutes": {name: _pair(span * (1 / 60)) for name, span in estimate.stages.items()},
        "usd": _pair(estimate.usd) if estimate.usd else None,
    }


def _pair(bounds: Range) -> list[float]:
    return [round(bounds.low, 4), round(bounds.high, 4)]
