"""Reading of a packed dataset, here and in another tree: `... packed PICTURES OTHER_TREE`

Prints microseconds of processor a picture, medians of five readings that take turns; nothing is
decoded. PICTURES is a folder, OTHER_TREE the root of another version's checkout.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fruits_cli.dataset.digests import DigestCache
from fruits_cli.dataset.shards import pack

ROUNDS, CHUNK = 5, 48
_READ = """
import sys, time
from types import SimpleNamespace
import pyarrow.parquet as pq
from spark_job import files
try:
    from spark_job.pictures import pictures_of
except ImportError:
    from spark_job.features import pictures_of
source, chunk = files.place(sys.argv[1]), int(sys.argv[2])
rows = []
for name in sorted(source.list("")):
    with source.open(name) as stream:
        count = pq.read_metadata(stream).num_rows
    for first in range(0, count, chunk):
        size = min(chunk, count - first)
        rows.append(files.Found(f"{name}#{first}+{size}", size, 0))
plan = SimpleNamespace(kind="dataset", name="x")
for _ in range(2):
    began_s, pictures = time.process_time(), 0
    for row in rows:
        pictures += sum(1 for _ in pictures_of(plan, source, [row], check=False))
print((time.process_time() - began_s) / pictures * 1e6)
"""


def read_us(tree: Path, dataset: Path) -> float:
    """Microseconds of processor a picture; the second reading finds all in memory."""
    command = [sys.executable, "-P", "-c", _READ, str(dataset), str(CHUNK)]
    environ = {**os.environ, "PYTHONPATH": str(tree)}
    return float(subprocess.run(command, env=environ, capture_output=True, check=True).stdout)


def main(pictures: Path, other: Path) -> None:
    """Pack the pictures once, and read them in both trees in turn."""
    trees = {"here": Path(__file__).parents[1], "there": other.resolve()}
    with tempfile.TemporaryDirectory() as name:
        dataset, digests = Path(name, "dataset"), DigestCache(Path(name, "digests.sqlite"))
        dataset.mkdir()
        for _ in pack(pictures, into=dataset, extensions=["jpg"], known={}, digests=digests):
            pass
        found: dict[str, list[float]] = {where: [] for where in trees}
        for _ in range(ROUNDS):
            for where, tree in trees.items():
                found[where].append(read_us(tree, dataset))
    here, there = (statistics.median(found[where]) for where in trees)
    print(f"{here:.0f} us a picture here, {there:.0f} there: {there / here:.2f} times as fast")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
