"""One run of the job: listing, features, tally, principal components, manifest.

Spark schedules, broadcasts, retries and reduces. Workers read and write all data themselves, chunk
by chunk; a chunk that is written is marked, and a marked chunk is never computed again. Only counts
and one partial sum of the PCA reach the driver.
"""

from __future__ import annotations

import functools
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from spark_job import (
    __version__,
    chunks,
    engines,
    files,
    fitting,
    identity,
    pca,
    probe,
    reuse,
    schema,
    tasks,
)
from spark_job.chunks import NOTHING, Listing, Plan, Tally
from spark_job.errors import JobError
from spark_job.progress import Reporter

if TYPE_CHECKING:
    from pyspark import SparkContext

_SEE = "The files below rejected/ name each picture with its reason."
_ADDED = (NOTHING, Tally.__add__)
_PRIVATE = ("attempt", "command_lock", "model", "resume", "run_id", "reuse_below", "reuse_run")


@dataclass(frozen=True)
class Asked:
    """The job's arguments."""

    images: str
    output: str
    model: str
    run_id: str
    engine: str
    precision: str
    pca_k: int | None
    pca_variance: float | None
    standardize: bool
    max_rejected: float | None
    extensions: tuple[str, ...]
    keep_features: bool
    resume: bool
    deadline_min: float | None
    command_lock: str | None
    dataset_digest: str = ""
    model_fingerprint: str = ""
    code_digest: str = ""
    python_digest: str = ""
    slots: int | None = None
    attempt: str = ""
    reuse_below: tuple[str, ...] = ()
    reuse_run: str = ""


class Job:
    """One run of the job on a SparkContext."""

    def __init__(self, asked: Asked, spark: SparkContext) -> None:
        self.asked, self.spark = asked, spark
        self.images, self.output = files.place(asked.images), files.place(asked.output)
        self.artefact = engines.load_artefact(asked.model, asked.engine)
        # Under dynamic allocation Spark knows of two slots at the start, however many will come.
        self.slots = max(asked.slots or 0, spark.defaultParallelism)
        self.seconds: dict[str, float] = {}
        self.sources: list[reuse.Source] = []
        self.matched = reuse.Matched()
        self.base: fitting.Base | None = None
        # sha256 of the sums that this run keeps.
        self.kept_sums = ""

    def run(self, reporter: Reporter) -> None:
        """All stages. Raises JobError; what is finished by then stays and can be resumed."""
        engines.refuse_precision(
            self.artefact, engine=self.asked.engine, precision=self.asked.precision
        )
        began_s = time.monotonic()
        reporter.stage("listing", pictures=0)
        identity.require(self.asked, self.artefact.fingerprint)
        plan = self._planned()
        self._require_rows(plan.pictures - 1, exit_code=2, counted="listed")
        self.output.remove(schema.MANIFEST_FILE)
        self._clock("listing", began_s)
        tally = self._features(plan, reporter)
        model = self._pca(plan, tally, reporter)
        self.output.remove(reuse.SCRATCH_DIR)
        self._write_manifest(plan, tally, model)
        self._refuse_rejections(tally)
        self._require_rows(tally.features - 1, exit_code=4, counted="left after rejections")
        if not tally.features:
            raise JobError(4, f"None of the {tally.pictures} pictures could be used.", hint=_SEE)

    def _clock(self, stage: str, began_s: float) -> None:
        self.seconds[stage] = round(time.monotonic() - began_s, 3)

    def _require_rows(self, most: int, *, exit_code: int, counted: str) -> None:
        wanted, possible = self.asked.pca_k, min(most, schema.FEATURES)
        if wanted is not None and wanted > possible:
            raise JobError(
                exit_code,
                f"pca_k = {wanted} is too large: {most + 1} pictures are {counted}, "
                f"which allow {max(possible, 0)} components.",
                hint="Give a smaller --pca-k, or none.",
            )

    # listing

    def _planned(self) -> Plan:
        found = chunks.load_plan(self.output)
        if found is None:
            listing = chunks.list_inputs(
                self.images,
                self.output,
                extensions=self.asked.extensions,
                slots=self.slots,
                digest=self.asked.dataset_digest,
                batch=engines.batch_of(self.asked.precision),
            )
            return self._begun(self._plan(listing))
        if not self.asked.resume:
            raise JobError(
                2,
                f"{self.asked.output} holds a run already.",
                hint="Continue it with fruits run --resume, or choose another folder.",
            )
        return self._compared(found)

    def _plan(self, listing: Listing) -> Plan:
        facts = self.artefact.facts
        return Plan(
            images=self.asked.images,
            name=self.images.name,
            **asdict(listing),
            fingerprint=self.artefact.fingerprint,
            weights=facts["weights"],
            engine=self.asked.engine,
            precision=self.asked.precision,
            image_size=self.artefact.side_px,
            extensions=list(self.asked.extensions),
        )

    def _begun(self, plan: Plan) -> Plan:
        if plan.pictures == 0:
            raise JobError(
                2,
                f"There are no pictures in {self.asked.images}.",
                hint=f"Files are taken that end in {', '.join(self.asked.extensions)}.",
            )
        self._require_rows(plan.pictures - 1, exit_code=2, counted="listed")
        # Last, because from now on there is something to resume.
        self.output.write(schema.JOB_FILE, plan.as_json())
        return plan

    def _compared(self, found: Plan) -> Plan:
        now = {
            "images": self.asked.images if found.kind == "folder" else found.images,
            "engine": self.asked.engine,
            "precision": self.asked.precision,
            "image_size": self.artefact.side_px,
            "fingerprint": self.artefact.fingerprint,
            "extensions": list(self.asked.extensions),
            "schema_version": schema.SCHEMA_VERSION,
        }
        if self.asked.dataset_digest:
            now["dataset"] = self.asked.dataset_digest
        for key, value in now.items():
            if (before := getattr(found, key)) != value:
                name = "weights" if key == "fingerprint" else key
                raise JobError(
                    2,
                    f"{name} differs from the run to be continued: {before} then, {value} now.",
                    hint="Only --pca-k, --pca-variance, --standardize, --max-rejected and "
                    "--keep-features may change; for all else start a new run.",
                )
        return found

    # features

    def _features(self, plan: Plan, reporter: Reporter) -> Tally:
        began_s = time.monotonic()
        self.output.remove(reuse.SCRATCH_DIR)
        finished = self._whole_chunks()
        todo = sorted(set(range(plan.chunks)).difference(finished))

        def count() -> int:
            done = len(self.output.list(schema.CHUNKS_DIR))
            return min(round(done * plan.pictures / plan.chunks), plan.pictures)

        reporter.stage("features", pictures=plan.pictures, count=count)
        tally = self._finished(finished)
        if todo:
            tally += self._computed(plan, todo)
        self._clock("features", began_s)
        rows = tally.features + sum(tally.rejected.values())
        if not rows == tally.pictures == plan.pictures:
            raise JobError(1, f"{plan.pictures} pictures were listed, but {rows} have rows.")
        return tally

    def _whole_chunks(self) -> list[int]:
        """The finished chunks; one whose features file is gone is finished no more."""
        finished = chunks.finished_chunks(self.output)
        there = {f"{schema.FEATURES_DIR}/{name}" for name in self.output.list(schema.FEATURES_DIR)}
        lost = {chunk for chunk in finished if chunks.features_file(chunk) not in there}
        for chunk in lost:
            # A second attempt would take its marker for that of the first.
            self.output.remove(chunks.marker_file(chunk))
        return [chunk for chunk in finished if chunk not in lost]

    def _computed(self, plan: Plan, todo: list[int]) -> Tally:
        asked, tally = self.asked, NOTHING
        worker = tasks.Worker(asked.images, asked.output, asked.model, plan, asked.resume)
        if self.asked.reuse_below or self.asked.reuse_run:
            self.sources = self._sources(plan)
            worker = replace(worker, sources=tuple(self.sources))
            self.matched = reuse.find_hits(
                self.spark, plan, todo, self.sources, self.asked.output, slots=self.slots
            )
            if len(todo) == plan.chunks:
                self.base = fitting.base_of(plan, self.sources, self.matched)
            worker = replace(worker, keeps_added=self.base is not None)
            tally += self._over(self.matched.owners, tasks.compute_twins, worker)
        tally += self._over(list(chunks.shares(todo, self.slots)), tasks.compute_chunks, worker)
        return tally

    def _over(self, items: list[Any], task: Callable[..., Any], worker: tasks.Worker) -> Tally:
        if not items:
            return NOTHING
        counted = self.spark.parallelize(items, len(items))
        return cast(Tally, counted.mapPartitions(functools.partial(task, worker)).fold(*_ADDED))

    def _sources(self, plan: Plan) -> list[reuse.Source]:
        """The earlier runs to copy from. Raises JobError (2) where the named one does not fit."""
        named = self.asked.reuse_run
        uris = (named,) if named else self.asked.reuse_below
        found = reuse.find_sources(uris, reuse.key_of(plan), self.output)
        if named and not found:
            raise JobError(
                2,
                f"The features of {named} cannot be reused: the run is not finished, or has other "
                "weights, engine, precision or image size.",
                hint="--reuse auto takes the runs that fit.",
            )
        return found

    def _finished(self, numbers: list[int]) -> Tally:
        """What the markers of an interrupted run say; its inferences do not count for this job."""
        if not numbers:
            return NOTHING
        read = functools.partial(tasks.tally_chunks, self.asked.output)
        partitions = min(len(numbers), self.slots)
        counted = self.spark.parallelize(numbers, partitions).mapPartitions(read)
        return cast(Tally, counted.fold(*_ADDED))

    def _refuse_rejections(self, tally: Tally) -> None:
        limit, share = self.asked.max_rejected, 1 - tally.features / tally.pictures
        if limit is not None and share > limit:
            raise JobError(
                4,
                f"{share:.1%} of the pictures were rejected; max_rejected allows {limit:.1%}.",
                hint=_SEE,
            )

    # principal components

    def _pca(self, plan: Plan, tally: Tally, reporter: Reporter) -> pca.PcaModel | None:
        # Whatever an earlier fit left would mix with this one's rows.
        self.output.remove(schema.PCA_DIR)
        self.output.remove(schema.PCA_MODEL_DIR)
        limit, rejected = self.asked.max_rejected, 1 - tally.features / tally.pictures
        too_few = tally.features < 2 or (self.asked.pca_k or 1) > tally.features - 1
        if too_few or (limit is not None and rejected > limit):
            return None
        reporter.stage("pca", pictures=plan.pictures)
        began_s = time.monotonic()
        fitted = fitting.Fitting(self.spark, plan, self.asked.output, self.slots)
        changed = fitted.changed_sums(self.base, tally.features) if self.base else None
        self.base = self.base if changed else None
        sums = changed or fitted.all_sums()
        self._require_counted(sums.n, tally)
        model = pca.fit(
            sums,
            k=self.asked.pca_k,
            variance=self.asked.pca_variance,
            standardize=self.asked.standardize,
        )
        self.output.write(f"{schema.PCA_MODEL_DIR}/pca.npz", model.npz())
        facts = {"n": sums.n, "k": model.k, "fingerprint": plan.fingerprint}
        self.output.write(f"{schema.PCA_MODEL_DIR}/pca.json", json.dumps(facts).encode())
        self.kept_sums = fitted.keep(sums)
        shared = self.spark.broadcast(model)
        task = functools.partial(
            tasks.project_chunks, self.asked.output, shared, keep_features=self.asked.keep_features
        )
        # Few tasks: each receives the model.
        numbers = self.spark.parallelize(range(plan.chunks), min(plan.chunks, self.slots))
        numbers.mapPartitions(task).sum()
        self._clock("pca", began_s)
        return model

    def _require_counted(self, rows: int, tally: Tally) -> None:
        if rows != tally.features:
            raise JobError(
                1,
                f"The features files of the run have {rows} rows, but {tally.features} were "
                "counted when they were written.",
                hint=f"Remove {self.output.at(schema.CHUNKS_DIR)} and continue with fruits run "
                "--resume: all pictures are computed again.",
            )

    # manifest

    def _write_manifest(self, plan: Plan, tally: Tally, model: pca.PcaModel | None) -> None:
        ratio = model.explained_variance_ratio if model else np.zeros(0)
        manifest = {
            "run_id": self.asked.run_id,
            "versions": _versions(self.spark),
            "engine": plan.engine,
            "precision": plan.precision,
            "image_size": plan.image_size,
            "weights": plan.weights,
            "model": {k: v for k, v in self.artefact.facts.items() if k != "files"},
            "model_fingerprint": plan.fingerprint,
            "dataset_digest": plan.dataset,
            "code_digest": self.asked.code_digest,
            "python_digest": self.asked.python_digest,
            "counts": {
                "pictures": tally.pictures,
                "features": tally.features,
                "rejected": sum(tally.rejected.values()),
                "rejected_by_reason": tally.rejected,
                "chunks": plan.chunks,
                "inferences": tally.inferences,
                "reused": tally.reused,
                "twins": tally.twins,
                "lost": tally.lost,
                "gone": sum(self.matched.gone.values()),
                "unread": self.matched.unread,
            },
            "reuse_key": reuse.key_of(plan),
            "reused_from": [run.run_id for run in self.sources],
            "sums_from": self.base.source.run_id if self.base else None,
            "sums": self.kept_sums,
            "seconds": self.seconds,
            "settings": {k: v for k, v in asdict(self.asked).items() if k not in _PRIVATE},
            "slots": self.slots,
            "pca_k": model.k if model else None,
            "cumulative_variance": round(float(ratio.sum()), 12) if model else None,
        }
        self.output.write(schema.MANIFEST_FILE, json.dumps(manifest, indent=2).encode())


def _versions(spark: SparkContext) -> dict[str, str]:
    return {
        "fruits": __version__,
        "python": platform.python_version(),
        "spark": spark.version,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        **probe.versions(),
    }
