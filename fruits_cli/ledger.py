"""`.fruits/runs/<run_id>.json`: what this folder started, written around each paid request."""

from __future__ import annotations

import json
import os
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from fruits_cli.config import Target
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.files import parse_json, read_document, write_private
from fruits_cli.s3uri import S3Uri, is_s3_uri, parse_s3_uri

_RUN_ID = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4}")


def new_run_id(now: datetime | None = None) -> str:
    """A sortable id such as 20260823-141502-k3f9: UTC time and four random characters."""
    alphabet = string.ascii_lowercase + string.digits
    suffix = "".join(secrets.choice(alphabet) for _ in range(4))
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{suffix}"


def is_run_id(text: str) -> bool:
    """Whether `text` has the form of a whole run id."""
    return _RUN_ID.fullmatch(text) is not None


class RunPhase(StrEnum):
    """How far a run, or the launch of a cluster, has come."""

    # Written before AWS is asked: what a crash leaves then can still be found by its launch id.
    PLANNED = "planned"
    LAUNCHED = "launched"
    SUBMITTED = "submitted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RunPhase.DONE, RunPhase.FAILED, RunPhase.CANCELLED)


@dataclass(frozen=True)
class RunRecord:
    """One record of the ledger: what was planned, and how far it got; times are ISO 8601 in UTC.

    A cluster made by create-cluster is a record without `images`. `extra` holds the fields that a
    newer fruits wrote, so that an older one does not lose them.
    """

    run_id: str
    target: Target
    phase: RunPhase = RunPhase.PLANNED
    created_at: str = ""
    updated_at: str = ""
    images: str = ""
    output: str = ""
    folder: str = ""
    region: str = ""
    cluster_name: str = ""
    launch_id: str = ""
    cluster_id: str = ""
    step_id: str = ""
    cluster_ended: bool = False
    # The cluster's bill, once it has ended and AWS told prices.
    cost_usd: float | None = None
    cluster_seconds: float | None = None
    cluster_shape: str = ""
    # --keep-cluster: the cluster outlives the run.
    is_kept: bool = False
    # Of its cluster, or of a job that joined one; 0 where it is not known.
    lifetime_min: int = 0
    # Of the dataset that the run is bound to.
    dataset_digest: str = ""
    job: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def records_of(cluster_id: str, ledger: Ledger) -> Sequence[RunRecord]:
    """What this folder's ledger knows of a cluster, the newest first."""
    return [record for record in ledger.records() if record.cluster_id == cluster_id]


def find_run(wanted: str, ledger: Ledger, runs: S3Uri | None) -> tuple[S3Uri, RunRecord | None]:
    """Where a run lies on S3: by run id, prefix of one, `last`, or s3 address.

    A whole id that this folder does not know is looked for below `runs`. Raises UsageError.
    """
    if is_s3_uri(wanted):
        uri = parse_s3_uri(wanted)
        return S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/"), None
    if is_run_id(wanted) and runs and ledger.load(wanted) is None:
        return runs / f"{wanted}/", None
    record = ledger.find(wanted)
    if not is_s3_uri(record.output):
        raise UsageError(
            f"Run {record.run_id} ran on this machine: its results are in {record.output}."
        )
    return parse_s3_uri(record.output), record


FOLDER = ".fruits"
_LAST = "last"
_TEXTS = tuple(field.name for field in fields(RunRecord) if field.type == "str")
_FIELDS = frozenset(field.name for field in fields(RunRecord)) - {"extra"}


@dataclass(frozen=True)
class Ledger:
    """The records of one working folder."""

    folder: Path

    def write(self, record: RunRecord, *, now: datetime | None = None) -> RunRecord:
        """Store the record with its times; the file appears whole or not at all, mode 0600.

        The end of its cluster stays where another command wrote it meanwhile. Raises MachineError
        where the folder cannot be written.
        """
        record = _with_known_end(record, self.load(record.run_id))
        moment = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        stamped = replace(record, created_at=record.created_at or moment, updated_at=moment)
        values = asdict(stamped)
        document = json.dumps({**values.pop("extra"), **values}, indent=2, sort_keys=True)
        try:
            write_private(self.folder / f"{record.run_id}.json", f"{document}\n")
        except OSError as error:
            raise MachineError(
                f"The ledger {self.folder} cannot be written: {error.strerror}.",
                hint="Nothing was started that it does not name; free the folder and try again.",
            ) from error
        return stamped

    def update(self, record: RunRecord, **changes: Any) -> RunRecord:
        """Change the record as it is by now: another command may have written it since."""
        return self.write(replace(self.load(record.run_id) or record, **changes))

    def load(self, run_id: str) -> RunRecord | None:
        """The record of exactly that id, None where there is none or it cannot be read."""
        return _parsed(self.folder / f"{run_id}.json")

    def records(self) -> list[RunRecord]:
        """All readable records, the newest first."""
        files = sorted(self.folder.glob("*.json"), reverse=True)
        return [record for file in files if (record := _parsed(file))]

    def find(self, wanted: str) -> RunRecord:
        """The record of a run id, a unique prefix of one, or `last`.

        Raises UsageError with the ids to choose from.
        """
        records = [record for record in self.records() if record.output]
        if wanted == _LAST and records:
            return records[0]
        found = [record for record in records if record.run_id.startswith(wanted)]
        exact = [record for record in found if record.run_id == wanted]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if not records:
            raise UsageError(f"This folder knows no run ({self.folder} is empty).")
        known = ", ".join(record.run_id for record in (found or records)[:10])
        kind = "more than one run" if found else "no run"
        raise UsageError(f"{wanted!r} is {kind} of this folder.", hint=f"Its runs: {known}")


def ledger_here(folder: Path | None = None) -> Ledger:
    """The ledger of a working folder, the current one unless given."""
    return Ledger((folder or Path.cwd()) / FOLDER / "runs")


_END = ("cluster_ended", "cost_usd", "cluster_seconds", "cluster_shape")


def _with_known_end(record: RunRecord, known: RunRecord | None) -> RunRecord:
    """The record with the end of its cluster, where that is known: no cluster comes back."""
    if not (known and known.cluster_ended) or record.cluster_ended:
        return record
    if known.cluster_id != record.cluster_id:
        return record
    return replace(record, **{name: getattr(known, name) for name in _END})


def _parsed(file: Path) -> RunRecord | None:
    try:
        return _record(parse_json(read_document(file)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A half-written or foreign file must not hide the other records.
        return None


def _record(values: Mapping[str, Any]) -> RunRecord:
    """The record of these values. Raises ValueError, KeyError or TypeError where they are none."""
    for name in _TEXTS:
        # Most are places, which can neither have a NUL nor a lone surrogate.
        if b"\0" in os.fsencode(values.get(name, "")):
            raise ValueError(name)
    if not isinstance(values.get("job", {}), dict):
        raise TypeError("job")
    for name in ("cost_usd", "cluster_seconds", "lifetime_min"):
        if not isinstance(values.get(name), int | float | None):
            raise TypeError(name)
    known = {name: value for name, value in values.items() if name in _FIELDS}
    known["target"] = Target(known["target"])
    known["phase"] = RunPhase(known["phase"])
    extra = {name: value for name, value in values.items() if name not in _FIELDS}
    return RunRecord(**known, extra=extra)
