import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fruits_cli.report.oddities import Odd, OddList, as_csv, odd_lists
from fruits_cli.report.quality import neighbours
from fruits_cli.report.source import Rejected, Rows, Source
from tests.support.run_folders import WrittenRun, clouds


def found(run: WrittenRun, **more: object) -> dict[str, Sequence[Odd]]:
    counts = {label: list(run.labels).count(label) for label in run.labels}
    rows = Rows(run.paths, run.labels, run.components)
    source = Source("run", Path(), rows, len(rows), counts, **more)  # type: ignore[arg-type]
    return {one.name: one.odd for one in odd_lists(source, neighbours(run.components))}


def test_clean_clouds_have_nothing_odd() -> None:
    lists = found(clouds())

    assert {name: len(odd) for name, odd in lists.items() if name != "outliers"} == {
        "rejected": 0,
        "copies": 0,
        "near-copies": 0,
        "among-others": 0,
        "small-labels": 0,
    }


def test_rejected_pictures_carry_their_reason() -> None:
    lists = found(clouds(), rejected=[Rejected("a/b.jpg", "a", "empty", "No bytes.")])

    assert lists["rejected"] == [Odd("a/b.jpg", "a", "empty: No bytes.")]


def test_of_equal_files_the_later_ones_are_odd() -> None:
    lists = found(clouds(), copies=[["a/1.jpg", "b/2.jpg", "c/3.jpg"]])

    assert [(odd.path, odd.label, odd.like) for odd in lists["copies"]] == [
        ("b/2.jpg", "b", "a/1.jpg"),
        ("c/3.jpg", "c", "a/1.jpg"),
    ]


def test_a_near_copy_is_told_once_and_a_copy_not_at_all() -> None:
    run = clouds()
    run.components[5] = run.components[2] + 0.001
    run.components[9] = run.components[3]

    lists = found(run, copies=[[run.paths[3], run.paths[9]]])

    assert [(odd.path, odd.like) for odd in lists["near-copies"]] == [(run.paths[2], run.paths[5])]


def test_a_picture_far_from_all_others_is_an_outlier() -> None:
    run = clouds()
    run.components[11] = 1000

    assert found(run)["outliers"][0].path == run.paths[11]


def test_a_picture_in_another_cloud_is_among_others() -> None:
    run = clouds(apart=30)
    run.components[4] = run.components[25] + 0.5

    (odd,) = found(run)["among-others"]

    assert (odd.path, odd.label) == (run.paths[4], "kind 0")
    assert odd.why == "5 of the 5 nearest are kind 1"


def test_labels_with_few_pictures_are_named() -> None:
    run = clouds()
    labels = ["alone", *run.labels[1:]]

    lists = found(WrittenRun(run.paths, labels, run.features, run.components))

    assert lists["small-labels"] == [Odd(run.paths[0], "alone", "1 picture")]
    assert "alone" not in [odd.label for odd in lists["among-others"]]


def test_equal_pictures_only_are_no_near_copies_and_no_outliers() -> None:
    run = clouds(1, 10)
    run.components[:] = 1

    lists = found(run)

    assert (lists["near-copies"], lists["outliers"], lists["among-others"]) == ([], [], [])


def test_one_picture_or_no_components_have_no_lists_by_distance() -> None:
    for run in (clouds(1, 1), clouds(k=0)):
        lists = found(run)

        assert not any(lists[name] for name in ("near-copies", "outliers", "among-others"))


def test_a_list_as_csv_keeps_hostile_names_and_disarms_formulas() -> None:
    odd = Odd('a\n"b",c.jpg', "é桃", "why", "=cmd|' /C calc'!A0.jpg")

    rows = list(csv.reader(io.StringIO(as_csv(OddList("n", "t", "r", [odd])), newline="")))

    assert rows == [
        ["path", "label", "why", "like"],
        ['a\n"b",c.jpg', "é桃", "why", "'=cmd|' /C calc'!A0.jpg"],
    ]


def test_lists_of_many_rows_are_as_long_as_what_is_odd() -> None:
    run = clouds(2, 100, apart=0.0)

    lists = found(run)

    assert len(lists["among-others"]) == len({odd.path for odd in lists["among-others"]})
    assert np.isfinite(run.components).all()
