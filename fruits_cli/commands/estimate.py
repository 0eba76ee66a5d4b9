"""fruits estimate: how long, how much, and where."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fruits_cli.cloud.account import Machine
from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.cloud.prices import table_prices
from fruits_cli.cloud.protocols import Storage
from fruits_cli.cluster.plan import lifetime_min
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Engine, JobConfig, Precision
from fruits_cli.dataset.images import find_images, local_images
from fruits_cli.dataset.listing import list_pictures, no_picture
from fruits_cli.dataset.manifest import DATASET_FILE, parse_manifest
from fruits_cli.dataset.sample import ensure_sample, sample_folder
from fruits_cli.errors import CloudError, ConfigError, FruitsError, UsageError
from fruits_cli.estimate.calculation import (
    HERE,
    Candidate,
    Estimate,
    Shape,
    Work,
    break_even,
    candidates,
    cluster_shape,
    estimated,
    fastest,
    instance_types,
)
from fruits_cli.estimate.report import Measured, Report, report_facts, report_lines
from fruits_cli.estimate.timing import Timed, time_sample
from fruits_cli.job.embedding import embedding_command
from fruits_cli.job.model import ModelArtefact, obtain_model
from fruits_cli.job.spark import usable_cores
from fruits_cli.options import with_config
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session

Images = Annotated[
    str | None, typer.Argument(help="Folder of pictures, or a dataset on S3.", show_default=False)
]
Count = Annotated[
    int | None,
    typer.Option(min=1, help="As if there were so many pictures.", show_default=False),
]
Sample = Annotated[bool, typer.Option("--sample", help="The small drawn set of fruit.")]


@with_config("storage", "job", "cluster")
def estimate(
    *,
    images: Images = None,
    count: Count = None,
    sample: Sample = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Time a sample here, then minutes and dollars on this machine and on clusters.

    \b
    fruits estimate ./Test             counts the pictures and times some of them
    fruits estimate --count 1000000    the same for so many; a drawn sample is timed
    """
    session: Session | None = None
    try:
        session = open_session(config, screen)
    except ConfigError as error:
        screen.detail(f"AWS is not asked: {error}")
    found = _found(config, screen, session, images=images, count=count, sample=sample)
    measured = _measured(config.job, found, screen, os.environ)
    report = _compared(config, found, measured, session)
    return Outcome(report_lines(report), report_facts(report))


# So many pictures are timed; small ones again and again, until there were enough of them.
_SAMPLE, _ENOUGH, _SMALL_BYTES = 200, 600, 200_000
# Where no region is configured, the prices are those of this one.
_REGION = "eu-west-3"
# With a smaller share of the cores, other programs disturbed the measurement.
_UNDISTURBED = 0.85
_IF_ABSENT = "random ones are timed, which are as fast"
_DRAWN = "the drawn sample"


@dataclass(frozen=True)
class Found:
    """The job's pictures, and those of this machine that are timed in their place."""

    work: Work
    source: str
    sample: str
    files: tuple[str, ...]
    mean_bytes: float
    folder: str

    @property
    def stands_for_others(self) -> bool:
        """True if the timed pictures may differ from those of the job."""
        return self.sample == _DRAWN and self.source != _DRAWN


def _found(
    config: Config,
    screen: Screen,
    session: Session | None,
    *,
    images: str | None,
    count: int | None,
    sample: bool,
) -> Found:
    if sample and images is not None:
        raise UsageError("Give IMAGES or --sample.")
    if (folder := local_images(images)) is not None:
        return _of_folder(config, folder, count, name=str(folder))
    if images is None and (sample or count is not None):
        return _of_folder(config, sample_folder(os.environ), count, name=_DRAWN)
    if images is None and config.storage.dataset is None:
        raise UsageError(
            "There are no pictures to estimate for.",
            hint="Give IMAGES (a folder), --count NUMBER or --sample.",
        )
    if count is not None:
        raise UsageError("--count goes with a folder on this machine, or alone.")
    # Without a session, this raises the reason.
    return _on_s3(config, images, (session or open_session(config, screen)).cloud.storage)


def _of_folder(config: Config, folder: Path, count: int | None, *, name: str) -> Found:
    if name == _DRAWN:
        ensure_sample(folder)
    pictures = size = 0

    def counted() -> Iterator[str]:
        nonlocal pictures, size
        for picture in list_pictures(folder, config.job.extensions):
            pictures, size = pictures + 1, size + picture.length
            yield picture.file

    files = spread(counted(), _SAMPLE)
    if not files:
        raise no_picture(folder, config.job.extensions)
    mean_bytes, source = size / pictures, name
    if count is not None:
        pictures, source = count, f"as given, of {mean_bytes:,.0f} bytes each"
    work = Work(pictures, mean_bytes * pictures, config.job.keep_features)
    return Found(work, source, name, files, mean_bytes, str(folder))


def _on_s3(config: Config, images: str | None, storage: Storage) -> Found:
    """A dataset on S3; the drawn sample is timed in its place."""
    uri = find_images(images, places_of(config), storage, config.storage.dataset)
    stored = storage.fetch_bytes(uri / DATASET_FILE)
    if stored is None:
        raise UsageError(f"There is no dataset {uri}.", hint="Give --count NUMBER instead.")
    manifest = parse_manifest(stored.content, origin=f"{uri}{DATASET_FILE}")
    drawn = _of_folder(config, sample_folder(os.environ), None, name=_DRAWN)
    work = Work(manifest.pictures, 0, config.job.keep_features)
    return Found(work, str(uri), _DRAWN, drawn.files, drawn.mean_bytes, drawn.folder)


def spread(items: Iterable[str], most: int) -> tuple[str, ...]:
    """At most so many of the items, evenly spread; never holds more than twice as many."""
    kept: list[str] = []
    stride = 1
    for number, item in enumerate(items):
        if number % stride == 0:
            kept.append(item)
        if len(kept) == 2 * most:
            kept, stride = kept[::2], 2 * stride
    if len(kept) <= most:
        return tuple(kept)
    return tuple(kept[len(kept) * number // most] for number in range(most))


def _measured(job: JobConfig, found: Found, screen: Screen, environ: Mapping[str, str]) -> Measured:
    artefacts, left_out = _artefacts(job, found, screen, environ)
    cores = usable_cores()
    small = found.mean_bytes < _SMALL_BYTES
    rounds = max(1, _ENOUGH // len(found.files)) if small else 1
    timed: dict[Precision, Timed] = {}
    for precision, artefact in artefacts.items():
        screen.tell(f"Timing {len(found.files)} pictures in {precision} on {cores} cores.")
        command = embedding_command(artefact, job.engine, precision)
        timed[precision] = time_sample(found.files * rounds, command, environ, processes=cores)
        if timed[precision].rejected == timed[precision].pictures:
            raise UsageError(
                f"None of the {len(found.files)} pictures that were tried could be used.",
                hint="fruits run gives the reason for each picture.",
            )
    return Measured(
        timed=timed,
        sample=found.sample,
        pictures=len(found.files),
        rounds=rounds,
        cores=cores,
        engine=job.engine.value,
        image_size=job.image_size,
        weights=artefacts[Precision.F32].weights,
        left_out=left_out,
    )


def _artefacts(
    job: JobConfig, found: Found, screen: Screen, environ: Mapping[str, str]
) -> tuple[dict[Precision, ModelArtefact], tuple[str, ...]]:
    """The model by precision: f32, bf16 where this CPU has it, int8 where the pictures allow it;
    and why one is left out.
    """
    wanted = job.precision
    f32, job = obtain_model(
        job.model_copy(update={"precision": Precision.F32}), screen, environ, if_absent=_IF_ABSENT
    )
    artefacts = {Precision.F32: f32}
    if job.engine is not Engine.OPENVINO:
        return artefacts, ()
    # The artefact was tried in it when it was made.
    if f32.facts.get("parity", {}).get("bf16_min_cosine") is not None:
        artefacts[Precision.BF16] = f32
    # The drawn pictures do not show whether int8 suits others.
    if found.sample == _DRAWN and wanted not in (Precision.INT8, Precision.AUTO):
        return artefacts, ()
    try:
        job = job.model_copy(update={"precision": Precision.INT8})
        artefacts[Precision.INT8], _ = obtain_model(job, screen, environ, pictures=found.folder)
    except FruitsError as error:
        return artefacts, (f"int8 is left out: {error}",)
    return artefacts, ()


def _compared(config: Config, found: Found, measured: Measured, session: Session | None) -> Report:
    asked = candidates(
        config.cluster,
        engine=config.job.engine,
        precision=config.job.precision,
        has_int8=Precision.INT8 in measured.timed,
    )
    types = tuple(instance_types(asked))
    prices = (
        session.cloud.account.prices(types)
        if session
        else table_prices(types, config.aws.region or _REGION)
    )
    shapes, notes = _shapes(config, asked, measured, _machines(types, session))
    here = [
        Shape(HERE, precision, measured.cores, speed)
        for precision, speed in measured.core_speeds.items()
    ]
    estimates: list[Estimate] = [estimated(shape, found.work, prices) for shape in (*here, *shapes)]
    own, clusters = estimates[: len(here)], estimates[len(here) :]
    return Report(
        source=found.source,
        work=found.work,
        measured=measured,
        here=tuple(own),
        clusters=tuple(clusters),
        break_even=break_even(fastest(own).shape, shapes, found.work),
        price_source=f"prices: {prices.source}",
        notes=(*measured.left_out, *_doubts(found, measured), *notes, *_too_long(config, clusters)),
    )


def _doubts(found: Found, measured: Measured) -> Iterator[str]:
    """Reasons to trust the measurement less."""
    if found.stands_for_others:
        yield f"{_DRAWN} was timed, of 100 x 100 pixels: larger pictures take longer to decode."
    at_work = min(timed.at_work for timed in measured.timed.values())
    if at_work < _UNDISTURBED:
        yield (
            f"the sample had the cores only {at_work:.0%} of the time (other programs, or the "
            "disk): the best case assumes an idle machine."
        )


def _too_long(config: Config, clusters: Sequence[Estimate]) -> Iterator[str]:
    most_min = lifetime_min(config.cluster, transient=True)
    slow = [cluster.shape.name for cluster in clusters if cluster.on_cluster.high > most_min * 60]
    if slow:
        yield (
            f"the cluster of fruits run ends after {most_min} minutes, which may be too early for "
            f"{', '.join(map(repr, slow))}: give --max-lifetime-min, or continue with --resume."
        )


def _machines(types: Sequence[str], session: Session | None) -> Mapping[str, Machine]:
    unknown = [kind for kind in types if kind not in MACHINES]
    if not unknown or session is None:
        return MACHINES
    try:
        return {**MACHINES, **session.cloud.account.machines(unknown)}
    except CloudError:
        return MACHINES


def _shapes(
    config: Config, asked: Sequence[Candidate], measured: Measured, machines: Mapping[str, Machine]
) -> tuple[list[Shape], list[str]]:
    shapes, notes = [], []
    for candidate in asked:
        try:
            shape = cluster_shape(candidate, machines, measured.speeds, config.job.engine)
        except UsageError as error:
            notes.append(f"{candidate.name!r} is left out: {error}")
            continue
        if shape.precision is not candidate.precision:
            notes.append(f"{candidate.name!r} has no bf16 instructions: it would compute in f32.")
        shapes.append(shape)
    return shapes, notes
