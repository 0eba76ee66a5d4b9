"""How well components tell labels apart, and how far two runs agree, by nearest neighbours."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fruits_cli.report.source import Floats, Rows

NEIGHBOURS = 8
_SEED, _TOGETHER = 0, 256

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """For each row the nearest other rows, the nearest first: numbers and distances (n, m)."""

    rows: Numbers
    distances: npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelQuality:
    """Of `judged` pictures of a label `right` have a nearest neighbour of the same label."""

    label: str
    judged: int
    right: int

    @property
    def accuracy(self) -> float:
        return self.right / self.judged


@dataclass(frozen=True)
class Confusion:
    """Pictures of `label` whose nearest neighbour is of `taken_for`; examples are pairs of rows."""

    label: str
    taken_for: str
    count: int
    examples: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Quality:
    """Nearest-neighbour accuracy; labels of a single picture cannot be judged and are left out.

    wrong: path of each picture that is taken for another label, and which.
    """

    accuracy: float
    judged: int
    left_out: int
    labels: Sequence[LabelQuality]
    confusions: Sequence[Confusion]
    wrong: Mapping[str, str]


def neighbours(components: Floats, most: int = NEIGHBOURS) -> Neighbours:
    """The nearest other rows by Euclidean distance, exact."""
    most = min(most, len(components) - 1)
    if most < 1 or not components.shape[1]:
        shape = (len(components), 0)
        return Neighbours(np.empty(shape, np.int64), np.empty(shape))
    return nearest(components, components, most, is_same=True)


def nearest(points: Floats, queries: Floats, most: int, *, is_same: bool = False) -> Neighbours:
    """The `most` points nearest to each query; is_same: queries are the points, none its own.

    As scikit-learn's brute force, whose imports alone take longer than a small run's report.
    """
    middle = points.mean(axis=0, dtype=np.float64)
    points, queries = points - middle, queries - middle
    # The nearest lie in the groups of points with the least minima: most are looked at once.
    size = math.isqrt(len(points)) if len(points) >= most**2 else 1
    groups = -(-len(points) // size)
    table = np.zeros((points.shape[1] + 1, groups * size))
    table[-1] = np.inf
    table[:-1, : len(points)], table[-1, : len(points)] = points.T, (points**2).sum(axis=1)
    found = Neighbours(np.empty((len(queries), most), np.int64), np.empty((len(queries), most)))
    for start in range(0, len(queries), _TOGETHER):
        block = queries[start : start + _TOGETHER]
        numbers = np.arange(len(block))
        # Squared distances, less those of the query from the middle.
        far = np.column_stack([-2 * block, np.ones(len(block))]) @ table
        if is_same:
            far[numbers, start + numbers] = np.inf
        minima = far.reshape(len(block), groups, size).min(axis=2)
        near = np.sort(np.argpartition(minima, most - 1, axis=1)[:, :most], axis=1)
        columns = (near[:, :, None] * size + np.arange(size)).reshape(len(block), -1)
        squares = np.take_along_axis(far, columns, axis=1)
        order = np.argsort(squares, axis=1, kind="stable")[:, :most]
        here = slice(start, start + len(block))
        found.rows[here] = np.take_along_axis(columns, order, axis=1)
        squares = np.take_along_axis(squares, order, axis=1) + (block**2).sum(axis=1)[:, None]
        found.distances[here] = np.sqrt(np.maximum(squares, 0))
    return found


def judge(rows: Rows) -> Quality | None:
    """Each picture is given the label of its nearest neighbour in the other half, both halves
    stratified by label. None where fewer than two labels have two pictures.

    Source: scikit-learn's StratifiedKFold(2, shuffle=True, random_state=0) and 1-NN.
    """
    counts = Counter(rows.labels)
    kept = np.array([n for n, label in enumerate(rows.labels) if counts[label] > 1], np.int64)
    labels = np.array([rows.labels[n] for n in kept], object)
    if len(set(labels)) < 2 or not rows.components.shape[1]:
        return None
    nearest = kept[_nearest_in_other_half(rows.components[kept], labels)]
    taken_for = [rows.labels[n] for n in nearest]
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    right: Counter[str] = Counter()
    for row, other, own, taken in zip(kept, nearest, labels, taken_for, strict=True):
        if own == taken:
            right[own] += 1
        else:
            pairs[own, taken].append((int(row), int(other)))
    ranked = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))
    judged = Counter(labels)
    return Quality(
        sum(right.values()) / len(kept),
        len(kept),
        len(rows) - len(kept),
        [LabelQuality(label, judged[label], right[label]) for label in sorted(judged)],
        [Confusion(*names, len(found), found[:4]) for names, found in ranked],
        {rows.paths[row]: names[1] for names, found in ranked for row, _ in found},
    )


def _nearest_in_other_half(components: Floats, labels: npt.NDArray[np.object_]) -> Numbers:
    found = np.empty(len(labels), np.int64)
    half = _halves(labels)
    for number in (0, 1):
        train, test = np.flatnonzero(half != number), np.flatnonzero(half == number)
        found[test] = train[nearest(components[train], components[test], 1).rows[:, 0]]
    return found


def _halves(labels: npt.NDArray[np.object_]) -> Numbers:
    """0 or 1 for each row, as StratifiedKFold deals them out; labels in the order they come in."""
    places: dict[str, int] = {}
    codes = np.array([places.setdefault(label, len(places)) for label in labels])
    rising = np.sort(codes)
    dealt = [np.bincount(rising[half::2], minlength=len(places)) for half in (0, 1)]
    dice, halves = np.random.RandomState(_SEED), np.empty(len(labels), np.int64)
    for code in range(len(places)):
        own = np.arange(2).repeat([counts[code] for counts in dealt])
        dice.shuffle(own)
        halves[codes == code] = own
    return halves


def agreement(rows: Rows, other: Rows) -> float | None:
    """The mean share of a picture's nearest pictures that two runs have in common.

    Over the pictures that both have; None where those are fewer than two.
    """
    numbers = {path: n for n, path in enumerate(other.paths)}
    common = [(n, numbers[path]) for n, path in enumerate(rows.paths) if path in numbers]
    if len(common) < 2 or not rows.components.shape[1] or not other.components.shape[1]:
        return None
    first = neighbours(rows.components[[n for n, _ in common]], NEIGHBOURS).rows
    second = neighbours(other.components[[n for _, n in common]], NEIGHBOURS).rows
    shared = [len(set(a) & set(b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return float(np.mean(shared) / first.shape[1])
