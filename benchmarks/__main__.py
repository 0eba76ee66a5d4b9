"""All of them side by side, interleaved: `python -m benchmarks [--count N] [--rounds N]`

Prints a table of medians and ratios, and writes all measurements to --json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, missing
from benchmarks.pictures import make_pictures, sources
from fruits_cli.config import JobConfig
from fruits_cli.files import cache_dir
from fruits_cli.job.model import model_artefact

SMALL = 10  # the small set is a tenth of the large one
HELP_TIMES = 11


@dataclass(frozen=True)
class Bench:
    """Where the pictures, weights and scratch of one run of the benchmarks are."""

    scratch: Path
    pictures: dict[str, str]
    weights: str
    artefact: str
    int8_artefact: str

    def job(self, size: str, precision: str, master: str = "") -> dict[str, Any]:
        out = self.scratch / "job"
        words = ["benchmarks.job", self.pictures[size], str(out), self.weights, precision]
        return _module(out, *words, *([master] if master else []))

    def notebook(self, size: str) -> dict[str, Any]:
        out = self.scratch / "notebook"
        words = ["benchmarks.notebook", self.pictures[size], str(out), self.weights]
        return _module(out, *words)

    def bare(self, size: str, precision: str, module: str = "bare_loop") -> dict[str, Any]:
        artefact = self.int8_artefact if precision == "int8" else self.artefact
        words = [f"benchmarks.{module}", self.pictures[size], artefact, precision]
        return _module(self.scratch / "bare", *words)

    def model(self, precision: str) -> dict[str, Any]:
        return self.bare("large", precision, "model_alone")


def _module(out: Path, *words: str) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    ended = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{ended.stderr[-3000:]}")
    return dict(json.loads(ended.stdout.strip().splitlines()[-1]))


def _help() -> dict[str, Any]:
    fruits = str(Path(sys.executable).with_name("fruits"))
    seconds = []
    for _ in range(HELP_TIMES):
        started = time.perf_counter()
        subprocess.run([fruits, "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds)}


CONTENDERS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "model-f32": lambda bench: bench.model("f32"),
    "model-bf16": lambda bench: bench.model("bf16"),
    "model-int8": lambda bench: bench.model("int8"),
    "job-f32": lambda bench: bench.job("large", "f32"),
    "job-bf16": lambda bench: bench.job("large", "bf16"),
    "job-int8": lambda bench: bench.job("large", "int8"),
    "bare-int8": lambda bench: bench.bare("large", "int8"),
    "bare-f32": lambda bench: bench.bare("large", "f32"),
    "bare-bf16": lambda bench: bench.bare("large", "bf16"),
    "job-f32-small": lambda bench: bench.job("small", "f32"),
    "notebook-small": lambda bench: bench.notebook("small"),
    "job-f32-double": lambda bench: bench.job("double", "f32"),
    "memory": lambda bench: bench.job("large", "f32", "memory"),
    "memory-double": lambda bench: bench.job("double", "f32", "memory"),
    "one-executor": lambda bench: bench.job("large", "f32", "local-cluster[1,1,1024]"),
    "two-executors": lambda bench: bench.job("large", "f32", "local-cluster[2,1,1024]"),
    "notebook": lambda bench: bench.notebook("large"),
    "help": lambda _: _help(),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: `key` of one contender over that of another, and what is asked."""

    what: str
    over: str
    under: str
    key: str
    needed: str
    aim: str

    def line(self, found: dict[str, dict[str, float]]) -> str:
        """The ratio of both medians; empty where a precision lacks its instructions."""
        both = (self.over, self.under)
        ratio = (
            found[self.over][self.key] / found[self.under][self.key] if all_in(both, found) else 0
        )
        return f"| {self.what} | {f'{ratio:.2f}' if ratio else ''} | {self.needed} | {self.aim} |"

    def is_wanted(self, asked: Collection[str]) -> bool:
        return all_in((self.over, self.under), asked)


ROWS = [
    Row("features f32, times the notebook's", "notebook", "job-f32", "features_s", "3.5", "4.2"),
    Row("features bf16, times the notebook's", "notebook", "job-bf16", "features_s", "6.5", "9"),
    Row("features int8, times the notebook's", "notebook", "job-int8", "features_s", "", ""),
    Row("features int8, times f32", "job-f32", "job-int8", "features_s", "", ""),
    Row("features int8, times bf16", "job-bf16", "job-int8", "features_s", "", ""),
    Row("the model alone, a core: bf16, times f32", "model-bf16", "model-f32", "images_s", "", ""),
    Row("the model alone, int8, times f32", "model-int8", "model-f32", "images_s", "2.5", ""),
    Row("the model alone, int8, times bf16", "model-int8", "model-bf16", "images_s", "1.2", ""),
    Row("features int8, share of the loop", "bare-int8", "job-int8", "features_s", "", ""),
    Row("the same of a tenth, f32", "notebook-small", "job-f32-small", "features_s", "10", "15"),
    Row("features f32, share of the bare loop", "bare-f32", "job-f32", "features_s", ".8", ".95"),
    Row("features bf16, share of the loop", "bare-bf16", "job-bf16", "features_s", ".65", ".9"),
    Row("PCA fit, projection, write, times MLlib's", "notebook", "job-f32", "pca_s", "8", "15"),
    Row("time of twice the pictures", "job-f32-double", "job-f32", "all_s", "2.1", "2.02"),
    Row("memory of twice the pictures", "memory-double", "memory", "peak_mb", "1.1", ""),
    Row("two executors, times one", "one-executor", "two-executors", "features_s", "1.75", "1.9"),
]


def medians(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Of every contender the median of each of its numbers."""
    return {
        name: {key: statistics.median(float(run[key]) for run in found) for key in found[0]}
        for name, found in runs.items()
    }


def all_in(names: Iterable[str], found: Collection[str]) -> bool:
    return set(names).issubset(found)


def table(asked: Collection[str], found: dict[str, dict[str, float]]) -> list[str]:
    """The rows whose contenders were asked for, as Markdown."""
    lines = ["| what | measured | needed | aim |", "| --- | --- | --- | --- |"]
    lines += [row.line(found) for row in ROWS if row.is_wanted(asked)]
    if "help" in found:
        lines.append(f"| fruits --help, seconds | {found['help']['seconds']:.2f} | 0.3 | 0.15 |")
    lines += ["", "| contender | medians |", "| --- | --- |"]
    for name, median in found.items():
        lines.append(f"| {name} | {', '.join(f'{k} {v:g}' for k, v in median.items())} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--source", type=Path, help="pictures to vary; else the drawn sample")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fruits-bench")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    bench = _prepared(asked)
    names = asked.only.split(",")
    lacking = [name for name in ("bf16", "int8") if missing(name)]
    able = [name for name in names if not name.endswith(tuple(lacking))]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in able}
    for turn in range(asked.rounds):
        for name, found in runs.items():
            found.append(CONTENDERS[name](bench))
            print(f"{turn + 1} {name}: {found[-1]}", file=sys.stderr, flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=2))
    sentences = [f"{missing(name)} Its cells are empty." for name in lacking]
    print("\n".join([machine(), *sentences, "", *table(names, medians(runs))]))


def _prepared(asked: argparse.Namespace) -> Bench:
    source = sources(asked.source, asked.folder)
    sizes = {"large": asked.count, "small": asked.count // SMALL, "double": 2 * asked.count}
    pictures = {
        size: str(make_pictures(source, asked.folder / f"pictures-{count}", count))
        for size, count in sizes.items()
    }
    artefact = model_artefact(JobConfig(weights=asked.weights), environ=os.environ)
    weights = asked.weights
    if weights == "random":
        weights = str(next((cache_dir(os.environ) / "models").glob("random-*.weights.h5")))
    int8 = JobConfig(weights=asked.weights, precision="int8", calibration=Path(pictures["large"]))
    quantised = artefact if missing("int8") else model_artefact(int8, environ=os.environ)
    return Bench(asked.folder, pictures, weights, str(artefact.folder), str(quantised.folder))


if __name__ == "__main__":
    main()
