"""The sums that the fit needs: of all rows, or an earlier run's with what changed since.

They are kept for a run as a whole: those of one chunk are more bytes (13 MB) than its rows (10 MB).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from spark_job import copies, files, pca, schema, tasks
from spark_job.chunks import Plan
from spark_job.files import Place
from spark_job.reuse import Matched, Source

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext

_SUMS_FILE = f"{schema.PLAN_DIR}/sums.npz"
# Partial sums of 13 MB each: so many meet on the driver, so many on the executors before.
_ON_DRIVER, _MEETING = 4, 16


@dataclass(frozen=True)
class Base:
    """The newest earlier run, whose sums are to be changed, and its chunks with rows gone."""

    source: Source
    gone: tuple[int, ...]


def base_of(plan: Plan, sources: list[Source], matched: Matched) -> Base | None:
    """The newest source, where its sums spare half of the rows or more; small runs need none."""
    if plan.pictures <= pca.BLOCK_ROWS or not sources or not sources[0].sums:
        return None
    kept = sources[0].features - sum(matched.gone.values())
    return Base(sources[0], tuple(matched.gone)) if 2 * kept >= plan.pictures else None


@dataclass(frozen=True)
class Fitting:
    """Where the rows of a run are, and by how many tasks they are read."""

    spark: SparkContext
    plan: Plan
    output_uri: str
    slots: int

    def changed_sums(self, base: Base, rows: int) -> pca.Sums | None:
        """The sums of all rows out of those of `base`, None unless they are of so many rows."""
        sums = _load(files.place(base.source.uri), base.source.sums)
        if sums is None:
            return None
        if base.gone:
            read_gone = functools.partial(tasks.gone_sums, self.output_uri, base.source)
            sums -= reduced(self._over(base.gone).mapPartitions(read_gone))
        if added := copies.added_chunks(files.place(self.output_uri)):
            read_added = functools.partial(tasks.added_sums, self.output_uri)
            sums += reduced(self._over(added).mapPartitions(read_added))
        # A file of the earlier run may be gone, or a picture may have changed meanwhile.
        return sums if sums.n == rows else None

    def all_sums(self) -> pca.Sums:
        """The sums of all rows, which are read."""
        read = functools.partial(tasks.chunk_sums, self.output_uri)
        if self.plan.pictures <= pca.BLOCK_ROWS:
            # Their features take fewer bytes than a stage's partial sums.
            return next(read(range(self.plan.chunks)))
        # One task a slot: more would only make more partial sums.
        return reduced(self._over(range(self.plan.chunks)).mapPartitions(read))

    def keep(self, sums: pca.Sums) -> str:
        """Write the sums for later runs; their sha256, empty for a run that is too small."""
        if self.plan.pictures <= pca.BLOCK_ROWS:
            return ""
        content = sums.npz()
        files.place(self.output_uri).write(_SUMS_FILE, content)
        return hashlib.sha256(content).hexdigest()

    def _over(self, numbers: range | list[int] | tuple[int, ...]) -> RDD[int]:
        return self.spark.parallelize(numbers, min(len(numbers), self.slots))


def _load(run: Place, sha256: str) -> pca.Sums | None:
    try:
        content = run.read(_SUMS_FILE)
        return pca.load_sums(content) if hashlib.sha256(content).hexdigest() == sha256 else None
    except (OSError, ValueError, KeyError):
        return None


def reduced(partials: RDD[pca.Sums]) -> pca.Sums:
    """The sum of all partials, added on the executors: the driver receives one.

    Spark's own treeReduce sends the square root of their number to the driver, which
    spark.driver.maxResultSize may not allow.
    """
    if partials.getNumPartitions() <= _ON_DRIVER:
        return cast(pca.Sums, functools.reduce(pca.Sums.__add__, partials.collect()))
    meeting = min(_MEETING, max(partials.getNumPartitions() // 4, 1))
    keyed = partials.mapPartitionsWithIndex(lambda n, sums: ((n % meeting, s) for s in sums))
    halfway = keyed.reduceByKey(pca.Sums.__add__, meeting)
    total = halfway.map(lambda pair: (0, pair[1])).reduceByKey(pca.Sums.__add__, 1).values()
    (sums,) = total.collect()
    return cast(pca.Sums, sums)
