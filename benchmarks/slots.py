"""Time against the ideal, by arithmetic: `python -m benchmarks.slots [IMAGES_S] [TASK_S]`

Chunks and tasks are cut by the job's own rules for a packed dataset, and given to slots as Spark
does: each free slot takes the next task. IMAGES_S is the speed of a slot, TASK_S what a task costs
besides. The ideal is all slots at work from beginning to end. The second table: a cluster that
starts with 2 slots and grows by 4 a minute, against all slots that were there at each moment.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Iterator

from spark_job import chunks

PICTURES, SLOTS = (360, 1_572, 6_404, 22_688, 1_000_000), (2, 12, 48, 120)
SHARD_ROWS, NODE_SLOTS, NODE_S = 2_048, 4, 60.0


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
    lines = [f"| pictures | {' | '.join(f'{slots} slots' for slots in SLOTS)} |"]
    lines.append("| --- |" + " --- |" * len(SLOTS))
    for pictures in PICTURES:
        shares = [share_of_ideal(pictures, n, images_s, task_s, grows=grows) for n in SLOTS]
        lines.append(f"| {pictures:,} | {' | '.join(f'{share:.2f}' for share in shares)} |")
    return lines


if __name__ == "__main__":
    speed, cost = [float(word) for word in sys.argv[1:]] or (70.0, 0.05)
    for growing in (False, True):
        print("\n".join(table(speed, cost, grows=growing)), end="\n\n")
