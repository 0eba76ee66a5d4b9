"""What a step needs in the bucket before it can start: code, model, pictures."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fruits_cli import bundle
from fruits_cli.argv import JobPlaces
from fruits_cli.bundle import ModelArtefact
from fruits_cli.cloud import Storage
from fruits_cli.errors import UsageError
from fruits_cli.models import S3Uri, is_s3_uri, parse_s3_uri
from fruits_cli.nodes import LOCK_FILE, Lock, NodePython, script_place
from fruits_cli.notebook import cluster_notebook
from fruits_cli.pack_manifest import DATASET_FILE
from fruits_cli.places import Places
from fruits_cli.plan import Job
from fruits_cli.session import Session
from fruits_cli.transfer import Sending, send_all
from fruits_cli.upload import dataset_name


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
    resume: bool = False,
) -> Shipment:
    """Code and model of this version, ready to be sent; the code is packed into `scratch`."""
    made = bundle.job_bundle(scratch)
    code, model = places.code(made.digest), places.model(artefact.fingerprint)
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model))
    job = Job(code / made.main.name, code / made.zip.name, job_places, resume=resume)
    files = [(made.main, job.main), (made.zip, job.package)]
    files += [(file, model / file.name) for file in sorted(artefact.folder.iterdir())]
    return Shipment(job, tuple(_sending(file, uri) for file, uri in files if file.is_file()))


def _sending(file: Path, uri: S3Uri) -> Sending:
    content = file.read_bytes()
    return Sending(file, uri, len(content), 0, hashlib.sha256(content).digest())


def ship(shipment: Shipment, storage: Storage) -> int:
    """Send what is not there yet, digests verified; the number of files sent."""
    return _send_new(shipment.sendings, storage)


def _send_new(sendings: Iterable[Sending], storage: Storage) -> int:
    new = [one for one in sendings if storage.stored_sha256(one.uri) != one.sha256]
    return sum(1 for _ in send_all(storage, new))


def ship_notebook(places: Places, storage: Storage) -> S3Uri:
    """The notebook that reads this bucket's runs, where JupyterHub finds it, and its code.

    One that is there already stays as it is. Raises CloudError.
    """
    template = (bundle.templates_dir() / "notebook.ipynb").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="fruits-code-") as scratch:
        made = bundle.job_bundle(Path(scratch))
        code = places.code(made.digest) / made.zip.name
        _send_new([_sending(made.zip, code)], storage)
    notebook = cluster_notebook(template, runs=places.runs, code=code)
    storage.put_if_absent(notebook.content, notebook.uri)
    return notebook.uri


def ship_python(python: NodePython, places: Places, session: Session) -> None:
    """What the nodes' bootstrap action needs: its script, the locks, and the wheels.

    Raises MachineError where the wheels cannot be had, CloudError.
    """
    storage = session.cloud.storage
    _put_new(python.script, script_place(python, places), storage)
    for lock in python.locks:
        _put_new(lock.text, places.wheels(lock.digest) / LOCK_FILE, storage)
    if session.fetch_wheels is None:
        session.screen.tell(
            "The nodes' wheels are not sent: this S3 is on this machine, and no node reads it."
        )
        return
    sent = sum(_ship_wheels(lock, places, session) for lock in python.locks)
    session.screen.tell(f"The nodes' Python {python.digest}: {sent} wheels sent.")


def _ship_wheels(lock: Lock, places: Places, session: Session) -> int:
    assert session.fetch_wheels is not None
    session.screen.detail("Fetching the nodes' wheels, or finding them in the cache.")
    folder = places.wheels(lock.digest)
    sendings = [
        Sending(
            wheel.file,
            folder / wheel.file.name,
            wheel.file.stat().st_size,
            0,
            bytes.fromhex(wheel.sha256),
        )
        for wheel in session.fetch_wheels(lock, environ=session.environ)
    ]
    return _send_new(sendings, session.cloud.storage)


def _put_new(text: str, uri: S3Uri, storage: Storage) -> None:
    content = text.encode()
    digest = hashlib.sha256(content).digest()
    if storage.stored_sha256(uri) != digest:
        storage.put_bytes(content, uri, sha256=digest)


def shipped_job(
    places: Places,
    artefact: ModelArtefact,
    storage: Storage,
    *,
    images: S3Uri,
    run_id: str,
    resume: bool = False,
) -> Job:
    """The job with code and model in the bucket."""
    with tempfile.TemporaryDirectory(prefix="fruits-code-") as scratch:
        shipment = load_shipment(
            places, artefact, Path(scratch), images=images, run_id=run_id, resume=resume
        )
        ship(shipment, storage)
    return shipment.job


def planned_job(places: Places, *, images: S3Uri, run_id: str, resume: bool = False) -> Job:
    """The job as a dry run shows it: code and model are made when it is carried out."""
    code, model = places.code("<digest>"), places.model("<fingerprint>")
    job_places = JobPlaces(str(images), str(places.run(run_id)), str(model))
    return Job(code / "main.py", code / "spark_job.zip", job_places, resume=resume)


def find_images(wanted: str | None, places: Places, storage: Storage, dataset: str | None) -> S3Uri:
    """The pictures on S3 that are meant: an address, the configured dataset, else the newest.

    Raises UsageError where there is none.
    """
    if wanted is not None:
        if is_s3_uri(wanted):
            uri = parse_s3_uri(wanted)
            return S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/")
        dataset = wanted
    if dataset is not None:
        uri = places.dataset(dataset_name(Path(dataset), dataset))
        if storage.fetch_bytes(uri / DATASET_FILE) is None:
            raise UsageError(f"There is no dataset {uri}.", hint=_known(places, storage))
        return uri
    newest = _newest(storage, storage.list_folders(places.datasets))
    if newest is None:
        raise UsageError(
            f"There is no dataset below {places.datasets}.", hint="fruits upload IMAGES makes one."
        )
    return newest


def _newest(storage: Storage, folders: Iterable[S3Uri]) -> S3Uri | None:
    found = [
        (manifest.modified_at, folder.key, folder)
        for folder in folders
        if (manifest := storage.fetch_bytes(folder / DATASET_FILE))
    ]
    return max(found)[2] if found else None


def _known(places: Places, storage: Storage) -> str:
    folders = storage.list_folders(places.datasets)
    names = [uri.key.rstrip("/").rpartition("/")[2] for uri in folders]
    return f"Datasets: {', '.join(names)}" if names else "fruits upload IMAGES makes one."


def local_images(wanted: str | None) -> Path | None:
    """The folder that IMAGES names; None for an s3 address or none at all. Raises UsageError."""
    if wanted is None or is_s3_uri(wanted):
        return None
    folder = Path(wanted)
    with suppress(OSError):
        if folder.is_dir():
            return folder
    problem = "is not a folder" if folder.exists() else "does not exist"
    raise UsageError(f"The images folder {wanted} {problem}.")
