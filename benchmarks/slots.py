"""Time against the ideal: `python -m benchmarks.slots [IMAGES_S TASK_S | --measured]`

Chunks and tasks are cut by the job's own rules for a packed dataset, and given to slots as Spark
does: each free slot takes the next task. IMAGES_S is the speed of a slot, TASK_S what a task costs
besides. The ideal is all slots at work from beginning to end. The second table: a cluster that
starts with 2 slots and grows by 4 a minute, against all slots that were there at each moment.

With --measured Spark itself gives the same tasks to as many workers of one thread on this machine,
where a picture is a wait of a 70th of a second: two cores serve 12 such slots. What would take
more than a minute is left out, and starting Spark and the workers does not count.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pyspark import SparkConf, SparkContext

from fruits_cli.job.java import LOOPBACK_CONF, find_java, spark_environ
from spark_job import chunks

PICTURES, SLOTS = (360, 1_572, 6_404, 22_688, 1_000_000), (2, 12, 48, 120)
SHARD_ROWS, NODE_SLOTS, NODE_S = 2_048, 4, 60.0
_IMAGES_S, _LONGEST_S, _MEASURED = 70.0, 60.0, (2, 12)
SPARK_CONF = {
    **LOOPBACK_CONF,
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
    "spark.python.daemon.module": "spark_job.daemon",
}


def chunk_pictures(pictures: int, slots: int) -> list[int]:
    """Pictures of each chunk: no chunk reaches over the end of a shard."""
    size = chunks.chunk_size(pictures, slots)
    shards = [min(SHARD_ROWS, pictures - start) for start in range(0, pictures, SHARD_ROWS)]
    return [min(size, rows - start) for rows in shards for start in range(0, rows, size)]


def started(slots: int, *, grows: bool) -> Iterator[float]:
    """When each slot is there, in seconds."""
    for number in range(slots):
        late = max(0, number - 2) // NODE_SLOTS + 1 if number >= 2 else 0
        yield late * NODE_S if grows else 0.0


def share_of_ideal(
    pictures: int, slots: int, images_s: float, task_s: float, *, grows: bool = False
) -> float:
    """Seconds that the slots would need with no idle one, by seconds needed."""
    sizes = chunk_pictures(pictures, slots)
    free = sorted(started(slots, grows=grows))
    there = list(free)
    heapq.heapify(free)
    end = 0.0
    for share in chunks.shares(range(len(sizes)), slots):
        spent = task_s + sum(sizes[chunk] for chunk in share) / images_s
        done = heapq.heappop(free) + spent
        heapq.heappush(free, done)
        end = max(end, done)
    return _ideal(pictures / images_s, there) / end


def _ideal(slot_seconds: float, there: list[float]) -> float:
    for number, (since, until) in enumerate(itertools.pairwise([*there, float("inf")]), 1):
        if slot_seconds <= number * (until - since):
            return since + slot_seconds / number
        slot_seconds -= number * (until - since)
    raise AssertionError("no slot")


def table(images_s: float, task_s: float, *, grows: bool) -> list[str]:
    """A row for each number of pictures, a column for each number of slots, as Markdown."""
    lines = _head()
    for pictures in PICTURES:
        shares = [share_of_ideal(pictures, n, images_s, task_s, grows=grows) for n in SLOTS]
        lines.append(f"| {pictures:,} | {' | '.join(f'{share:.2f}' for share in shares)} |")
    return lines


def measured_share(pictures: int, slots: int, images_s: float) -> float | None:
    """As `share_of_ideal`, by Spark; None where it would take too long."""
    ideal = pictures / images_s / slots
    if ideal > _LONGEST_S:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        java_home = find_java(os.environ)
        os.environ.update(spark_environ(os.environ, java_home, Path(scratch)))
        spark = SparkContext(
            f"local[{slots}]", "slots", conf=SparkConf().setAll(SPARK_CONF.items())
        )
        try:
            spark.parallelize(range(slots), slots).foreach(lambda _: time.sleep(1))
            sizes = chunk_pictures(pictures, slots)
            shares = chunks.shares(range(len(sizes)), slots)
            waits = [[sizes[chunk] / images_s for chunk in share] for share in shares]
            began_s = time.monotonic()
            spark.parallelize(waits, len(waits)).foreach(_wait)
            return ideal / (time.monotonic() - began_s)
        finally:
            spark.stop()


def _wait(seconds: Iterable[float]) -> None:
    for chunk in seconds:
        time.sleep(chunk)


def measured_table(images_s: float) -> list[str]:
    """As `table`, measured; what takes too long is an empty cell."""
    lines = _head(_MEASURED)
    for pictures in PICTURES:
        shares = [measured_share(pictures, slots, images_s) for slots in _MEASURED]
        cells = (f"{share:.2f}" if share else "" for share in shares)
        lines.append(f"| {pictures:,} | {' | '.join(cells)} |")
    return lines


def _head(columns: Sequence[int] = SLOTS) -> list[str]:
    lines = [f"| pictures | {' | '.join(f'{slots} slots' for slots in columns)} |"]
    return [*lines, "| --- |" + " --- |" * len(columns)]


if __name__ == "__main__":
    if sys.argv[1:] == ["--measured"]:
        print("\n".join(measured_table(_IMAGES_S)))
        sys.exit()
    speed, cost = [float(word) for word in sys.argv[1:]] or (_IMAGES_S, 0.05)
    for growing in (False, True):
        print("\n".join(table(speed, cost, grows=growing)), end="\n\n")
