"""A folder that grew, from nothing and with the features of the run before it, side by side.

python -m benchmarks.reuse [--known 20000] [--new 200] [--weights FILE.h5] [--through-s3]
    [--once] [--json FILE]

Whole commands, reports left out; each run's rows must equal those of the run from nothing. Through
S3 they run on a rehearsed cluster, with pictures, features and results in the embedded S3. With
--once the run from nothing is that of the known pictures alone, and rows are not compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from benchmarks.pictures import make_pictures, sources
from fruits_cli import rehearsal

_ON_S3 = ("--target", "emr", "--yes", "--bucket", "grown-folder")


@dataclass(frozen=True)
class Place:
    """Where runs are, and how `fruits` is called there."""

    folder: Path
    environ: Mapping[str, str]
    words: tuple[str, ...] = ()

    def run(self, images: Path, weights: str, reuse: str) -> dict[str, Any]:
        """The summary of `fruits run`, with the seconds of the whole process."""
        command = [str(Path(sys.executable).with_name("fruits")), "run", str(images), *self.words]
        command += ["--no-report", "--weights", weights, "--reuse", reuse, "--output", "json"]
        began_s = time.monotonic()
        ended = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise SystemExit(ended.stderr)
        facts: dict[str, Any] = json.loads(ended.stdout)
        return facts | {"process_seconds": time.monotonic() - began_s}


@contextlib.contextmanager
def place(folder: Path, *, is_on_s3: bool) -> Iterator[Place]:
    """This machine, or an AWS embedded in it for as long as the body runs."""
    if not is_on_s3:
        yield Place(folder, os.environ)
        return
    started = rehearsal.start(folder / "aws", minutes_per_second=600)
    try:
        yield Place(folder, rehearsal.environ_beside(started, os.environ), _ON_S3)
    finally:
        rehearsal.stop(folder / "aws")


def rows(run_folder: str) -> Any:
    """The feature rows of a run, in the order of their paths."""
    return ds.dataset(f"{run_folder}/features", format="parquet").to_table().sort_by("path")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--known", type=int, default=20_000)
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--through-s3", action="store_true")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--pictures", type=Path, help="where they lie, or are made")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fruits-reuse-") as scratch:
        folder = Path(scratch)
        pictures = sources(given.source, folder)
        images = make_pictures(pictures, given.pictures or folder / "pictures", given.known)
        with place(folder, is_on_s3=given.through_s3) as there:
            runs = {"known": there.run(images, given.weights, "none")}
            make_pictures(pictures, images, given.known + given.new)
            runs["grown"] = there.run(images, given.weights, "auto")
            assert runs["grown"]["counts"]["inferences"] == given.new, runs["grown"]["counts"]
            if not given.once:
                runs["whole"] = there.run(images, given.weights, "none")
                assert rows(runs["grown"]["output"]).equals(rows(runs["whole"]["output"]))
    found = {
        name: {**run["seconds"], "process": round(run["process_seconds"], 1)}
        for name, run in runs.items()
    }
    whole, grown = found["known" if given.once else "whole"], found["grown"]
    for stage in ("features", "pca", "process"):
        share = grown[stage] / whole[stage]
        print(f"{stage}: {grown[stage]:.1f} of {whole[stage]:.1f} s, {share:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
