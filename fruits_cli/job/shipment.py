"""Sends the job's code and model to the bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import Storage
from fruits_cli.cloud.transfer import Sending, send_all
from fruits_cli.files import scratch_folder
from fruits_cli.job.arguments import NO_REUSE, Job, JobIdentity, JobPlaces, Reuse
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.model import ModelArtefact
from fruits_cli.s3uri import S3Uri


def sending_of(file: Path, uri: S3Uri) -> Sending:
    content = file.read_bytes()
    return Sending(file, uri, len(content), 0, hashlib.sha256(content).digest())


def send_new(sendings: Iterable[Sending], storage: Storage) -> int:
    """Send what is not there yet, digests verified; the number of files sent."""
    new = [sending for sending in sendings if storage.stored_sha256(sending.uri) != sending.sha256]
    return sum(1 for _ in send_all(storage, new))


def shipped_job(
    places: Places,
    artefact: ModelArtefact,
    storage: Storage,
    *,
    images: S3Uri,
    run_id: str,
    dataset: str = "",
    python: str = "",
    reuse: Reuse = NO_REUSE,
    resume: bool = False,
) -> Job:
    """Send this version's code and model to the bucket; the job that runs them.

    The digest in a key is the version: what is there already is not sent again.
    """
    with scratch_folder("fruits-code-") as scratch:
        made = job_bundle(scratch)
        code, model = places.code(made.digest), places.model(artefact.fingerprint)
        files = [(made.main, code / made.main.name), (made.zip, code / made.zip.name)]
        files += [(file, model / file.name) for file in sorted(artefact.folder.iterdir())]
        send_new([sending_of(file, uri) for file, uri in files if file.is_file()], storage)
    identity = JobIdentity(dataset, artefact.fingerprint, made.digest, python)
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model), identity, reuse)
    return Job(code / made.main.name, code / made.zip.name, job_places, resume=resume)


def planned_job(places: Places, *, images: S3Uri, run_id: str, resume: bool = False) -> Job:
    """The job as a dry run shows it: code and model are made when it is carried out."""
    code, model = places.code("<digest>"), places.model("<fingerprint>")
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model))
    return Job(code / "main.py", code / "spark_job.zip", job_places, resume=resume)
