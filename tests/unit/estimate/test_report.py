from __future__ import annotations

from dataclasses import replace

import pytest

from fruits_cli.cloud.account import PriceBook
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.cloud.prices import table_prices
from fruits_cli.config import ClusterConfig, Engine, Precision
from fruits_cli.estimate.calculation import (
    HERE,
    BreakEven,
    Estimate,
    Range,
    Shape,
    Work,
    break_even,
    candidates,
    cluster_shape,
    estimated,
)
from fruits_cli.estimate.report import (
    Measured,
    Report,
    report_facts,
    report_lines,
    span,
    verdict_lines,
)
from fruits_cli.estimate.timing import Timed
from fruits_cli.screen import Outcome

F32 = Precision.F32
MEASURED = Measured({F32: Timed(300.0, 600, 3)}, "./Test", 200, 3, 2, "openvino", 224, "imagenet")
WORK = Work(90_000, 400e6)


def report(work: Work = WORK, prices: PriceBook | None = None) -> Report:
    """What is said of a laptop of two cores with 150 images/s each, and of the default cluster."""
    prices = prices or table_prices(MACHINES, "eu-west-3")
    here = Shape(HERE, F32, 2, Range(150, 150))
    asked = candidates(ClusterConfig(), engine=Engine.OPENVINO, precision=F32)
    shapes = [
        cluster_shape(candidate, MACHINES, {F32: 150.0}, Engine.OPENVINO) for candidate in asked
    ]
    return Report(
        source="./Test",
        work=work,
        measured=MEASURED,
        here=(estimated(here, work, prices),),
        clusters=tuple(estimated(one, work, prices) for one in shapes),
        break_even=break_even(here, shapes, work),
        price_source="prices: a table",
        notes=("one thing",),
    )


@pytest.mark.parametrize(
    ("numbers", "places", "told"),
    [
        (Range(0, 0), 0, "0"),
        (Range(0.01, 0.04), 0, "0.1"),
        (Range(3.14, 9.9), 0, "3.1 to 9.9"),
        (Range(9.4, 1234.5), 0, "9.4 to 1,234"),
        (Range(0.001, 12.345), 2, "0.01 to 12.35"),
        (Range(0.15, 0.15), 2, "0.15"),
    ],
)
def test_a_range_shows_the_digits_that_tell_something(
    numbers: Range, places: int, told: str
) -> None:
    assert span(numbers, places=places) == told


def test_every_number_is_in_the_table_and_every_assumption_below_it() -> None:
    lines = Outcome(report_lines(report()), {}).lines

    assert lines[:2] == [
        "Pictures: 90,000 (./Test), 400.0 MB to send.",
        "Timed here on 2 cores: f32 300 images/s "
        "(200 pictures of ./Test, 3 times over; openvino, 224 px, weights imagenet).",
    ]
    assert [line.split("  ")[0] for line in lines[3:7]] == [
        "this machine",
        "on demand",
        "Spot",
        "bf16-capable",
    ]
    assert lines[3].split() == ["this", "machine", "2", "f32", "5.5", "to", "6.9", "0"]
    assert "Note: one thing" in lines
    assert len([line for line in lines if line.startswith("Assumed: ")]) == 7
    assert lines[-1].startswith("Dollars: by the second and one minute at least, EMR's share also")


def test_what_lies_on_s3_is_not_sent() -> None:
    assert report_lines(report(Work(2, 0)))[0] == "Pictures: 2 (./Test), nothing to send."


def test_the_verdict_names_the_fastest_the_cheapest_and_the_break_even() -> None:
    small = verdict_lines(report(WORK.of(100)))
    large = verdict_lines(report(WORK.of(10**8)))

    assert small[0].startswith("Fastest for these pictures: this machine, 0.1 to 0.2 minutes. ")
    assert "the cheapest cluster (" in small[0]
    assert large[0].startswith("Fastest for these pictures: the cluster '")
    assert "This machine costs nothing" in large[0]
    for line in (small[1], large[1]):
        assert line.startswith("This machine is the better choice up to about ")
        assert line.endswith("up to there it finishes before any cluster.")


def test_the_verdict_says_where_ranges_overlap() -> None:
    (first, *_) = verdict_lines(report(WORK.of(500_000)))

    assert ", though the ranges overlap. " in first


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (BreakEven(98_765, 432_100, None), "about 430,000 such pictures (between 99,000"),
        (BreakEven(98_765, 432_100, None), "and any number)"),
        (BreakEven(0, 7, 12), "about 7 such pictures (between 0 and 12)"),
        (
            BreakEven(5_000, None, None),
            "at any number of such pictures (certainly up to 5,000)",
        ),
        (BreakEven(None, None, None), "at any number of such pictures: for each of them"),
    ],
)
def test_the_break_even_is_told_with_the_digits_that_count(found: BreakEven, told: str) -> None:
    assert told in verdict_lines(replace(report(), break_even=found))[1]


def test_without_a_cluster_to_compare_there_is_no_break_even() -> None:
    lines = verdict_lines(replace(report(), clusters=()))

    assert lines == ["No cluster could be compared; this machine costs nothing."]


def test_without_a_price_the_table_says_so() -> None:
    unpriced = report(prices=PriceBook({}, {}))

    assert all(line.endswith("unknown") for line in Outcome(report_lines(unpriced), {}).lines[4:7])
    assert verdict_lines(unpriced)[0].endswith("This machine costs nothing.")
    assert [one["usd"] for one in report_facts(unpriced)["places"]] == [[0, 0], None, None, None]


def test_a_report_as_json_has_its_keys() -> None:
    facts = report_facts(report())

    assert set(facts) == {
        "pictures",
        "bytes_to_send",
        "source",
        "sample",
        "places",
        "better_here_up_to_pictures",
        "assumptions",
        "notes",
        "prices",
        "verdict",
    }
    assert facts["places"][1]["nodes"][0] == {
        "role": "primary",
        "type": "m5.xlarge",
        "count": 1,
        "market": "on-demand",
    }


def test_a_disturbed_sample_is_left_alone_in_the_best_case_and_on_clusters() -> None:
    disturbed = replace(MEASURED, timed={F32: Timed(300.0, 600, 3, at_work=0.5)})

    assert disturbed.core_speeds == {F32: Range(150, 300)}
    assert disturbed.speeds == {F32: 300}


def test_an_estimate_sums_its_stages() -> None:
    stages = {"start": Range(1, 2), "features": Range(3, 4), "pca": Range(5, 6)}

    found = Estimate(Shape(HERE, F32, 1, Range(1, 1)), stages, None)

    assert (found.seconds, found.on_cluster) == (Range(9, 12), Range(9, 12))
