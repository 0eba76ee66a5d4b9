"""Where a run looks for features that earlier runs have computed."""

from __future__ import annotations

from pathlib import Path

from fruits_cli.cloud.layout import Places
from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.job.arguments import Reuse
from fruits_cli.ledger import Ledger, RunPhase, RunRecord, find_run


def reuse_here(wanted: str, output: Path, ledger: Ledger) -> Reuse:
    """The runs beside `output` and beside those of the ledger, or the named one, or none.

    The results of a run on EMR count once they are fetched. Raises UsageError for a run that is
    not on this machine.
    """
    if wanted == "none":
        return Reuse()
    if wanted != "auto":
        record = ledger.find(wanted)
        if not (folder := _folder_here(record)):
            raise UsageError(
                f"The results of run {record.run_id} are on S3, not on this machine.",
                hint=f"Fetch them first: fruits fetch-results {record.run_id}",
            )
        return Reuse(run=folder)
    # A run that was fetched is done, even if it ended without this machine.
    done = (one for one in ledger.records() if one.phase is RunPhase.DONE or one.folder)
    beside = {str(Path(folder).parent) for one in done if (folder := _folder_here(one))}
    return Reuse(below=tuple(sorted(beside | {str(output.parent)})))


def _folder_here(record: RunRecord) -> str:
    """Where the run's results are on this machine, empty where they are not."""
    return record.output if record.target is Target.LOCAL else record.folder


def reuse_on_s3(wanted: str, places: Places, ledger: Ledger) -> Reuse:
    """The runs below the prefix, or the named one, or none. Raises UsageError."""
    if wanted == "none":
        return Reuse()
    if wanted != "auto":
        return Reuse(run=str(find_run(wanted, ledger, places.runs)[0]))
    return Reuse(below=(str(places.runs),))
