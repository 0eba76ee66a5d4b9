"""What every cloud command needs: screen, ledger, AWS, clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fruits_cli.cloud.protocols import Clock, Cloud
from fruits_cli.errors import MachineError
from fruits_cli.ledger import Ledger, RunRecord
from fruits_cli.screen import Screen


@dataclass(frozen=True)
class Session:
    """One command's surroundings; commands/wiring.py puts them together.

    load_model: job.model.model_artefact. fetch_wheels: job.node_python.fetched_wheels, None where
    S3 is on this machine and no node could read it.
    """

    screen: Screen
    ledger: Ledger
    cloud: Cloud
    clock: Clock
    environ: Mapping[str, str]
    load_model: Callable[..., Any]
    fetch_wheels: Callable[..., Any] | None

    def note(self, record: RunRecord, **changes: Any) -> RunRecord:
        """Write the record of what was done already, which a full disk does not change.

        With changes, those alone, to the record as it is by now.
        """
        try:
            return self.ledger.update(record, **changes) if changes else self.ledger.write(record)
        except MachineError as error:
            self.screen.warn(str(error))
            return replace(record, **changes)
