"""Pictures that look odd, as lists: each with its rule, its pictures, and a CSV of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from fruits_cli.report.quality import Neighbours
from fruits_cli.report.source import Rows, Source

# The page shows so many of a list; its CSV has all.
SHOWN = 60
_NEAR, _CROWD, _FEW = 0.25, 5, 5
# A spreadsheet would run such a cell as a formula; with an apostrophe before it, it is text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Odd:
    """A picture and what is odd about it; `like` names the picture that it is compared with."""

    path: str
    label: str
    why: str
    like: str = ""


@dataclass(frozen=True)
class OddList:
    """One kind of oddity; `name` is that of its CSV, `rule` says who is in it."""

    name: str
    title: str
    rule: str
    odd: Sequence[Odd]


def odd_lists(source: Source, near: Neighbours) -> list[OddList]:
    """All lists, also the empty ones; those by distance are of the sample."""
    rows = source.rows
    return [
        OddList(
            "rejected",
            "Rejected",
            "They could not be read, and have no features.",
            [
                Odd(picture.path, picture.label, f"{picture.error}: {picture.message}")
                for picture in source.rejected
            ],
        ),
        OddList(
            "copies",
            "The same file twice",
            "Byte by byte equal to another picture.",
            [
                Odd(path, PurePosixPath(path).parent.name, f"the same as {group[0]}", group[0])
                for group in source.copies
                for path in group[1:]
            ],
        ),
        OddList(
            "near-copies",
            "Nearly the same",
            f"Nearer to another picture than {_NEAR:.0%} of the usual distance to the nearest.",
            _near_copies(rows, near, source.copies),
        ),
        OddList(
            "outliers",
            "Far from all others",
            f"Their {_CROWD} nearest are unusually far: above the third quartile by 1.5 times the "
            "distance between the quartiles.",
            _outliers(rows, near),
        ),
        OddList(
            "among-others",
            "Among pictures of other labels",
            f"None of the {_CROWD} nearest pictures has their label: mislabelled, or hard to tell.",
            _among_others(rows, near),
        ),
        OddList(
            "small-labels",
            "Labels with few pictures",
            f"Fewer than {_FEW} pictures.",
            _small_labels(source),
        ),
    ]


def _near_copies(rows: Rows, near: Neighbours, copies: Sequence[Sequence[str]]) -> list[Odd]:
    if not near.rows.shape[1]:
        return []
    same = {path: number for number, group in enumerate(copies) for path in group}
    limit = _NEAR * float(np.median(near.distances[:, 0]))
    found = []
    for row in np.argsort(near.distances[:, 0], kind="stable"):
        distance, other = float(near.distances[row, 0]), int(near.rows[row, 0])
        if distance >= limit:
            break
        path, like = rows.paths[row], rows.paths[other]
        is_copy = path in same and same[path] == same.get(like)
        # Of a pair that is nearest to each other one line is enough.
        is_told = int(near.rows[other, 0]) == int(row) and other < row
        if not is_copy and not is_told:
            why = f"{distance / limit * _NEAR:.0%} of the usual distance from {like}"
            found.append(Odd(path, rows.labels[row], why, like))
    return found


def _outliers(rows: Rows, near: Neighbours) -> list[Odd]:
    if near.rows.shape[1] < _CROWD:
        return []
    mean = near.distances[:, :_CROWD].mean(axis=1)
    low, middle, high = (float(part) for part in np.percentile(mean, [25, 50, 75]))
    limit = high + 1.5 * (high - low)
    order = [int(row) for row in np.argsort(-mean, kind="stable") if mean[row] > limit]
    return [
        Odd(rows.paths[row], rows.labels[row], f"{mean[row] / middle:.1f} times the usual distance")
        for row in order
    ]


def _among_others(rows: Rows, near: Neighbours) -> list[Odd]:
    counts = {label: list(rows.labels).count(label) for label in set(rows.labels)}
    if near.rows.shape[1] < _CROWD or len(counts) < 2:
        return []
    found = []
    for row, crowd in enumerate(near.rows[:, :_CROWD].tolist()):
        own, around = rows.labels[row], [rows.labels[other] for other in crowd]
        # With fewer of its own label it could not have them as its neighbours.
        if own in around or counts[own] <= 2:
            continue
        most = max(sorted(set(around)), key=around.count)
        why = f"{around.count(most)} of the {_CROWD} nearest are {most}"
        found.append(Odd(rows.paths[row], own, why, rows.paths[crowd[0]]))
    return found


def _small_labels(source: Source) -> list[Odd]:
    first = dict(zip(reversed(source.rows.labels), reversed(source.rows.paths), strict=True))
    small = sorted((count, label) for label, count in source.label_counts.items() if count < _FEW)
    return [
        Odd(first.get(label, ""), label, f"{count} picture{'s' if count > 1 else ''}")
        for count, label in small
    ]


def as_csv(odd: OddList) -> str:
    """The list as RFC 4180 text with path, label, why and like."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["path", "label", "why", "like"])
    for row in odd.odd:
        writer.writerow(_as_text(cell) for cell in (row.path, row.label, row.why, row.like))
    return stream.getvalue()


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
