"""Reads a run for its report: totals over all rows, and a sample of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fruits_cli.job.results import (
    FEATURES_DIR,
    MODEL_FILE,
    PCA_DIR,
    REJECTED_DIR,
    load_manifest,
    parts,
    read_columns,
)
from fruits_cli.report.variance import spectrum

MAX_POINTS = 20_000
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rejected:
    """A picture that has no features, and why."""

    path: str
    label: str
    error: str
    message: str


@dataclass(frozen=True)
class Rows:
    """Rows of a run, in the order of their paths; `components` is (n, k), and k may be 0."""

    paths: Sequence[str]
    labels: Sequence[str]
    components: Floats

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Source:
    """A run as its report sees it; `rows` is a sample where there are more than MAX_POINTS.

    label_counts, copies (paths of equal files), all_paths and pictures are of all rows. ratio: the
    share of the variance of each component, as many as could be computed. manifest is empty
    for a Parquet file that no run of fruits wrote.
    """

    name: str
    folder: Path
    rows: Rows
    pictures: int
    label_counts: Mapping[str, int]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    ratio: Sequence[float] = ()
    rejected: Sequence[Rejected] = ()
    copies: Sequence[Sequence[str]] = ()
    all_paths: Sequence[str] = ()


def load_source(place: Path) -> Source:
    """The run in a folder, or the rows of one Parquet file with a column pca_features.

    Raises UsageError naming what is missing or cannot be read.
    """
    if place.is_file():
        return _loaded(place.stem, place.parent, [place], [place], {})
    manifest = load_manifest(place)
    features, components = parts(place / FEATURES_DIR), parts(place / PCA_DIR)
    name = str(manifest.get("run_id") or place.name)
    return _loaded(name, place, features or components, components, manifest)


def _loaded(
    name: str,
    folder: Path,
    features: Sequence[Path],
    components: Sequence[Path],
    manifest: Mapping[str, Any],
) -> Source:
    paths, labels, copies = _names(features)
    chosen = sampled(labels, MAX_POINTS)
    wanted = {paths[n]: labels[n] for n in chosen}
    has_model = (folder / MODEL_FILE).is_file() if manifest else True
    rows = _rows(components, wanted) if has_model else _without_components(wanted)
    rejected = _rejected(parts(folder / REJECTED_DIR)) if manifest else []
    is_standardized = bool(manifest.get("settings", {}).get("standardize"))
    ratio = spectrum(_features(features), standardize=is_standardized)
    return Source(
        name,
        folder,
        rows,
        len(paths),
        dict(sorted(Counter(labels).items())),
        manifest,
        ratio,
        rejected,
        copies,
        sorted([*paths, *(picture.path for picture in rejected)]),
    )


def sampled(labels: Sequence[str], most: int) -> list[int]:
    """Row numbers of a sample of at most `most` rows, each label by its share, at least one of it.

    The same rows for the same labels.
    """
    if len(labels) <= most:
        return list(range(len(labels)))
    dice = np.random.default_rng(0)
    order = dice.permutation(len(labels))
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    by_label = order[np.argsort(codes[order], kind="stable")]
    firsts = np.searchsorted(codes[by_label], np.arange(len(names)))
    sizes = np.diff([*firsts, len(labels)])
    # A row's place within its label, as a share: rows below a threshold are a stratified sample.
    place = np.arange(len(labels)) - np.repeat(firsts, sizes)
    share = place / np.repeat(sizes, sizes)
    return sorted(int(row) for row in by_label[np.argsort(share, kind="stable")[:most]])


def _names(files: Sequence[Path]) -> tuple[list[str], list[str], list[list[str]]]:
    """Paths, labels, and the groups of paths whose files are the same byte by byte."""
    found: list[tuple[str, str, str]] = []
    for batch in read_columns(files, ["path", "label"], optional=["sha256"]):
        digests = batch.get("sha256") or [""] * len(batch["path"])
        found += zip(batch["path"], batch["label"], digests, strict=True)
    found.sort()
    groups: dict[str, list[str]] = {}
    for path, _, digest in found:
        if digest:
            groups.setdefault(digest, []).append(path)
    copies = [group for group in groups.values() if len(group) > 1]
    return [path for path, _, _ in found], [label for _, label, _ in found], copies


def _rows(files: Sequence[Path], wanted: Mapping[str, str]) -> Rows:
    places = {path: number for number, path in enumerate(wanted)}
    found: Floats | None = None
    for batch in read_columns(files, ["path", "pca_features"]):
        here = [(n, places[path]) for n, path in enumerate(batch["path"]) if path in places]
        block: Floats = batch["pca_features"]
        if found is None:
            found = np.full((len(places), block.shape[1]), np.nan, np.float32)
        if here:
            found[[place for _, place in here]] = block[[number for number, _ in here]]
    if found is None:
        return _without_components(wanted)
    # A picture without components is not on the map.
    kept = np.flatnonzero(np.isfinite(found).all(axis=1))
    paths = list(wanted)
    return Rows([paths[n] for n in kept], [wanted[paths[n]] for n in kept], found[kept])


def _without_components(wanted: Mapping[str, str]) -> Rows:
    return Rows(list(wanted), list(wanted.values()), np.empty((len(wanted), 0), np.float32))


def _features(files: Sequence[Path]) -> Iterator[Floats]:
    for batch in read_columns(files, [], optional=["features"]):
        yield batch["features"]


def _rejected(files: Sequence[Path]) -> list[Rejected]:
    found = [
        Rejected(*row)
        for batch in read_columns(files, ["path", "label", "error", "message"])
        for row in zip(*batch.values(), strict=True)
    ]
    return sorted(found, key=lambda row: row.path)
