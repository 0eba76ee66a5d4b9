"""What is known of many pictures: `python -m benchmarks.lookup [PICTURES ...]`

The look-up alone, on this machine's cores: a run of that many rows is known, and a dataset of as
many and a hundred more is wanted. Features files and shards hold digests and nothing else. Seconds,
and the largest resident memory of the driver, of Spark's JVM and of any Python worker.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import SparkConf, SparkContext

from benchmarks.job import descendants
from benchmarks.machine import machine
from benchmarks.slots import SPARK_CONF
from fruits_cli.job.java import find_java, spark_environ
from fruits_cli.job.spark import usable_cores
from spark_job import chunks, reuse, schema

NEW = 100
_ROWS = schema.CHUNK_PICTURES


def digests(start: int, count: int) -> pa.Table:
    """The column sha256 of pictures by their numbers."""
    texts = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(start, start + count)]
    return pa.table({"sha256": texts})


def parts(pictures: int) -> Iterator[tuple[int, int]]:
    """First number and count of each chunk."""
    for start in range(0, pictures, _ROWS):
        yield start, min(_ROWS, pictures - start)


def make_known(folder: Path, pictures: int) -> reuse.Source:
    """A run whose features files hold the digests of the first pictures."""
    (folder / schema.FEATURES_DIR).mkdir(parents=True)
    number = 0
    for number, (start, count) in enumerate(parts(pictures)):
        pq.write_table(digests(start, count), folder / chunks.features_file(number))
    return reuse.Source(str(folder), "known", number + 1, pictures)


def make_wanted(images: Path, output: Path, pictures: int) -> chunks.Plan:
    """A dataset of these pictures, listed: a shard and a row of the listing for each chunk."""
    images.mkdir()
    (output / schema.PLAN_DIR).mkdir(parents=True)
    listed = []
    for number, (start, count) in enumerate(parts(pictures)):
        file = images / f"{number}.parquet"
        pq.write_table(digests(start, count), file, row_group_size=chunks.GROUP_ROWS)
        listed.append((f"{file.name}#0+{count}", file.stat().st_size, 0, number))
    columns = [
        pa.array(column, kind)
        for column, kind in zip(zip(*listed, strict=True), schema.INPUTS.types, strict=True)
    ]
    table = pa.Table.from_arrays(columns, schema=schema.INPUTS)
    pq.write_table(table, output / schema.INPUTS_FILE, row_group_size=chunks.ROW_GROUP)
    names = {"images": str(images), "kind": "dataset", "name": "wanted", "dataset": ""}
    model = {"fingerprint": "", "weights": "", "engine": "openvino", "precision": "f32"}
    return chunks.Plan(
        **names,
        **model,
        pictures=pictures,
        chunks=len(listed),
        rows_per_chunk=1,
        image_size=224,
        extensions=[],
    )


class Peaks(threading.Thread):
    """The largest resident memory of the JVM and of any Python worker, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.jvm = self.worker = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            for pid in descendants(os.getpid()):
                try:
                    name = Path(f"/proc/{pid}/comm").read_text()
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except OSError:
                    continue
                megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
                if name.startswith("java"):
                    self.jvm = max(self.jvm, megabytes)
                else:
                    self.worker = max(self.worker, megabytes)


def main(asked: list[str]) -> None:
    print(machine(), "", sep="\n")
    print(
        "| known | seconds | driver, MB | JVM, MB | a worker, MB |",
        "| --- |" + " --- |" * 4,
        sep="\n",
    )
    slots = usable_cores()
    for pictures in map(int, asked or ["1000000"]):
        with tempfile.TemporaryDirectory(prefix="fruits-lookup-") as name:
            folder = Path(name)
            source = make_known(folder / "known", pictures)
            plan = make_wanted(folder / "images", folder / "wanted", pictures + NEW)
            os.environ.update(spark_environ(os.environ, find_java(os.environ), folder))
            conf = SparkConf().setAll(
                [*SPARK_CONF.items(), ("spark.local.dir", str(folder / "spark"))]
            )
            spark = SparkContext(conf=conf.setMaster(f"local[{slots}]").setAppName("lookup"))
            peaks = Peaks()
            peaks.start()
            began_s = time.monotonic()
            todo = list(range(plan.chunks))
            found = reuse.find_hits(
                spark, plan, todo, [source], str(folder / "wanted"), slots=slots
            )
            spent_s = time.monotonic() - began_s
            peaks.ended.set()
            spark.stop()
            assert found == reuse.Matched()
            status = Path("/proc/self/status").read_text()
            driver = int(status.split("VmHWM:")[1].split()[0]) / 1024
            figures = (spent_s, driver, peaks.jvm, peaks.worker)
            print(
                f"| {pictures:,} | {' | '.join(f'{figure:,.0f}' for figure in figures)} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
