"""The arguments of the job's main.py; pure."""

from __future__ import annotations

from dataclasses import dataclass

from fruits_cli.config import JobConfig
from fruits_cli.s3uri import S3Uri


@dataclass(frozen=True)
class Job:
    """What a step runs: the uploaded code, and what it reads and writes."""

    main: S3Uri
    package: S3Uri
    places: JobPlaces
    resume: bool = False


@dataclass(frozen=True)
class Reuse:
    """Folders of earlier runs whose features may be copied, or one run whose have to be."""

    below: tuple[str, ...] = ()
    run: str = ""


NO_REUSE = Reuse()


@dataclass(frozen=True)
class JobPlaces:
    """What one run of the job reads and writes; local paths or s3 addresses, as text."""

    images: str
    output: str
    model: str
    identity: JobIdentity | None = None
    reuse: Reuse = NO_REUSE


@dataclass(frozen=True)
class JobIdentity:
    """Digests that a run on a cluster is bound to; the job refuses anything else.

    dataset: of its manifest, empty for raw pictures.
    """

    dataset: str
    model: str
    code: str
    python: str


def job_args(
    job: JobConfig,
    places: JobPlaces,
    *,
    run_id: str,
    resume: bool = False,
    deadline_min: int | None = None,
    slots: int | None = None,
    attempt: str = "",
) -> list[str]:
    """The arguments of main.py, the same on a laptop and on a cluster."""
    args = ["--images", places.images, "--output", places.output, "--model", places.model]
    args += ["--run-id", run_id, "--engine", job.engine.value, "--precision", job.precision.value]
    if job.pca_variance is not None:
        args += ["--pca-variance", str(job.pca_variance)]
    elif job.pca_k is not None:
        args += ["--pca-k", str(job.pca_k)]
    if job.max_rejected is not None:
        args += ["--max-rejected", str(job.max_rejected)]
    args += ["--extensions", ",".join(job.extensions)]
    flags = {
        "--standardize": job.standardize,
        "--no-keep-features": not job.keep_features,
        "--resume": resume,
    }
    args += [flag for flag, wanted in flags.items() if wanted]
    numbers = {"--deadline-min": deadline_min, "--slots": slots}
    args += [word for flag, value in numbers.items() if value for word in (flag, str(value))]
    args += [word for place in places.reuse.below for word in ("--reuse-below", place)]
    if places.reuse.run:
        args += ["--reuse-run", places.reuse.run]
    if attempt:
        args += ["--attempt", attempt]
    if identity := places.identity:
        digests = {
            "--dataset-digest": identity.dataset,
            "--model-fingerprint": identity.model,
            "--code-digest": identity.code,
            "--python-digest": identity.python,
        }
        args += [word for flag, digest in digests.items() if digest for word in (flag, digest)]
    return args
