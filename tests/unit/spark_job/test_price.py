from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from spark_job import price

LABELS = [f"fig {number % 5}" for number in range(80)]


def features(noise: float = 0.0) -> npt.NDArray[np.float32]:
    """Eighty rows around five centres, with seeded noise upon them."""
    dice = np.random.default_rng(3)
    centres = dice.uniform(0, 3, (5, 64))
    rows = centres[np.arange(80) % 5] + dice.normal(0, 0.3, (80, 64))
    return (rows + noise * dice.normal(0, 1, rows.shape)).astype(np.float32)


def test_equal_features_cost_nothing() -> None:
    found = price.price_of(features(), features(), LABELS)

    assert found.smallest_cosine == pytest.approx(1)
    assert (found.equal_neighbours, found.accuracy, found.accuracy_f32) == (1, 1, 1)
    assert (found.pictures, found.components) == (80, 20)
    assert found.subspace_angle_deg == pytest.approx(0, abs=1e-3)
    assert found.variance_difference == pytest.approx(0)
    assert price.shortfalls(found.as_dict()) == []


def test_the_price_is_what_a_look_at_the_rows_says() -> None:
    before, now = features(), features(noise=0.2)

    found = price.price_of(before, now, LABELS)

    def nearest(rows: npt.NDArray[np.float32], number: int) -> int:
        distances = [float(np.sum((rows[number] - row) ** 2.0)) for row in rows.astype(np.float64)]
        distances[number] = np.inf
        return int(np.argmin(distances))

    same = [nearest(before, number) == nearest(now, number) for number in range(80)]
    cosines = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in zip(before, now, strict=True)
    ]
    assert found.equal_neighbours == pytest.approx(np.mean(same))
    assert found.smallest_cosine == pytest.approx(min(cosines), abs=1e-5)
    assert found.median_cosine == pytest.approx(float(np.median(cosines)), abs=1e-5)
    assert 0 < found.subspace_angle_deg < 90


def test_a_subspace_turned_by_an_angle_has_that_angle() -> None:
    dice, turn = np.random.default_rng(0), np.radians(30)
    flat = np.zeros((8, 3), np.float32)
    flat[:, 0] = dice.normal(0, 1, 8)
    flat[:, 1] = 0.5 * dice.normal(0, 1, 8)
    # About the second axis: of the plane of two components one stays, one turns.
    about = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]

    found = price.price_of(flat, (flat @ np.array(about)).astype(np.float32), LABELS[:8])

    assert found.components == 2
    assert np.sin(np.radians(found.subspace_angle_deg)) == pytest.approx(np.sin(turn) / np.sqrt(2))


def test_features_without_likeness_are_beyond_every_limit_of_likeness() -> None:
    other = np.random.default_rng(9).normal(0, 1, (80, 64)).astype(np.float32)

    short = price.shortfalls(price.price_of(features(), other, LABELS).as_dict())

    told = " ".join(short)
    for what in ("smallest cosine", "median cosine", "nearest neighbours", "accuracy", "angle"):
        assert what in told


def test_not_a_number_is_beyond_the_limits() -> None:
    good = price.price_of(features(), features(), LABELS).as_dict()

    for name in ("smallest_cosine", "accuracy", "subspace_angle_deg", "variance_difference"):
        assert len(price.shortfalls({**good, name: float("nan")})) == 1


def test_a_row_of_zeros_does_not_divide_by_zero() -> None:
    dark = features()
    dark[0] = 0

    assert price.price_of(features(), dark, LABELS).smallest_cosine == 0
