"""Where a run looks for features that earlier runs have computed."""

from __future__ import annotations

from pathlib import Path

from fruits_cli.cloud.layout import Places
from fruits_cli.config import Target
from fruits_cli.errors import UsageError
from fruits_cli.job.arguments import Reuse
from fruits_cli.ledger import Ledger, RunPhase, find_run


def reuse_here(wanted: str, output: Path, ledger: Ledger) -> Reuse:
    """The runs beside `output` and beside those of the ledger, or the named one, or none.

    Raises UsageError for a run that is not on this machine.
    """
    if wanted == "none":
        return Reuse()
    if wanted != "auto":
        record = ledger.find(wanted)
        if record.target is not Target.LOCAL:
            raise UsageError(
                f"Run {record.run_id} ran on EMR: a run on this machine cannot reuse it.",
                hint="--reuse auto takes the runs of this machine.",
            )
        return Reuse(run=record.output)
    here = [one for one in ledger.records() if one.target is Target.LOCAL]
    done = {str(Path(one.output).parent) for one in here if one.phase is RunPhase.DONE}
    return Reuse(below=tuple(sorted(done | {str(output.parent)})))


def reuse_on_s3(wanted: str, places: Places, ledger: Ledger) -> Reuse:
    """The runs below the prefix, or the named one, or none. Raises UsageError."""
    if wanted == "none":
        return Reuse()
    if wanted != "auto":
        return Reuse(run=str(find_run(wanted, ledger, places.runs)[0]))
    return Reuse(below=(str(places.runs),))
