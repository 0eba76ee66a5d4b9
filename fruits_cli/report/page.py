"""Makes the HTML pages of a run, of several runs, and of similar pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fruits_cli.report.comparison import CHANGED_SHOWN, Comparison, comparison_rows
from fruits_cli.report.facts import Report, report_facts
from fruits_cli.report.oddities import SHOWN
from fruits_cli.report.pictures import Album
from fruits_cli.report.plots import (
    MAP_COMPONENTS,
    curves_item,
    form_sign,
    label_codes,
    label_styles,
    map_item,
    shown_components,
    variance_item,
)
from fruits_cli.report.similar import Match
from fruits_cli.report.template import Thumbnails, render
from fruits_cli.report.thumbnails import (
    LARGE_PX,
    SMALL_PX,
    Sheets,
    make_all_sheets,
    make_sheets,
    thumbnail,
)

# Up to so many points each has a large thumbnail.
_FEW_POINTS = 4000
_ENDS, _END_COMPONENTS, _CONFUSIONS = 8, 6, 24
_SHOWN_PX = 160


def report_page(report: Report, album: Album) -> str:
    """The whole page as text, thumbnails, plots and their JavaScript within."""
    rows = report.source.rows
    special = list(_special_paths(report))
    wanted: list[tuple[Sequence[str], int]]
    if len(rows) <= _FEW_POINTS:
        wanted = [([*rows.paths, *special], LARGE_PX), ([], LARGE_PX)]
    else:
        wanted = [(rows.paths, SMALL_PX), (special, LARGE_PX)]
    every, large = make_all_sheets(wanted, album)
    thumbnails = Thumbnails(every, large, {path: n for n, path in enumerate(rows.paths)})
    labels = list(report.source.label_counts)
    return render(
        "report.html",
        report=report,
        facts=report_facts(report),
        thumbnails=thumbnails,
        ends=component_ends(report),
        confusions=report.quality.confusions[:_CONFUSIONS] if report.quality else [],
        shown=SHOWN,
        label_rows=_label_rows(report),
        scree=_scree_rows(report),
        data=_data(report, labels, thumbnails),
        items=_items(report, labels),
    )


def _special_paths(report: Report) -> Iterable[str]:
    """Pictures that the page shows by themselves, and not only when the map is hovered."""
    rows = report.source.rows
    for end in component_ends(report):
        yield from (*end["low"], *end["high"])
    for confusion in report.quality.confusions[:_CONFUSIONS] if report.quality else []:
        for pair in confusion.examples:
            yield from (rows.paths[row] for row in pair)
    for kind in report.odd:
        for odd in kind.odd[:SHOWN]:
            if kind.name != "rejected":
                yield from (path for path in (odd.path, odd.like) if path)


def component_ends(report: Report) -> list[dict[str, Any]]:
    """For each of the first components its number, its share, and the paths at both ends."""
    rows, ends = report.source.rows, []
    for number in range(min(report.k, _END_COMPONENTS)):
        order = np.argsort(rows.components[:, number], kind="stable")
        most = min(_ENDS, len(order) // 2)
        ends.append(
            {
                "number": number + 1,
                "share": _share(report.source.ratio, number),
                "low": [rows.paths[row] for row in order[:most]],
                "high": [rows.paths[row] for row in order[::-1][:most]],
            }
        )
    return ends


def _share(ratio: Sequence[float], number: int) -> float | None:
    return ratio[number] if number < len(ratio) else None


def _label_rows(report: Report) -> list[dict[str, Any]]:
    """The table behind the map: each label with its pictures and the middle of its points."""
    rows = report.source.rows
    judged = {label.label: label for label in report.quality.labels} if report.quality else {}
    labels = np.array(rows.labels, object)
    return [
        {
            "label": label,
            "count": count,
            "quality": judged.get(label),
            "middle": [float(value) for value in rows.components[labels == label, :2].mean(axis=0)]
            if report.k and label in rows.labels
            else [],
        }
        for label, count in report.source.label_counts.items()
    ]


def _scree_rows(report: Report) -> list[tuple[int, float, float]]:
    ratio = report.source.ratio
    most = shown_components(ratio, report.k) if ratio else 0
    sums = np.cumsum(ratio[:most])
    return [(n + 1, ratio[n], float(sums[n])) for n in range(most)]


def _data(report: Report, labels: Sequence[str], thumbnails: Thumbnails) -> dict[str, Any]:
    rows, near = report.source.rows, report.near
    styles = label_styles(labels)
    every = thumbnails.sheets["a"].cells
    return {
        **_page_data(report.source.name, thumbnails),
        "paths": list(rows.paths),
        "labels": list(labels),
        "counts": [report.source.label_counts[label] for label in labels],
        "colours": [colour for colour, _ in styles],
        "signs": [form_sign(form) if len(labels) > 8 else "●" for _, form in styles],
        "codes": _packed(label_codes(rows, labels), np.int32),
        "near": _packed(near.rows, np.int32),
        "nearest": int(near.rows.shape[1]),
        "cells": _packed(np.array([every.get(path, -1) for path in rows.paths]), np.int32),
        "components": min(report.k, MAP_COMPONENTS),
        "shares": [round(share, 5) for share in report.source.ratio[:MAP_COMPONENTS]],
    }


def _page_data(name: str, thumbnails: Thumbnails) -> dict[str, Any]:
    """What report.js needs of every page; a page with a map adds its points."""
    return {
        "run": name,
        **dict.fromkeys(("paths", "labels"), ()),
        **dict.fromkeys(("codes", "near", "cells"), ""),
        "large": {path: f"s{cell}" for path, cell in thumbnails.sheets["s"].cells.items()},
        "columns": {letter: sheets.columns for letter, sheets in thumbnails.sheets.items()},
    }


def _packed(values: Any, kind: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _items(report: Report, labels: Sequence[str]) -> dict[str, Any]:
    items = {}
    if report.k and len(report.source.rows):
        items["map"] = map_item(report.source.rows, labels)
    if report.source.ratio:
        items["variance"] = variance_item(report.source.ratio, report.k)
    return items


def comparison_page(comparison: Comparison, album: Album) -> str:
    """The page of several runs, with the pictures that they judge differently."""
    reports = comparison.reports
    shown = [change.path for change in comparison.changed[:CHANGED_SHOWN]]
    thumbnails = Thumbnails(Sheets(LARGE_PX), make_sheets(shown, album, side_px=LARGE_PX), rows={})
    names = [report.source.name for report in reports]
    ratios = [report.source.ratio for report in reports]
    return render(
        "comparison.html",
        comparison=comparison,
        names=names,
        rows=comparison_rows(comparison),
        curve_rows=_curve_rows(ratios),
        thumbnails=thumbnails,
        shown=CHANGED_SHOWN,
        items={"curves": curves_item(names, ratios)} if any(ratios) else {},
        data=_page_data("comparison", thumbnails),
    )


def _curve_rows(ratios: Sequence[Sequence[float]]) -> list[tuple[int, list[float | None]]]:
    sums = [np.cumsum(ratio) for ratio in ratios]
    numbers = (1, 2, 3, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000)
    most = max(map(len, ratios))
    return [
        (n, [float(total[n - 1]) if n <= len(total) else None for total in sums])
        for n in numbers
        if n <= most
    ]


def similar_page(
    picture: Path, found: Sequence[Match], *, by: str, run_id: str, album: Album
) -> str:
    """A page of the pictures that are most like one, with their thumbnails."""
    contents = dict(album.contents([match.path for match in found]))
    try:
        own = picture.read_bytes()
    except OSError:
        own = b""
    pictures = [(match, _data_uri(contents.get(match.path, b""))) for match in found]
    return render(
        "similar.html", picture=picture, own=_data_uri(own), pictures=pictures, by=by, run_id=run_id
    )


def _data_uri(content: bytes) -> str:
    if (small := thumbnail(content, _SHOWN_PX)) is None:
        return ""
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
