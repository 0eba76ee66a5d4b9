"""What a step needs in the bucket before it can start: code, model, pictures."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import Storage
from fruits_cli.cloud.transfer import Sending, send_all
from fruits_cli.job.arguments import NO_REUSE, Job, JobIdentity, JobPlaces, Reuse
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.model import ModelArtefact
from fruits_cli.s3uri import S3Uri


@dataclass(frozen=True)
class Shipment:
    """Files of this machine and where in the bucket they go; the digest in a key is the version."""

    job: Job
    sendings: tuple[Sending, ...]


def load_shipment(
    places: Places,
    artefact: ModelArtefact,
    scratch: Path,
    *,
    images: S3Uri,
    run_id: str,
    dataset: str = "",
    python: str = "",
    reuse: Reuse = NO_REUSE,
    resume: bool = False,
) -> Shipment:
    """Code and model of this version, ready to be sent; the code is packed into `scratch`."""
    made = job_bundle(scratch)
    code, model = places.code(made.digest), places.model(artefact.fingerprint)
    identity = JobIdentity(dataset, artefact.fingerprint, made.digest, python)
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model), identity, reuse)
    job = Job(code / made.main.name, code / made.zip.name, job_places, resume=resume)
    files = [(made.main, job.main), (made.zip, job.package)]
    files += [(file, model / file.name) for file in sorted(artefact.folder.iterdir())]
    return Shipment(job, tuple(sending_of(file, uri) for file, uri in files if file.is_file()))


def sending_of(file: Path, uri: S3Uri) -> Sending:
    content = file.read_bytes()
    return Sending(file, uri, len(content), 0, hashlib.sha256(content).digest())


def ship(shipment: Shipment, storage: Storage) -> int:
    """Send what is not there yet, digests verified; the number of files sent."""
    return send_new(shipment.sendings, storage)


def send_new(sendings: Iterable[Sending], storage: Storage) -> int:
    new = [one for one in sendings if storage.stored_sha256(one.uri) != one.sha256]
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
    """The job with code and model in the bucket."""
    with tempfile.TemporaryDirectory(prefix="fruits-code-") as scratch:
        shipment = load_shipment(
            places,
            artefact,
            Path(scratch),
            images=images,
            run_id=run_id,
            dataset=dataset,
            python=python,
            reuse=reuse,
            resume=resume,
        )
        ship(shipment, storage)
    return shipment.job


def planned_job(places: Places, *, images: S3Uri, run_id: str, resume: bool = False) -> Job:
    """The job as a dry run shows it: code and model are made when it is carried out."""
    code, model = places.code("<digest>"), places.model("<fingerprint>")
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model))
    return Job(code / "main.py", code / "spark_job.zip", job_places, resume=resume)
