"""What runs on the workers: chunks to rows, markers to counts, rows to sums and components."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from spark_job import chunks, copies, daemon, engines, features, files, pca, reuse, schema
from spark_job.chunks import NOTHING, Plan, Tally
from spark_job.errors import JobError
from spark_job.pictures import pictures_of, rows_of

if TYPE_CHECKING:
    from pyspark import Broadcast


@dataclass(frozen=True)
class Worker:
    """What a task needs; it is sent to every Python worker."""

    images: str
    output: str
    model: str
    plan: Plan
    resume: bool
    # None where nothing is to be copied, from pictures of this run neither.
    sources: tuple[reuse.Source, ...] | None = None
    # Whether rows that the newest source's sums do not count are kept for the fit.
    keeps_added: bool = False


@daemon.on_worker
def compute_chunks(worker: Worker, shares: Iterable[list[int]]) -> Iterator[Tally]:
    """Compute, write and mark each chunk; yields its counts."""
    plan = worker.plan
    images, output = files.place(worker.images), files.place(worker.output)
    inputs = chunks.Inputs(output, plan.rows_per_chunk)
    for chunk in itertools.chain.from_iterable(shares):
        # The attempt before this one may have died after some of its chunks.
        if _attempt() and output.exists(chunks.marker_file(chunk)):
            yield chunks.load_tally(output, chunk)
            continue
        rows = inputs.of(chunk)
        known = copies.Copied()
        if worker.sources is not None:
            known = copies.copied(plan, images, output, worker.sources, chunk, rows)
        left = set(range(rows_of(plan, rows))).difference(known.places, known.refused)
        result, inferences = _embedded(worker, images, rows, left)
        copies.reject_again(result, known)
        tally = replace(
            result.tally(known.table.num_rows),
            reused=len(known.places) - known.twins,
            twins=known.twins,
            lost=known.lost,
        )
        try:
            if worker.keeps_added:
                copies.write_added(output, chunk, result, known)
            table = copies.merged(result.feature_table(), known)
            features.write_chunk(output, chunk, table, result, tally)
        except OSError as error:
            raise features.no_space(error, output) or error from error
        yield replace(tally, inferences=inferences)


@daemon.on_worker
def compute_twins(worker: Worker, numbers: Iterable[int]) -> Iterator[Tally]:
    """Compute the pictures of these chunks that stand in other places too; yields inferences."""
    images, output = files.place(worker.images), files.place(worker.output)
    inputs = chunks.Inputs(output, worker.plan.rows_per_chunk)
    for chunk in numbers:
        owned = copies.owned(output, chunk)
        result, inferences = _embedded(worker, images, inputs.of(chunk), owned)
        copies.write_twins(output, chunk, result.feature_table())
        yield replace(NOTHING, inferences=inferences)


def _embedded(
    worker: Worker, images: files.Place, rows: list[files.Found], wanted: set[int]
) -> tuple[features.ChunkResult, int]:
    """The pictures in the wanted places of a chunk, computed; with the number of inferences."""
    plan = worker.plan
    if not wanted:
        # No model either: of a folder that grew most chunks have nothing new.
        return features.ChunkResult(), 0
    engine = engines.load_engine(
        worker.model, plan.fingerprint, engine=plan.engine, precision=plan.precision
    )
    before = engine.inferences
    pictures = pictures_of(plan, images, rows, check=worker.resume, wanted=wanted)
    result = features.embed_chunk(pictures, engine.embed, side_px=plan.image_size)
    return result, engine.inferences - before


def _attempt() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return int(context.attemptNumber()) if context else 0


@daemon.on_worker
def tally_chunks(output_uri: str, numbers: Iterable[int]) -> Iterator[Tally]:
    """The counts of these chunks, from their markers."""
    output = files.place(output_uri)
    yield functools.reduce(Tally.__add__, (_tally(output, n) for n in numbers), NOTHING)


def _tally(output: files.Place, chunk: int) -> Tally:
    try:
        return chunks.load_tally(output, chunk)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(output, chunks.marker_file(chunk), error) from error


def _feature_rows(output: files.Place, chunk: int, columns: list[str]) -> pa.Table:
    name = chunks.features_file(chunk)
    try:
        return features.read_table(output, name, columns)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(output, name, error) from error


def _damaged(output: files.Place, name: str, error: Exception) -> JobError:
    return JobError(
        1,
        f"{output.uri}/{name} cannot be read: {error}"[:500],
        hint="fruits run --resume continues from here; if the file is damaged, remove it first: "
        "its pictures are computed again.",
    )


@daemon.on_worker
def chunk_sums(output_uri: str, numbers: Iterable[int]) -> Iterator[pca.Sums]:
    """One partial sum over the features of these chunks."""
    output = files.place(output_uri)
    blocks = (features.feature_array(_feature_rows(output, n, ["features"])) for n in numbers)
    yield pca.sums_of(blocks, schema.FEATURES)


@daemon.on_worker
def added_sums(output_uri: str, numbers: Iterable[int]) -> Iterator[pca.Sums]:
    """One partial sum over the rows of these chunks that the newest source has not."""
    output = files.place(output_uri)
    yield pca.sums_of((copies.load_added(output, n) for n in numbers), schema.FEATURES)


@daemon.on_worker
def gone_sums(output_uri: str, newest: reuse.Source, numbers: Iterable[int]) -> Iterator[pca.Sums]:
    """One partial sum over the rows of these chunks of the newest source that are gone."""
    output = files.place(output_uri)
    yield pca.sums_of((copies.load_gone(output, newest, n) for n in numbers), schema.FEATURES)


@daemon.on_worker
def project_chunks(
    output_uri: str,
    model: Broadcast[pca.PcaModel],
    numbers: Iterable[int],
    *,
    keep_features: bool,
) -> Iterator[int]:
    """Write the components of these chunks; yields the number of rows of each."""
    output, columns = files.place(output_uri), schema.pca_rows(keep_features=keep_features)
    for number in numbers:
        table = _feature_rows(output, number, ["path", "label", "features"])
        projected = features.list_column(model.value.project(features.feature_array(table)))
        table = table.append_column("pca_features", projected).select(columns.names)
        try:
            features.write_table(output, f"{schema.PCA_DIR}/{number:07}.parquet", table)
        except OSError as error:
            raise features.no_space(error, output) or error from error
        yield table.num_rows
