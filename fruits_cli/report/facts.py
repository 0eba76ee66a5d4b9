"""The report of one run as values, and all its numbers as report.json."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fruits_cli.report.oddities import OddList, odd_lists
from fruits_cli.report.quality import Neighbours, Quality, judge, neighbours
from fruits_cli.report.source import Source
from fruits_cli.report.variance import SHARES, components_for

_DEFAULT_EXTENSIONS = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"]


@dataclass(frozen=True)
class ClusterFacts:
    """What the ledger knows of the cluster that a run had."""

    region: str = ""
    cluster_id: str = ""
    cost_usd: float | None = None
    seconds: float | None = None
    # Its nodes by role and type.
    shape: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that a run's page and its report.json show."""

    source: Source
    near: Neighbours
    quality: Quality | None
    odd: Sequence[OddList]
    cluster: ClusterFacts

    @property
    def k(self) -> int:
        """Number of components of each row."""
        return int(self.source.rows.components.shape[1])

    @property
    def is_sampled(self) -> bool:
        """Whether the page shows fewer points than there are pictures."""
        return len(self.source.rows) < self.source.pictures

    @property
    def is_standardized(self) -> bool:
        """Whether each feature was divided by its deviation before the components were fitted."""
        return bool(self.source.manifest.get("settings", {}).get("standardize"))

    @property
    def variance(self) -> float | None:
        """Share of the variance that the run's components hold."""
        told = self.source.manifest.get("cumulative_variance")
        if told is None and self.k and self.source.ratio:
            return float(sum(self.source.ratio[: self.k]))
        return told

    @property
    def has_random_weights(self) -> bool:
        """True if the network was never trained."""
        return bool(self.source.manifest.get("weights") == "random")

    @property
    def images_s(self) -> float | None:
        """Pictures computed per second of that stage; None where others were copied in it."""
        counts, spent = self.counts, self.seconds.get("features", 0)
        computed = 0 if counts.get("reused") else counts.get("inferences")
        return computed / spent if computed and spent else None

    @property
    def counts(self) -> Mapping[str, Any]:
        """The manifest's counts; an older run has no `reused`, `twins` and `gone`."""
        counts: Mapping[str, Any] = self.source.manifest.get("counts", {})
        return counts

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage."""
        stages: Mapping[str, float] = self.source.manifest.get("seconds", {})
        return stages


def make_report(source: Source, cluster: ClusterFacts) -> Report:
    """Everything that is computed of a run, once."""
    near = neighbours(source.rows.components)
    return Report(source, near, judge(source.rows), odd_lists(source, near), cluster)


def report_facts(report: Report) -> dict[str, Any]:
    """All numbers of the page, as report.json has them."""
    source = report.source
    keys = ("engine", "precision", "image_size", "weights", "versions")
    return {
        "schema": 1,
        "run_id": source.name,
        "pictures": source.pictures + len(source.rejected),
        "features": source.pictures,
        "rejected": len(source.rejected),
        **{key: report.counts.get(key) for key in ("inferences", "reused", "twins", "gone")},
        "labels": dict(source.label_counts),
        "points": len(source.rows),
        "pca_k": report.k or None,
        "cumulative_variance": report.variance,
        "standardize": report.is_standardized,
        "explained_variance_ratio": [round(share, 9) for share in source.ratio],
        "components_for": {f"{share:.2f}": components_for(source.ratio, share) for share in SHARES},
        "images_s": report.images_s,
        "seconds": dict(report.seconds),
        "cluster": asdict(report.cluster),
        "command": command_again(source.manifest),
        **{key: source.manifest.get(key) for key in keys},
        "quality": _quality_facts(report.quality),
        "odd": {odd_list.name: [asdict(odd) for odd in odd_list.odd] for odd_list in report.odd},
    }


def _quality_facts(quality: Quality | None) -> dict[str, Any] | None:
    if quality is None:
        return None
    return {
        "accuracy": quality.accuracy,
        "judged": quality.judged,
        "left_out": quality.left_out,
        "labels": {
            label.label: {"judged": label.judged, "right": label.right} for label in quality.labels
        },
        "confusions": [
            {"label": confusion.label, "taken_for": confusion.taken_for, "count": confusion.count}
            for confusion in quality.confusions
        ],
    }


def command_again(manifest: Mapping[str, Any]) -> str:
    """The command line that makes a run with the same settings; empty without a manifest."""
    settings = manifest.get("settings", {})
    keys = ("engine", "precision", "image_size", "weights")
    if "images" not in settings or not all(manifest.get(key) for key in keys):
        return ""
    words = ["fruits", "run", str(settings["images"])]
    for key in keys:
        words += [f"--{key.replace('_', '-')}", str(manifest[key])]
    for key in ("pca_k", "pca_variance", "max_rejected"):
        if settings.get(key) is not None:
            words += [f"--{key.replace('_', '-')}", str(settings[key])]
    if settings.get("standardize"):
        words.append("--standardize")
    if not settings.get("keep_features", True):
        words.append("--no-keep-features")
    if settings.get("extensions", _DEFAULT_EXTENSIONS) != _DEFAULT_EXTENSIONS:
        words += ["--extensions", ",".join(map(str, settings["extensions"] or ()))]
    return shlex.join(words)
