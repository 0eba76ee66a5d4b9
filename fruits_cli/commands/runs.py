"""fruits runs: every run here and in the bucket, and what no run needs any more."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.cloud.layout import Places, places_of
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config
from fruits_cli.errors import UsageError
from fruits_cli.ledger import ledger_here
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.runs.overview import HEADS, find_known_run, known_runs, run_facts, run_rows
from fruits_cli.runs.prune import find_unneeded, remove_unneeded, unneeded_facts, unneeded_lines
from fruits_cli.screen import Outcome, Screen, Table
from fruits_cli.session import Session

Wanted = Annotated[
    str | None, typer.Argument(help="A run id, a prefix of one, or last.", show_default=False)
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove from the bucket what no run needs.")]


@with_config("storage")
def runs(
    *,
    run: Wanted = None,
    prune: Prune = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """List the runs of this folder and of the bucket, or show one.

    \b
    fruits runs                                 every run: settings, variance, minutes, dollars
    fruits runs last                            one of them in full
    fruits runs --bucket my-bucket              those in the bucket as well
    fruits runs --prune                         what the bucket keeps for no run, then remove it
    """
    if prune and run is not None:
        raise UsageError("--prune looks at all runs: leave out the run.")
    ledger = ledger_here()
    if not config.storage.bucket:
        if prune:
            raise UsageError("--prune needs a bucket.", hint="Give --bucket NAME.")
        session, below = None, None
    else:
        session, below = open_session(config, screen), places_of(config).runs
    storage = session.cloud.storage if session else None
    if session and prune:
        return prune_bucket(places_of(config), session, dry_run=dry_run, yes=yes)
    if run is not None:
        facts = run_facts(find_known_run(run, ledger, below, storage))
        rows = [(key, "" if value is None else str(value)) for key, value in facts.items()]
        return Outcome([Table([("key", "value"), *rows])], facts)
    found = known_runs(ledger, below, storage)
    if not found:
        return Outcome(["There are no runs yet: fruits run --sample makes one."], {"runs": []})
    return Outcome(
        [Table([HEADS, *run_rows(found)])], {"runs": [run_facts(known) for known in found]}
    )


def prune_bucket(places: Places, session: Session, *, dry_run: bool, yes: bool) -> Outcome:
    """Show what the bucket keeps for no run, and remove it once the user agrees.

    Raises UsageError while a cluster works on the bucket, CloudError, Declined.
    """
    found = find_unneeded(places, session.cloud, session.clock)
    lines, facts = unneeded_lines(found), unneeded_facts(found)
    if dry_run or not found:
        return Outcome(lines, facts)
    for line in lines:
        session.screen.tell(line)
    session.screen.ask("Remove all of it?", yes=yes)
    remove_unneeded(found, session.cloud.storage)
    return Outcome([f"Removed: {lines[-1]}."], {**facts, "removed": True})
