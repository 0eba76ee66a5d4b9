"""Reads what the job reports: its progress, and the error that ended it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.cloud.protocols import Storage
from fruits_cli.errors import FruitsError, JobFailed, MachineError, UsageError
from fruits_cli.files import parse_json, read_document
from fruits_cli.s3uri import S3Uri, parse_s3_uri
from fruits_cli.screen import Progress, shown

PROGRESS_FILE = "progress.json"
# The stage of a job that was asked to stop.
STOPPED = "stopped"
_KINDS: dict[int, type[FruitsError]] = {2: UsageError, 4: JobFailed}
# A sentence of ours is shorter; what is longer was not written by the job.
_MOST_CHARACTERS = 2000
# Nor are there so many pictures anywhere.
_TOO_MANY = 10**15


@dataclass(frozen=True)
class JobReport:
    """progress.json: how far the job is, what ended it, and which attempt at the run wrote it."""

    progress: Progress | None = None
    error: Mapping[str, Any] | None = None
    attempt: str = ""

    def of_attempt(self, attempt: str) -> JobReport:
        """This report, or an empty one where an earlier attempt wrote it."""
        return self if not self.attempt or self.attempt == attempt else JobReport()


def job_error(facts: Mapping[str, Any]) -> FruitsError:
    """The error that a process of spark_job reported, as ours with the same exit code."""
    kind = _KINDS.get(int(facts["exit_code"]), MachineError)
    return kind(str(facts["message"]), hint=str(facts.get("hint", "")))


def load_report(output: Path) -> JobReport:
    """The last report of a local run's job."""
    try:
        return parse_report(read_document(output / PROGRESS_FILE))
    except OSError:
        return JobReport()


def fetch_report(storage: Storage, output: S3Uri, step_args: Sequence[str] = ()) -> JobReport:
    """What progress.json of the run says; empty where the attempt of `step_args` wrote none."""
    found = storage.fetch_bytes(output / PROGRESS_FILE)
    if found is None:
        return JobReport()
    return parse_report(found.content).of_attempt(argument(step_args, "--attempt"))


def ask_to_stop(storage: Storage, step_args: Sequence[str]) -> bool:
    """Ask the job of a step to stop, wherever it runs by now: it looks for this file.

    False where its arguments do not say for which file.
    """
    output, attempt = argument(step_args, "--output"), argument(step_args, "--attempt")
    if not (output and attempt):
        return False
    storage.put_bytes(b"", parse_s3_uri(output) / f"_plan/stop-{attempt}")
    return True


def argument(step_args: Sequence[str], flag: str) -> str:
    """The value of a flag among a step's own arguments, empty where it is not given."""
    if flag not in step_args[:-1]:
        return ""
    return step_args[step_args.index(flag) + 1]


def parse_report(content: bytes) -> JobReport:
    """The report in progress.json; an empty one where it is not readable as such.

    Whoever may write to the bucket may have written it: texts are cut, and shown escaped.
    """
    try:
        values = parse_json(content)
        progress = Progress(
            stage=shown(values["stage"])[:_MOST_CHARACTERS],
            done=int(values.get("pictures_done") or 0),
            total=int(values.get("pictures") or 0),
            rate=float(values.get("images_per_s") or 0.0),
        )
        error, attempt = values.get("error"), str(values.get("attempt") or "")
        exact = max(progress.done, progress.total) < _TOO_MANY and abs(progress.rate) < _TOO_MANY
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return JobReport()
    return JobReport(progress, _parse_error(error), attempt) if exact else JobReport()


def _parse_error(error: object) -> Mapping[str, Any] | None:
    if not isinstance(error, dict):
        return None
    texts = {key: str(error.get(key, ""))[:_MOST_CHARACTERS] for key in ("message", "hint")}
    code = error.get("exit_code")
    return {"exit_code": code if isinstance(code, int) else 1, **texts}
