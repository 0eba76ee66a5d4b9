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
        code = places.code(made.digest)
        files = [file for file in sorted(artefact.folder.iterdir()) if file.is_file()]
        model = places.model(artefact.fingerprint) / f"{_digest_of(files)}/"
        addresses = {file: code / file.name for file in (made.main, made.zip)}
        addresses |= {file: model / file.name for file in files}
        send_new([sending_of(file, uri) for file, uri in addresses.items()], storage)
    identity = JobIdentity(dataset, artefact.fingerprint, made.digest, python)
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model), identity, reuse)
    return Job(code / made.main.name, code / made.zip.name, job_places, resume=resume)


def _digest_of(files: Iterable[Path]) -> str:
    """Of what a model's files hold: another machine makes others of the same weights, and must not
    replace those that a run is reading."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def planned_job(places: Places, *, images: S3Uri, run_id: str, resume: bool = False) -> Job:
    """The job as a dry run shows it: code and model are made when it is carried out."""
    code, model = places.code("<digest>"), places.model("<fingerprint>") / "<digest>/"
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model))
    return Job(code / "main.py", code / "spark_job.zip", job_places, resume=resume)
