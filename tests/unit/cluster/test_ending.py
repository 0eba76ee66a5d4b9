import pytest

from fruits_cli.cluster.ending import ENDS_CLUSTER, RunEnd, run_end
from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    DeadlineReached,
    FruitsError,
    JobFailed,
    MachineError,
    UsageError,
)
from fruits_cli.signals import TerminalClosed

LOOKING, ENDED, COMPLETED = (False, False), (True, False), (True, True)


@pytest.mark.parametrize(
    ("error", "seen", "end", "ends_cluster"),
    [
        (KeyboardInterrupt(), LOOKING, RunEnd.INTERRUPTED, True),
        (KeyboardInterrupt(), COMPLETED, RunEnd.INTERRUPTED, True),
        (TerminalClosed(), LOOKING, RunEnd.TERMINAL_CLOSED, False),
        (DeadlineReached("late"), LOOKING, RunEnd.DEADLINE, True),
        (JobFailed("it failed"), ENDED, RunEnd.JOB_FAILED, True),
        (UsageError("pca_k is too large"), ENDED, RunEnd.JOB_FAILED, True),
        (CloudError("bootstrap failed"), ENDED, RunEnd.CLUSTER_ENDED, True),
        (FruitsError("cancelled"), ENDED, RunEnd.CLUSTER_ENDED, True),
        (CloudError("no network"), LOOKING, RunEnd.OUT_OF_SIGHT, False),
        (AccessDenied("no"), LOOKING, RunEnd.OUT_OF_SIGHT, False),
        (UsageError("a credential helper"), LOOKING, RunEnd.OUT_OF_SIGHT, False),
        (RuntimeError("anything"), LOOKING, RunEnd.OUT_OF_SIGHT, False),
        (RuntimeError("anything"), ENDED, RunEnd.OUT_OF_SIGHT, False),
        (MachineError("disk full"), COMPLETED, RunEnd.NOT_FETCHED, False),
        (CloudError("no network"), COMPLETED, RunEnd.NOT_FETCHED, False),
    ],
)
def test_what_ends_a_cluster(
    error: BaseException, seen: tuple[bool, bool], end: RunEnd, ends_cluster: bool
) -> None:
    found = run_end(error, job_ended=seen[0], completed=seen[1])

    assert found is end
    assert ENDS_CLUSTER[found] is ends_cluster


def test_every_end_is_in_the_table() -> None:
    assert set(ENDS_CLUSTER) == set(RunEnd)
