"""Whole commands: `python -m benchmarks.whole IMAGES WEIGHTS [--rounds N] [--before FRUITS]`

Seconds from the command line to its end, everything included: the notebook's job, the bare loop,
`fruits run` in each precision, its report too, and the `fruits` of another checkout. The models are
made before; a precision that this CPU has no instructions for is left out, int8 is not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine, missing
from fruits_cli.config import JobConfig
from fruits_cli.job.model import model_artefact


def commands(images: str, weights: str, out: str, before: str | None) -> dict[str, list[str]]:
    """What is run, by name; all of them leave their results in `out`."""
    fruits = [str(Path(sys.executable).with_name("fruits"))]
    run = ["run", images, "--local", "--weights", weights, "--pca-k", "50", "--output-dir", out]
    loop = [sys.executable, "-m", "benchmarks.bare_loop", images]
    found = {"notebook": [sys.executable, "-m", "benchmarks.notebook", images, out, weights]}
    if before:
        found["fruits before, f32"] = [before, *run]
    for precision in ("f32", "bf16", "int8"):
        if precision == "bf16" and missing("bf16"):
            continue
        job = JobConfig(weights=weights, precision=precision, calibration=Path(images))
        artefact = str(model_artefact(job, environ=os.environ).folder)
        found[f"bare loop, {precision}"] = [*loop, artefact, precision]
        found[f"fruits, {precision}"] = [*fruits, *run, "--precision", precision]
        found[f"fruits without report, {precision}"] = [
            *(*fruits, *run, "--precision", precision, "--no-report")
        ]
    return found


def seconds(command: list[str], out: str) -> float:
    """Wall seconds of the whole process."""
    shutil.rmtree(out, ignore_errors=True)
    began_s = time.perf_counter()
    # In a folder without a ledger, so that no run copies another's features.
    folder = Path(out).parent if command[1] == "run" else Path(__file__).parents[1]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr[-3000:]}")
    return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole")
    parser.add_argument("images")
    parser.add_argument("weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", help="the fruits program of another checkout")
    parser.add_argument("--without", default="", help="names to leave out, with commas")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/out"
        found = commands(asked.images, asked.weights, out, asked.before)
        runs = {name: [] for name in found if name not in asked.without.split(",")}
        for turn in range(asked.rounds):
            for name, walls in runs.items():
                walls.append(seconds(found[name], out))
                print(f"{turn + 1} {name}: {walls[-1]:.2f}", file=sys.stderr, flush=True)
    print(machine(), "", "| command | seconds |", "| --- | --- |", sep="\n")
    for name, walls in runs.items():
        print(f"| {name} | {statistics.median(walls):.1f} |")
    print("", *filter(None, map(missing, ("bf16", "int8"))), sep="\n")


if __name__ == "__main__":
    main()
