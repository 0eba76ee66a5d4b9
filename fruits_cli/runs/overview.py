"""The runs of this folder and of the bucket: what each was, took and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.cloud.protocols import Storage
from fruits_cli.config import Target
from fruits_cli.errors import FruitsError, UsageError
from fruits_cli.job.results import load_manifest
from fruits_cli.ledger import Ledger, RunRecord
from fruits_cli.runs.results import fetch_manifest
from fruits_cli.s3uri import S3Uri, is_s3_uri, parse_s3_uri


@dataclass(frozen=True)
class Run:
    """One run: its record, where this folder has one, and its manifest, where it is finished."""

    record: RunRecord
    manifest: Mapping[str, Any] | None = None
    is_recorded: bool = True

    @property
    def state(self) -> str:
        """done where there are results, else the phase that the ledger knows, else unfinished."""
        if self.manifest is not None:
            return "done"
        return self.record.phase.value if self.is_recorded else "unfinished"


def known_runs(ledger: Ledger, below: S3Uri | None, storage: Storage | None) -> list[Run]:
    """All runs, the newest first: those of the ledger, and those in the bucket `below`.

    One request for each run of the bucket. Raises CloudError.
    """
    records = {record.run_id: (record, True) for record in ledger.records() if record.output}
    if below and storage:
        for folder in storage.list_folders(below):
            run_id = folder.key.rstrip("/").rpartition("/")[2]
            found = RunRecord(run_id, Target.EMR, output=str(folder))
            records.setdefault(run_id, (found, False))
    newest = sorted(records.values(), key=lambda known: known[0].run_id, reverse=True)
    return [Run(record, _manifest(record, storage), is_recorded) for record, is_recorded in newest]


def find_known_run(
    wanted: str, ledger: Ledger, below: S3Uri | None, storage: Storage | None
) -> Run:
    """The run of that id, a prefix of one, or `last`. Raises UsageError for none or several."""
    with suppress(UsageError):
        record = ledger.find(wanted)
        return Run(record, _manifest(record, storage))
    runs = [
        run for run in known_runs(ledger, below, storage) if run.record.run_id.startswith(wanted)
    ]
    if len(runs) != 1:
        raise UsageError(
            f"{'No run begins' if not runs else 'Several runs begin'} with {wanted!r}.",
            hint="fruits runs lists them.",
        )
    return runs[0]


def _manifest(record: RunRecord, storage: Storage | None) -> Mapping[str, Any] | None:
    """The manifest, from this machine where it was fetched; None where the run is not finished."""
    folder = record.folder or record.output
    with suppress(FruitsError):
        if not is_s3_uri(folder):
            return load_manifest(Path(folder))
        if storage:
            return fetch_manifest(storage, parse_s3_uri(folder))
    return None


HEADS = (
    "run",
    "where",
    "state",
    "pictures",
    "reused",
    "settings",
    "k",
    "variance",
    "minutes",
    "about $",
)


def run_rows(runs: Iterable[Run]) -> list[tuple[object, ...]]:
    """The cells of a table with `HEADS`."""
    return [tuple("" if cell is None else cell for cell in _cells(run_facts(run))) for run in runs]


def _cells(facts: Mapping[str, Any]) -> Iterable[object]:
    settings = " ".join(str(facts[key]) for key in ("engine", "precision") if facts[key])
    settings += f" {facts['image_size']} px" if facts["image_size"] else ""
    share, cost = facts["cumulative_variance"], facts["cost_usd"]
    minutes = facts["minutes"]
    return (
        facts["run_id"],
        facts["target"],
        facts["state"],
        facts["pictures"],
        facts["reused"],
        settings,
        facts["pca_k"],
        None if share is None else f"{share:.1%}",
        None if minutes is None else f"{minutes:.1f}",
        None if cost is None else f"{cost:.2f}",
    )


def run_facts(run: Run) -> dict[str, Any]:
    """One run for --output json; what is not known is null."""
    manifest = run.manifest or {}
    counts, seconds = manifest.get("counts", {}), manifest.get("seconds")
    keys = ("engine", "precision", "image_size", "weights", "pca_k", "cumulative_variance")
    return {
        "run_id": run.record.run_id,
        "target": run.record.target.value,
        "state": run.state,
        "created_at": run.record.created_at or None,
        "images": run.record.images or manifest.get("settings", {}).get("images"),
        "output": run.record.output,
        "folder": run.record.folder or None,
        "pictures": counts.get("pictures"),
        "rejected": counts.get("rejected"),
        "reused": counts.get("reused"),
        "reused_from": manifest.get("reused_from", []),
        **{key: manifest.get(key) for key in keys},
        "minutes": round(sum(seconds.values()) / 60, 2) if seconds else None,
        "cost_usd": run.record.cost_usd,
    }
