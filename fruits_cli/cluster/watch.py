"""Each new state of a cluster, a step and its progress, until the last."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from fruits_cli.cloud.clusters import Cluster, ClusterState, Step, StepState
from fruits_cli.cloud.protocols import Clock, Cloud, Clusters
from fruits_cli.errors import AccessDenied, CloudError, ClusterNotFound
from fruits_cli.job.progress import fetch_progress
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Progress

# EMR throttles by account: quick at first, then at this pace.
_FIRST_POLL_S, _POLL_S, _SLOWER = 2.0, 20.0, 1.4
# progress.json is one cheap GET; the bar moves with it.
_PROGRESS_S = 3.0
# A laptop may lose its network for a while; the cluster goes on without it.
_PATIENCE_S = 600.0
_Answer = TypeVar("_Answer")
_LAST_STAGES = ("done", "failed")


@dataclass(frozen=True)
class RunState:
    """A run at one moment; `error` is what the job itself reported."""

    cluster: Cluster
    step: Step | None = None
    progress: Progress | None = None
    error: Mapping[str, Any] | None = None

    @property
    def is_final(self) -> bool:
        if self.step and self.step.state.is_final:
            return True
        return self.cluster.state.is_final


@dataclass
class _Pace:
    """When EMR is asked next: soon after a change, slower and slower while nothing changes."""

    clock: Clock
    jitter: Callable[[], float]
    every_s: float = _FIRST_POLL_S
    due_s: float = field(default=float("-inf"))

    def is_due(self) -> bool:
        return self.clock.monotonic() >= self.due_s

    def asked(self) -> None:
        # Several watchers started together must not ask together for ever.
        self.due_s = self.clock.monotonic() + self.every_s * (0.8 + 0.4 * self.jitter())
        self.every_s = min(_POLL_S, self.every_s * _SLOWER)

    def hurry(self) -> None:
        self.every_s, self.due_s = _FIRST_POLL_S, float("-inf")


def watch_run(
    cloud: Cloud,
    cluster_id: str,
    step_id: str,
    output: S3Uri,
    *,
    clock: Clock,
    timeout_s: float,
    jitter: Callable[[], float] = random.random,
) -> Iterator[RunState]:
    """Each new state of the run, the last one when the step or its cluster is at its end.

    Raises CloudError at the deadline, or when AWS could not be asked for ten minutes.
    """
    until = clock.monotonic() + timeout_s
    pace, patience = _Pace(clock, jitter), _Patience(clock)
    seen: RunState | None = None
    while True:
        state = patience.asked(partial(_look, cloud, (cluster_id, step_id), output, pace, seen))
        if state and state != seen:
            yield state
            seen = state
        if seen and seen.is_final:
            return
        if clock.monotonic() >= until:
            raise CloudError(
                f"The run is not at its end after {timeout_s / 60:.0f} minutes.",
                hint="It goes on without us: fruits status --watch",
            )
        clock.sleep(_PROGRESS_S)


def _look(
    cloud: Cloud, ids: tuple[str, str], output: S3Uri, pace: _Pace, seen: RunState | None
) -> RunState:
    if seen and seen.step and seen.step.state is StepState.RUNNING:
        progress, error = fetch_progress(cloud.storage, output)
        if progress and progress.stage in _LAST_STAGES and progress != seen.progress:
            pace.hurry()
        seen = replace(seen, progress=progress, error=error)
    if seen and not pace.is_due():
        return seen
    cluster_id, step_id = ids
    step, cluster = cloud.clusters.step(cluster_id, step_id), cloud.clusters.cluster(cluster_id)
    if seen and (step.state, cluster.state) != (seen.step and seen.step.state, seen.cluster.state):
        pace.hurry()
    pace.asked()
    # Again at the end: what the job wrote since our last look.
    told = fetch_progress(cloud.storage, output) if step.state.is_final else (None, None)
    progress, error = told if told[0] or seen is None else (seen.progress, seen.error)
    return RunState(cluster, step, progress, error)


def watch_cluster(
    clusters: Clusters,
    cluster_id: str,
    *,
    until: Callable[[ClusterState], bool],
    clock: Clock,
    timeout_s: float,
    jitter: Callable[[], float] = random.random,
) -> Iterator[Cluster]:
    """The cluster at each new state, the last one when `until` holds or it has ended.

    Raises CloudError at the deadline, or when AWS could not be asked for ten minutes.
    """
    deadline_s = clock.monotonic() + timeout_s
    pace, patience = _Pace(clock, jitter), _Patience(clock)
    seen: Cluster | None = None
    while True:
        cluster = patience.asked(partial(clusters.cluster, cluster_id))
        if cluster and (seen is None or cluster.state is not seen.state):
            yield cluster
            seen = cluster
        if seen and (until(seen.state) or seen.state.is_final):
            return
        if clock.monotonic() >= deadline_s:
            state = seen.state if seen else "unknown"
            raise CloudError(
                f"Cluster {cluster_id} is still {state} after {timeout_s / 60:.0f} minutes.",
                hint="fruits status --watch",
            )
        pace.asked()
        clock.sleep(max(0.0, pace.due_s - clock.monotonic()))


class _Patience:
    """Asks, and bears failures for a while: they are the network's more often than ours."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered_s = clock.monotonic()

    def asked(self, ask: Callable[[], _Answer]) -> _Answer | None:
        """The answer, or None where AWS failed for less than ten minutes."""
        try:
            answer = ask()
        except (AccessDenied, ClusterNotFound):
            raise
        except CloudError:
            if self._clock.monotonic() - self._answered_s > _PATIENCE_S:
                raise
            return None
        self._answered_s = self._clock.monotonic()
        return answer
