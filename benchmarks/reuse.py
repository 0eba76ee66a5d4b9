"""A folder that grew, from nothing and with the features of the run before it, side by side.

python -m benchmarks.reuse [--known 20000] [--new 200] [--weights FILE.h5] [--json FILE]

Whole commands, reports left out; each run's rows must equal those of the run from nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from benchmarks.pictures import make_pictures, sources


def run(folder: Path, images: Path, weights: str, reuse: str) -> dict[str, Any]:
    """The summary of `fruits run`, with the seconds of the whole process."""
    command = [str(Path(sys.executable).with_name("fruits")), "run", str(images), "--no-report"]
    command += ["--weights", weights, "--reuse", reuse, "--output", "json"]
    began_s = time.monotonic()
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts | {"process_seconds": time.monotonic() - began_s}


def rows(run_folder: str) -> Any:
    """The feature rows of a run, in the order of their paths."""
    return ds.dataset(f"{run_folder}/features", format="parquet").to_table().sort_by("path")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--known", type=int, default=20_000)
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fruits-reuse-") as scratch:
        folder = Path(scratch)
        pictures = sources(given.source, folder)
        images = make_pictures(pictures, folder / "pictures", given.known)
        run(folder, images, given.weights, "none")
        make_pictures(pictures, images, given.known + given.new)
        grown = run(folder, images, given.weights, "auto")
        whole = run(folder, images, given.weights, "none")
        assert grown["counts"]["inferences"] == given.new, grown["counts"]
        assert rows(grown["output"]).equals(rows(whole["output"]))
    found = {"known": given.known, "new": given.new}
    for key, one in (("grown", grown), ("whole", whole)):
        found[key] = {**one["seconds"], "process": round(one["process_seconds"], 1)}
    for stage in ("features", "process"):
        share = found["grown"][stage] / found["whole"][stage]
        print(f"{stage}: {found['grown'][stage]:.1f} of {found['whole'][stage]:.1f} s, {share:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
