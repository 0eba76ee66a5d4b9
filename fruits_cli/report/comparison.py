"""Compares runs: what a cheaper setting saved, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fruits_cli.report.facts import Report, report_facts
from fruits_cli.report.quality import Quality, agreement, judge
from fruits_cli.report.source import Rows
from fruits_cli.report.variance import components_for

CHANGED_SHOWN = 60


@dataclass(frozen=True)
class Changed:
    """A picture that not all runs give the same label; `taken_for` has that of each run."""

    path: str
    label: str
    taken_for: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """Runs, judged on the pictures that all of them have; agreements are with the first run."""

    reports: Sequence[Report]
    common: int
    qualities: Sequence[Quality | None]
    agreements: Sequence[float | None]
    changed: Sequence[Changed]

    @property
    def labels(self) -> list[tuple[str, list[float]]]:
        """The accuracy of each label in each run, those that differ most first."""
        if not (qualities := [quality for quality in self.qualities if quality]):
            return []
        by_run = [
            {label.label: label.accuracy for label in quality.labels} for quality in qualities
        ]
        rows = [(label, [found[label] for found in by_run]) for label in by_run[0]]
        return sorted(rows, key=lambda row: (min(row[1]) - max(row[1]), row[0]))


def compare(reports: Sequence[Report]) -> Comparison:
    """Judge the runs on their common pictures, each as `judge` does."""
    paths = set(reports[0].source.rows.paths)
    for report in reports[1:]:
        paths &= set(report.source.rows.paths)
    rows = [_restricted(report.source.rows, paths) for report in reports]
    qualities = [judge(run_rows) for run_rows in rows]
    agreements = [agreement(rows[0], run_rows) for run_rows in rows]
    return Comparison(reports, len(paths), qualities, agreements, _changed(rows[0], qualities))


def _restricted(rows: Rows, paths: set[str]) -> Rows:
    kept = [number for number, path in enumerate(rows.paths) if path in paths]
    labels = [rows.labels[number] for number in kept]
    return Rows([rows.paths[n] for n in kept], labels, rows.components[np.array(kept, np.int64)])


def _changed(rows: Rows, qualities: Sequence[Quality | None]) -> list[Changed]:
    wrong = [quality.wrong if quality else {} for quality in qualities]
    found = [
        Changed(path, label, [taken_for.get(path, label) for taken_for in wrong])
        for path, label in zip(rows.paths, rows.labels, strict=True)
    ]
    return [change for change in found if len(set(change.taken_for)) > 1]


def comparison_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """The table of the page: a name, and its value for each run; all as text."""
    reports = comparison.reports
    costs = [report.cluster.cost_usd for report in reports]
    seconds = [sum(report.seconds.values()) for report in reports]
    rows = [
        (
            "Pictures",
            [f"{report.source.pictures + len(report.source.rejected):,}" for report in reports],
        ),
        ("Rejected", [f"{len(report.source.rejected):,}" for report in reports]),
        ("Model", [_model(report) for report in reports]),
        ("Weights", [_told(report, "weights") for report in reports]),
        ("Components", [str(report.k or "none") for report in reports]),
        ("Standardised", ["yes" if report.is_standardized else "no" for report in reports]),
        ("Share of the variance", [_percent(report.variance) for report in reports]),
        (
            "Components for 95 %",
            [str(components_for(report.source.ratio, 0.95) or "unknown") for report in reports],
        ),
        (
            "Nearest picture has the same label",
            [
                _percent(quality.accuracy if quality else None, 2)
                for quality in comparison.qualities
            ],
        ),
        (
            "Nearest pictures shared with the first run",
            ["", *(_percent(share) for share in comparison.agreements[1:])],
        ),
        (
            "Images a second",
            [f"{report.images_s:.0f}" if report.images_s else "" for report in reports],
        ),
        (
            "Seconds of the job",
            [f"{spent:.1f}" if spent else "" for spent in seconds],
        ),
        ("Dollars of the cluster", ["" if usd is None else f"{usd:.2f}" for usd in costs]),
    ]
    return [row for row in rows if any(row[1])]


def _model(report: Report) -> str:
    if not report.source.manifest.get("engine"):
        return ""
    return " ".join([*(_told(report, key) for key in ("engine", "precision", "image_size")), "px"])


def _told(report: Report, key: str) -> str:
    return str(report.source.manifest.get(key, ""))


def _percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{share * 100:.{digits}f} %"


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """All numbers of the page, as report.json has them."""
    return {
        "schema": 1,
        "common": comparison.common,
        "accuracy": [quality.accuracy if quality else None for quality in comparison.qualities],
        "agreement": list(comparison.agreements),
        "labels": dict(comparison.labels),
        "changed": [vars(change) for change in comparison.changed],
        "runs": [report_facts(report) for report in comparison.reports],
    }
