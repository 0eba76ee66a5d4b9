"""`.fruits/runs/<run_id>.json`: what this folder started, written around each paid act."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fruits_cli.disk import write_private
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.models import RunPhase, RunRecord, Target

FOLDER = ".fruits"
_LAST = "last"
_FIELDS = frozenset(field.name for field in fields(RunRecord)) - {"extra"}


@dataclass(frozen=True)
class Ledger:
    """The records of one working folder."""

    folder: Path

    def write(self, record: RunRecord, *, now: datetime | None = None) -> RunRecord:
        """Store the record with its times; the file appears whole or not at all, mode 0600.

        Raises MachineError where the folder cannot be written.
        """
        moment = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        stamped = replace(record, created_at=record.created_at or moment, updated_at=moment)
        document = json.dumps(_as_document(stamped), indent=2, sort_keys=True)
        try:
            write_private(self.folder / f"{record.run_id}.json", f"{document}\n")
        except OSError as error:
            raise MachineError(
                f"The ledger {self.folder} cannot be written: {error.strerror}.",
                hint="Nothing was started that it does not name; free the folder and try again.",
            ) from error
        return stamped

    def load(self, run_id: str) -> RunRecord | None:
        """The record of that very id, None where there is none or it cannot be read."""
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


def _as_document(record: RunRecord) -> dict[str, Any]:
    values = asdict(record)
    extra = values.pop("extra")
    return {**extra, **values}


def _parsed(file: Path) -> RunRecord | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return _record(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A half-written or foreign file must not hide the other records.
        return None


def _record(values: Mapping[str, Any]) -> RunRecord:
    known = {name: value for name, value in values.items() if name in _FIELDS}
    known["target"] = Target(known["target"])
    known["phase"] = RunPhase(known["phase"])
    extra = {name: value for name, value in values.items() if name not in _FIELDS}
    return RunRecord(**known, extra=extra)
