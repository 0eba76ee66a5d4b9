"""Kills a run at random moments and goes on with it: `python tests/kills.py [ROUNDS] [SEED]`

In each round the command, the driver, a Python worker or the JVM is killed with SIGKILL; then
`fruits run --resume last` must give the rows of an undisturbed run, compute no finished chunk
again, and leave no process behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from fruits_cli.dataset.sample import draw_sample

VICTIMS = ("command", "driver", "worker", "jvm")
_FRUITS = str(Path(sys.executable).with_name("fruits"))
# Without what the runs before have computed: the kills are to meet the computing.
_JOB = ("--weights", "random", "--reuse", "none", "--pca-k", "8", "--output", "json")
_PATIENCE_S = 60.0

Rows = dict[str, tuple[float, ...]]


@dataclass
class Arena:
    """A folder with pictures, a model cache, and an environment that marks our processes."""

    folder: Path
    cache: Path | None = None
    count: int = 240
    side_px: int = 96
    environ: dict[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        temp = self.folder / "tmp"
        temp.mkdir(parents=True, exist_ok=True)
        cache = str(self.cache or self.folder / "cache")
        self.environ = {**kept, "XDG_CACHE_HOME": cache, "TMPDIR": str(temp), "MARK": self.mark}
        if not self.pictures.exists():
            draw_sample(self.pictures, count=self.count)

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [_FRUITS, "run", "--no-report", *words, *_JOB, "--image-size", str(self.side_px)],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *words: str) -> dict[str, object]:
        """Run to the end; the summary."""
        process = self.start(*words)
        answer, story = process.communicate(timeout=300)
        assert process.returncode == 0, story
        return dict(json.loads(answer))

    def processes(self) -> dict[int, str]:
        """Process id to command line of all that carry our mark."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if f"MARK={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = b" ".join(words).decode(errors="replace")
        return found


def rows_of(output: Path) -> Rows:
    """Path to features of a run."""
    rows: Rows = {}
    for file in sorted((output / "features").glob("*.parquet")):
        table = pq.read_table(file).to_pydict()
        for path, features in zip(table["path"], table["features"], strict=True):
            assert path not in rows, f"{path} has two rows"
            rows[path] = tuple(features)
    return rows


def kill_once(arena: Arena, victim: str, dice: random.Random, *, within_s: float) -> str:
    """Start a run, kill the victim at a random moment; what was killed.

    Every other moment is one of the stages that write, which last shorter than Spark's start.
    """
    before = len(_plans(arena))
    process = arena.start(str(arena.pictures))
    if dice.random() < 0.5:
        while process.poll() is None and len(_plans(arena)) == before:
            time.sleep(0.02)
        within_s /= 2
    time.sleep(dice.uniform(0, within_s))
    killed = _kill(arena, process, victim, dice)
    process.communicate(timeout=_PATIENCE_S)
    wait_until_gone(arena)
    return killed


def _plans(arena: Arena) -> list[Path]:
    return list(arena.folder.glob("fruits-runs/*/_plan/job.json"))


def _kill(arena: Arena, process: subprocess.Popen[str], victim: str, dice: random.Random) -> str:
    signs = {
        "driver": "spark_job.local --images",
        "worker": "-m spark_job.daemon",
        "jvm": "SparkSubmit",
    }
    chosen = process.pid
    if victim != "command":
        candidates = [
            pid
            for pid, line in sorted(arena.processes().items())
            if signs[victim] in line
            and line.partition(" ")[0].endswith("java") == (victim == "jvm")
        ]
        # It has not started yet, or is through: then the command is killed.
        chosen = dice.choice(candidates) if candidates else process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(chosen, signal.SIGKILL)
    return victim if chosen != process.pid else "command"


def wait_until_gone(arena: Arena) -> None:
    """Return when none of our processes lives; fails after a minute."""
    deadline = time.monotonic() + _PATIENCE_S
    while left := arena.processes():
        assert time.monotonic() < deadline, f"still alive: {left}"
        time.sleep(0.1)


def resume_and_compare(arena: Arena, expected: Rows) -> tuple[int, int]:
    """Go on with the last run; chunks that were done before, and pictures inferred since."""
    record = max((arena.folder / ".fruits" / "runs").glob("*.json"), default=None)
    if record is None:
        return 0, 0  # killed before anything was begun
    output = Path(json.loads(record.read_text())["output"])
    markers = [json.loads(file.read_text()) for file in (output / "_chunks").glob("[0-9]*.json")]
    done = sum(marker["features"] for marker in markers)
    summary = arena.finish("--resume", "last")
    wait_until_gone(arena)
    counts = summary["counts"]
    assert isinstance(counts, dict)
    assert rows_of(output) == expected, "other rows than the undisturbed run's"
    assert counts["inferences"] == len(expected) - done, "a finished chunk was computed again"
    left = list(output.rglob("._writing-*"))
    assert not left, f"half-written files are left: {left}"
    return len(markers), counts["inferences"]


def main(rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        arena = Arena(Path(folder), count=720)
        arena.finish(str(arena.pictures))
        began_s = time.monotonic()
        undisturbed = arena.finish(str(arena.pictures))
        within_s = time.monotonic() - began_s
        expected = rows_of(Path(str(undisturbed["output"])))
        for turn in range(rounds):
            killed = kill_once(arena, VICTIMS[turn % len(VICTIMS)], dice, within_s=within_s)
            chunks, inferred = resume_and_compare(arena, expected)
            story = f"{chunks} chunks were done, {inferred} pictures inferred after"
            print(f"{turn + 1:3} {killed:8} {story}", flush=True)
    print(f"{rounds} passed, 0 failed")


if __name__ == "__main__":
    asked = [int(word) for word in sys.argv[1:]]
    main(*(asked + [50, 7][len(asked) :]))
