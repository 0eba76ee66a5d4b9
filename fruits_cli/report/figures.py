"""The report's figures as PNG and SVG, for slides and papers."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fruits_cli.files import replacing
from fruits_cli.report.facts import Report
from fruits_cli.report.page import component_ends
from fruits_cli.report.pictures import Album
from fruits_cli.report.plots import label_codes, label_styles, shown_components
from fruits_cli.report.thumbnails import Sheets, make_sheets

_MARKERS = {
    "circle": "o",
    "triangle": "^",
    "square": "s",
    "diamond": "D",
    "inverted_triangle": "v",
    "star": "*",
    "hex": "h",
    "plus": "P",
}
_LEGEND, _BARS, _PICTURE_PX, _DPI = 24, 40, 96, 200


def write_figures(report: Report, album: Album, folder: Path) -> list[Path]:
    """Write map, variance, labels and components, each as PNG and as SVG; the files.

    What a run does not have is left out. Raises MachineError where the disk refuses.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn: dict[str, Any] = {}
    # Text stays text in an SVG, and names with $ or _ are not formulas.
    style = {"svg.fonttype": "none", "text.parse_math": False, "axes.spines.top": False}
    with mpl.rc_context({**style, "axes.spines.right": False}):
        if report.k and len(report.source.rows):
            drawn["map"] = _map(report, Figure(figsize=(9, 6), layout="constrained"))
            drawn["components"] = _components(report, album, Figure(layout="constrained"))
        if report.source.ratio:
            drawn["variance"] = _variance(report, Figure(figsize=(8, 4.5), layout="constrained"))
        if report.quality:
            drawn["labels"] = _labels(report, Figure(layout="constrained"))
        return [
            _written(figure, folder / f"{name}.{kind}")
            for name, figure in drawn.items()
            for kind in ("png", "svg")
        ]


def _map(report: Report, figure: Any) -> Any:
    rows, labels = report.source.rows, list(report.source.label_counts)
    codes, axes = label_codes(rows, labels), figure.subplots()
    second = rows.components[:, 1] if report.k > 1 else np.zeros(len(rows))
    for code, (label, (colour, form)) in enumerate(zip(labels, label_styles(labels), strict=True)):
        here = codes == code
        # Points as pixels: no slide program opens an SVG of 20,000 circles.
        axes.scatter(
            rows.components[here, 0],
            second[here],
            s=12,
            c=colour,
            marker=_MARKERS[form],
            alpha=0.8,
            linewidths=0,
            label=f" {label}",
            rasterized=True,
        )
    axes.set_xlabel(_axis(report, 0))
    axes.set_ylabel(_axis(report, 1) if report.k > 1 else "")
    if 1 < len(labels) <= _LEGEND:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def _axis(report: Report, number: int) -> str:
    ratio = report.source.ratio
    share = f" ({ratio[number]:.1%} of the variance)" if number < len(ratio) else ""
    return f"component {number + 1}{share}"


def _variance(report: Report, figure: Any) -> Any:
    ratio, axes = report.source.ratio, figure.subplots()
    most = shown_components(ratio, report.k)
    numbers = np.arange(1, most + 1)
    axes.bar(numbers, ratio[:most], width=0.9, color="#0072b2", label="each")
    axes.plot(numbers, np.cumsum(ratio[:most]), color="#d55e00", label="together")
    if report.k:
        held = f"{report.k} components: {sum(ratio[: report.k]):.1%}"
        axes.axvline(report.k, color="#555555", linestyle="--", label=held)
    scaled = "standardised" if report.is_standardized else "not standardised"
    axes.set_xlabel(f"components ({report.source.pictures:,} pictures, {scaled})")
    axes.set_ylabel("share of the variance")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False)
    return figure


def _labels(report: Report, figure: Any) -> Any:
    assert report.quality is not None
    worst = sorted(report.quality.labels, key=lambda label: (label.accuracy, label.label))[:_BARS]
    figure.set_size_inches(8, 1.2 + 0.22 * len(worst))
    axes = figure.subplots()
    names = [label.label for label in reversed(worst)]
    axes.barh(range(len(worst)), [label.accuracy for label in reversed(worst)], color="#0072b2")
    axes.set_yticks(range(len(worst)), names, fontsize=8)
    axes.set_ylim(-0.6, len(worst) - 0.4)
    axes.axvline(report.quality.accuracy, color="#d55e00", linestyle="--")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    left = f"; the {_BARS} worst labels" if len(report.quality.labels) > _BARS else ""
    told = f"the nearest picture has the same label ({report.quality.accuracy:.1%} in all{left})"
    axes.set_xlabel(told)
    return figure


def _components(report: Report, album: Album, figure: Any) -> Any:
    ends = component_ends(report)
    paths = [path for end in ends for path in (*end["low"], *end["high"])]
    pictures = _pictures(make_sheets(paths, album, side_px=_PICTURE_PX), paths)
    most = max([len(end["low"]) for end in ends], default=0)
    figure.set_size_inches(2 * most + 2, max(len(ends), 1))
    # A name, the lowest, a gap, the highest.
    grid = figure.subplots(len(ends), 2 * most + 2, squeeze=False)
    for row, end in enumerate(ends):
        for axes in grid[row]:
            axes.axis("off")
        for axes, path in zip(
            grid[row], [None, *end["low"], None, *reversed(end["high"])], strict=False
        ):
            if path in pictures:
                axes.imshow(pictures[path])
        grid[row][0].text(0, 0.4, f"component\n{end['number']}", fontsize=14)
    return figure


def _pictures(sheets: Sheets, paths: Sequence[str]) -> dict[str, Any]:
    """Path to pixels of each picture that has a thumbnail."""
    from PIL import Image

    images = [np.asarray(Image.open(io.BytesIO(image))) for image in sheets.images]
    side, columns, found = sheets.side_px, sheets.columns, {}
    for path in paths:
        if path in sheets.cells:
            number, place = divmod(sheets.cells[path], columns**2)
            top, left = (math.floor(place / columns) * side, place % columns * side)
            found[path] = images[number][top : top + side, left : left + side]
    return found


def _written(figure: Any, file: Path) -> Path:
    with replacing(file) as scratch:
        # Without a date, so that the same run gives the same file.
        metadata = {"Date": None} if file.suffix == ".svg" else None
        figure.savefig(scratch, format=file.suffix[1:], dpi=_DPI, metadata=metadata)
    return file
