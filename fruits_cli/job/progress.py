"""What a process of the job says of itself: progress, and the error that ended it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fruits_cli.cloud.protocols import Storage
from fruits_cli.errors import FruitsError, MachineError, UsageError
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Progress


def job_error(facts: Mapping[str, Any]) -> FruitsError:
    """The error that a process of spark_job reported, as ours with the same exit code."""
    from fruits_cli.errors import JobFailed

    kinds: dict[int, type[FruitsError]] = {2: UsageError, 4: JobFailed}
    kind = kinds.get(int(facts["exit_code"]), MachineError)
    return kind(str(facts["message"]), hint=str(facts.get("hint", "")))


def load_progress(output: Path) -> Progress | None:
    """What the job last said of itself, None before it said anything."""
    try:
        facts = json.loads((output / PROGRESS_FILE).read_bytes())
        return Progress(
            facts["stage"], facts["pictures_done"], facts["pictures"], facts["images_per_s"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reported_error(output: Path) -> FruitsError | None:
    try:
        error = json.loads((output / PROGRESS_FILE).read_bytes())["error"]
        return job_error(error) if error else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


PROGRESS_FILE = "progress.json"


def fetch_progress(
    storage: Storage, output: S3Uri
) -> tuple[Progress | None, Mapping[str, Any] | None]:
    """What progress.json of the run says, and the error in it; None where there is none yet."""
    found = storage.fetch_bytes(output / PROGRESS_FILE)
    return parse_progress(found.content) if found else (None, None)


def parse_progress(content: bytes) -> tuple[Progress | None, Mapping[str, Any] | None]:
    """Progress and error out of progress.json; None, None for what is not readable as such."""
    try:
        values = json.loads(content)
        progress = Progress(
            stage=str(values["stage"]),
            done=int(values.get("pictures_done") or 0),
            total=int(values.get("pictures") or 0),
            rate=float(values.get("images_per_s") or 0.0),
        )
        error = values.get("error")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, None
    return progress, error if isinstance(error, dict) else None
