"""fruits' own job: `python -m benchmarks.job IMAGES OUT WEIGHTS PRECISION [MASTER|memory]`

Prints one JSON line: images, inferences, seconds of features and of PCA by its manifest, cumulative
variance. With `memory` also the largest sum of PSS of all its processes, sampled five times a
second, in MB: walking their page tables takes time from them, so that run's seconds do not count.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from fruits_cli.config import JobConfig
from fruits_cli.job.model import model_artefact
from fruits_cli.job.spark import LocalPlan, run_job, usable_cores


class Memory(threading.Thread):
    """Samples the PSS of this process's descendants until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_kb, self._ended = 0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            self.peak_kb = max(self.peak_kb, sum(map(_pss_kb, descendants(os.getpid()))))

    def stop(self) -> float:
        """The peak in MB."""
        self._ended.set()
        self.join()
        return self.peak_kb / 1024


def descendants(root: int) -> list[int]:
    """Process ids of all that this process has started, and what they have."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
            except OSError:
                continue
    found, waiting = [], [root]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, its in parents.items() if its == parent]
        found += children
        waiting += children
    return found


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main(images: str, out: str, weights: str, precision: str, master: str = "") -> None:
    job = JobConfig(weights=weights, precision=precision, pca_k=50, calibration=Path(images))
    started = time.perf_counter()
    artefact = model_artefact(job, environ=os.environ)
    artefact_s = time.perf_counter() - started
    sampled, master = master == "memory", "" if master == "memory" else master
    plan = LocalPlan("benchmark", images, Path(out), job, usable_cores(), master=master)
    memory = Memory()
    if sampled:
        memory.start()
    for _ in run_job(plan, artefact, os.environ):
        pass
    manifest = json.loads((Path(out) / "manifest.json").read_text())
    counts, seconds = manifest["counts"], manifest["seconds"]
    assert counts["inferences"] == counts["features"] == counts["pictures"], counts
    answer = {
        "images": counts["pictures"],
        "inferences": counts["inferences"],
        "features_s": round(seconds["listing"] + seconds["features"], 2),
        "pca_s": round(seconds["pca"], 2),
        "all_s": round(sum(seconds.values()), 2),
        "explained": round(manifest["cumulative_variance"], 6),
        **({"peak_mb": round(memory.stop())} if sampled else {}),
        "artefact_s": round(artefact_s, 2),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
