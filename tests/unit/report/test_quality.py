from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from fruits_cli.report.quality import agreement, judge, neighbours
from fruits_cli.report.source import Rows
from tests.support.run_folders import clouds


def rows(apart: float, labels: int = 4) -> Rows:
    run = clouds(labels, apart=apart)
    return Rows(run.paths, run.labels, run.components)


@pytest.mark.parametrize("apart", [0.2, 1.0, 30.0])
def test_accuracy_is_that_of_scikit_learn_by_hand(apart: float) -> None:
    points = rows(apart)

    found = judge(points)

    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    nearest = KNeighborsClassifier(1)
    expected = cross_val_predict(nearest, points.components, points.labels, cv=halves)
    right = expected == np.array(points.labels)
    assert found is not None
    assert found.accuracy == pytest.approx(right.mean())
    assert {one.label: one.right for one in found.labels} == {
        label: int(right[np.array(points.labels) == label].sum()) for label in set(points.labels)
    }
    pairs = Counter(
        (own, taken) for own, taken in zip(points.labels, expected, strict=True) if own != taken
    )
    assert {(one.label, one.taken_for): one.count for one in found.confusions} == pairs


def test_confusions_come_with_the_pictures_that_were_confused() -> None:
    points = rows(0.2)

    found = judge(points)

    assert found is not None
    assert found.confusions[0].count == max(one.count for one in found.confusions)
    for one in found.confusions:
        for row, other in one.examples:
            assert (points.labels[row], points.labels[other]) == (one.label, one.taken_for)


def test_a_label_with_one_picture_cannot_be_judged() -> None:
    points = rows(30.0)
    alone = Rows(points.paths, ["alone", *points.labels[1:]], points.components)

    found = judge(alone)

    assert found is not None
    assert (found.left_out, found.judged) == (1, len(points) - 1)
    assert "alone" not in [one.label for one in found.labels]


def test_one_label_or_no_component_cannot_be_judged() -> None:
    points = rows(1.0)

    assert judge(Rows(points.paths, ["same"] * len(points), points.components)) is None
    assert judge(Rows(points.paths, points.labels, points.components[:, :0])) is None
    assert judge(Rows([], [], np.empty((0, 4), np.float32))) is None


def test_neighbours_are_the_nearest_others() -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0]], np.float32)

    found = neighbours(points, 2)

    assert found.rows.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found.distances[0].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("n", [0, 1])
def test_a_picture_alone_has_no_neighbours(n: int) -> None:
    assert neighbours(np.zeros((n, 3), np.float32)).rows.shape == (n, 0)


def test_two_runs_agree_on_what_they_have_in_common() -> None:
    points = rows(1.0)
    same = Rows(points.paths[::-1], points.labels[::-1], points.components[::-1] * 2)
    dice = np.random.default_rng(0)
    other = Rows(points.paths, points.labels, dice.normal(size=(len(points), 4)).astype(np.float32))

    assert agreement(points, same) == 1.0
    found = agreement(points, other)
    assert found is not None
    assert found < 0.4
    assert agreement(points, Rows(["x", "y"], ["a", "b"], points.components[:2])) is None


@pytest.mark.parametrize("count", [2, 9, 63, 65, 700])
def test_neighbours_are_those_of_scikit_learn(count: int) -> None:
    points = np.random.default_rng(count).normal(100, 1, (count, 20)).astype(np.float32)

    found = neighbours(points)

    exact = NearestNeighbors(algorithm="brute").fit(points.astype(np.float64))
    distances, rows = exact.kneighbors(n_neighbors=min(8, count - 1))
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.distances, distances, atol=1e-9)


def test_of_two_equal_points_each_is_the_others_neighbour() -> None:
    points = np.repeat(np.random.default_rng(0).normal(size=(40, 5)), 2, axis=0)

    found = neighbours(points.astype(np.float32), 1)

    assert found.rows[:, 0].tolist() == [n ^ 1 for n in range(80)]
    assert np.allclose(found.distances, 0, atol=1e-6)
