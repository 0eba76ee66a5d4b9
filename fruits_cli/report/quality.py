"""How well components tell labels apart, and how far two runs agree, by nearest neighbours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fruits_cli.report.source import Floats, Rows

NEIGHBOURS = 8
_SEED = 0

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
    from sklearn.neighbors import NearestNeighbors

    most = min(most, len(components) - 1)
    if most < 1 or not components.shape[1]:
        shape = (len(components), 0)
        return Neighbours(np.empty(shape, np.int64), np.empty(shape))
    found = NearestNeighbors(algorithm="brute").fit(components)
    distances, rows = found.kneighbors(n_neighbors=most)
    return Neighbours(rows.astype(np.int64), distances.astype(np.float64))


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
    from sklearn.model_selection import StratifiedKFold
    from sklearn.neighbors import NearestNeighbors

    nearest = np.empty(len(labels), np.int64)
    halves = StratifiedKFold(2, shuffle=True, random_state=_SEED)
    codes = np.unique(labels, return_inverse=True)[1]
    for train, test in halves.split(components, codes):
        found = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(components[train])
        nearest[test] = train[found.kneighbors(components[test], return_distance=False)[:, 0]]
    return nearest


def agreement(one: Rows, other: Rows, most: int = NEIGHBOURS) -> float | None:
    """The mean share of a picture's nearest pictures that two runs have in common.

    Over the pictures that both have; None where those are fewer than two.
    """
    numbers = {path: n for n, path in enumerate(other.paths)}
    common = [(n, numbers[path]) for n, path in enumerate(one.paths) if path in numbers]
    if len(common) < 2 or not one.components.shape[1] or not other.components.shape[1]:
        return None
    first = neighbours(one.components[[n for n, _ in common]], most).rows
    second = neighbours(other.components[[n for _, n in common]], most).rows
    shared = [len(set(a) & set(b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return float(np.mean(shared) / first.shape[1])
