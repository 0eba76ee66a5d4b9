"""The table of what ends a run's cluster; nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from fruits_cli.errors import DeadlineReached, FruitsError, JobFailed, UsageError
from fruits_cli.signals import TerminalClosed


class RunEnd(StrEnum):
    """How this machine's part in a run ended."""

    COMPLETED = "the job completed, and its results are here"
    JOB_FAILED = "the job failed"
    CLUSTER_ENDED = "the cluster ended by itself"
    INTERRUPTED = "Ctrl-C or SIGTERM"
    DEADLINE = "the run's lifetime is over"
    OUT_OF_SIGHT = "AWS cannot be reached any more"
    NOT_FETCHED = "the job completed, and its results could not be fetched"
    TERMINAL_CLOSED = "the terminal was closed"
    DETACHED = "--detach"


# Losing sight of a cluster is no reason to end it: it ends by itself, after its job or lifetime.
ENDS_CLUSTER: Mapping[RunEnd, bool] = {
    RunEnd.COMPLETED: True,
    RunEnd.JOB_FAILED: True,
    RunEnd.CLUSTER_ENDED: True,
    RunEnd.INTERRUPTED: True,
    RunEnd.DEADLINE: True,
    RunEnd.OUT_OF_SIGHT: False,
    RunEnd.NOT_FETCHED: False,
    RunEnd.TERMINAL_CLOSED: False,
    RunEnd.DETACHED: False,
}


def run_end(error: BaseException, *, job_ended: bool, completed: bool) -> RunEnd:
    """The end that this error stands for.

    job_ended: the job's step, or its cluster, was seen in a final state. completed: and well.
    """
    if isinstance(error, TerminalClosed):
        return RunEnd.TERMINAL_CLOSED
    if isinstance(error, KeyboardInterrupt):
        return RunEnd.INTERRUPTED
    if isinstance(error, DeadlineReached):
        return RunEnd.DEADLINE
    if completed:
        return RunEnd.NOT_FETCHED
    if job_ended and isinstance(error, JobFailed | UsageError):
        return RunEnd.JOB_FAILED
    if job_ended and isinstance(error, FruitsError):
        return RunEnd.CLUSTER_ENDED
    return RunEnd.OUT_OF_SIGHT
