"""The page's plots, made by Bokeh: the map of the pictures and the curve of the variance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fruits_cli.report.source import Rows

MAP_COMPONENTS = 10
# Distinct for the colour-blind (Okabe and Ito, 2008) on white and black; then forms differ.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#999999", "#b8a100")
_MARKERS = {
    "circle": "●",
    "triangle": "▲",
    "square": "■",
    "diamond": "◆",
    "inverted_triangle": "▼",
    "star": "★",
    "hex": "⬢",
    "plus": "✚",
}
_FEW_POINTS = 3000


def label_styles(labels: Sequence[str]) -> list[tuple[str, str]]:
    """A colour and a form for each label; after 64 labels they come again."""
    pairs = itertools.cycle((colour, form) for form in _MARKERS for colour in _COLOURS)
    return [next(pairs) for _ in labels]


def form_sign(form: str) -> str:
    """A character that looks like the form."""
    return _MARKERS[form]


def map_item(rows: Rows, labels: Sequence[str]) -> dict[str, Any]:
    """The map as a Bokeh document in JSON; its models are named points, shown and dots."""
    from bokeh.embed import json_item
    from bokeh.models import (
        BooleanFilter,
        CDSView,
        ColumnDataSource,
        LinearColorMapper,
    )

    styles = label_styles(labels)
    codes = label_codes(rows, labels)
    columns: dict[str, Any] = {"code": codes.astype(np.float32)}
    for number in range(min(rows.components.shape[1], MAP_COMPONENTS)):
        columns[f"pc_{number + 1}"] = np.ascontiguousarray(rows.components[:, number])
    if "pc_2" not in columns:
        columns["pc_2"] = np.zeros(len(rows), np.float32)
    is_few = len(rows) <= _FEW_POINTS
    glyph: dict[str, Any] = {"marker": "circle"}
    if len(labels) > len(_COLOURS):
        columns["form"] = [styles[code][1] for code in codes]
        glyph = {"marker": "form"}
    plot = _map_figure(columns)
    shown = BooleanFilter(booleans=[True] * len(rows), name="shown")
    low, high = -0.5, max(len(labels), 1) - 0.5
    palette = [colour for colour, _ in styles] or [_COLOURS[0]]
    plot.scatter(
        "pc_1",
        "pc_2",
        source=ColumnDataSource(columns, name="points"),
        view=CDSView(filter=shown),
        size=9 if is_few else 6,
        color={"field": "code", "transform": LinearColorMapper(palette, low=low, high=high)},
        line_color=None,
        fill_alpha=0.8 if is_few else 0.6,
        nonselection_fill_alpha=0.08,
        name="dots",
        **glyph,
    )
    return dict(json_item(plot))


def _map_figure(columns: dict[str, Any]) -> Any:
    from bokeh.models import WheelZoomTool
    from bokeh.plotting import figure

    plot = figure(
        height=600,
        sizing_mode="stretch_width",
        output_backend="webgl",
        tools="pan,box_zoom,lasso_select,box_select,reset",
        active_drag="lasso_select",
        x_axis_label="component 1",
        y_axis_label="component 2",
        # Ranges of their own would move whenever labels are switched.
        x_range=_range(columns["pc_1"]),
        y_range=_range(columns["pc_2"]),
        toolbar_location="above",
    )
    # Without Ctrl the wheel scrolls the page.
    plot.add_tools(WheelZoomTool(modifiers="ctrl"))
    plot.toolbar.logo = None
    lasso = next(tool for tool in plot.tools if type(tool).__name__ == "LassoSelectTool")
    lasso.continuous = False
    return plot


def _range(values: Any) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    space = (high - low) * 0.05 or 1.0
    return low - space, high + space


def label_codes(rows: Rows, labels: Sequence[str]) -> Any:
    """The place of each row's label among the labels, (n,) int32."""
    places = {label: number for number, label in enumerate(labels)}
    return np.array([places[label] for label in rows.labels], np.int32)


def variance_item(ratio: Sequence[float], k: int) -> dict[str, Any]:
    """Share of each component, their sum, and where the run stopped, as a Bokeh document."""
    from bokeh.embed import json_item
    from bokeh.models import ColumnDataSource, HoverTool, Span

    most = shown_components(ratio, k)
    numbers = np.arange(1, most + 1)
    source = ColumnDataSource(
        {"number": numbers, "share": ratio[:most], "sum": np.cumsum(ratio[:most])}
    )
    plot = _variance_figure(height=320, x_range=(0.5, most + 0.5))
    bars = plot.vbar("number", top="share", width=0.9, source=source, color=_COLOURS[0])
    line = plot.line("number", "sum", source=source, color=_COLOURS[3], line_width=2.5)
    bars.level = "glyph"
    tooltips = [("component", "@number"), ("share", "@share{0.00 %}"), ("together", "@sum{0.0 %}")]
    plot.add_tools(HoverTool(tooltips=tooltips, mode="vline", renderers=[line]))
    if k:
        plot.add_layout(Span(location=k, dimension="height", line_dash="dashed", line_width=2))
    return dict(json_item(plot))


def _variance_figure(**shape: Any) -> Any:
    """Components across, their share of the variance up."""
    from bokeh.models import NumeralTickFormatter
    from bokeh.plotting import figure

    plot = figure(
        sizing_mode="stretch_width",
        tools="pan,box_zoom,reset",
        x_axis_label="components",
        y_axis_label="share of the variance",
        y_range=(0, 1.02),
        toolbar_location="above",
        **shape,
    )
    plot.toolbar.logo = None
    plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    return plot


def curves_item(names: Sequence[str], ratios: Sequence[Sequence[float]]) -> dict[str, Any]:
    """For each run what its first components hold together, as a Bokeh document."""
    from bokeh.embed import json_item

    plot = _variance_figure(height=360)
    dashes = itertools.cycle(("solid", "dashed", "dotted", "dotdash"))
    colours = itertools.cycle(_COLOURS)
    for name, ratio, colour, dash in zip(names, ratios, colours, dashes, strict=False):
        most = shown_components(ratio, 0) if ratio else 0
        sums = np.cumsum(ratio[:most])
        plot.line(
            np.arange(1, most + 1),
            sums,
            color=colour,
            line_dash=dash,
            line_width=2.5,
            legend_label=name,
        )
    plot.legend.location = "bottom_right"
    return dict(json_item(plot))


def shown_components(ratio: Sequence[float], k: int) -> int:
    """How many components the curve shows: the run's, and those of 95 % of the variance."""
    from fruits_cli.report.variance import components_for

    enough = components_for(ratio, 0.95) or len(ratio)
    return min(len(ratio), max(k + 5, enough))
