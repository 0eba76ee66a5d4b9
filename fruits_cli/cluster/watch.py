"""Yields each new state of a cluster, a step and its progress; tolerates failed AWS calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster, ClusterState, Step, StepState
from fruits_cli.cloud.protocols import Clock, Cloud, Clusters
from fruits_cli.errors import ClusterNotFound, DeadlineReached, FruitsError
from fruits_cli.job.progress import STOPPED, JobReport, fetch_report
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Progress

# EMR throttles by account: quick at first, then at this pace.
_FIRST_POLL_S, _POLL_S, _SLOWER = 2.0, 20.0, 1.4
# progress.json is one cheap GET; the bar moves with it.
_PROGRESS_S = 3.0
# Without an answer we ask less and less often, for as long as the cluster may live.
_BLIND_FIRST_S, _BLIND_MOST_S = 3.0, 60.0
# A cluster that EMR has just made may be unknown to it for a moment; one unknown for longer is
# another account's, or another region's.
_UNKNOWN_S = 600.0
_Answer = TypeVar("_Answer")
_LAST_STAGES = ("done", "failed", STOPPED)


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
    """When EMR is asked next: soon after a change, less and less often while nothing changes."""

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
    step: str,
    output: S3Uri,
    *,
    clock: Clock,
    timeout_s: float,
    tell: Callable[[str], None] = lambda line: None,
    jitter: Callable[[], float] = random.random,
) -> Iterator[RunState]:
    """Each new state of the run, the last one when the step or its cluster is at its end.

    step: its id, or its name, by which it is looked for while EMR does not list it. tell: called
    when AWS stops answering, and when it answers again. Raises DeadlineReached, and ClusterNotFound
    where EMR does not know the cluster for ten minutes.
    """
    until = clock.monotonic() + timeout_s
    pace, sight = _Pace(clock, jitter), _Retrying(clock, tell)
    seen: RunState | None = None
    while True:
        state = sight.ask(partial(_look, cloud, (cluster_id, step), output, pace, seen))
        if state and state != seen:
            yield state
            seen = state
        if seen and seen.is_final:
            return
        if clock.monotonic() >= until:
            raise DeadlineReached(
                f"The run has not ended after {timeout_s / 60:.0f} minutes.",
                hint="fruits status shows what is there.",
            )
        clock.sleep(max(_PROGRESS_S, sight.wait_s))


def _look(
    cloud: Cloud, ids: tuple[str, str], output: S3Uri, pace: _Pace, seen: RunState | None
) -> RunState:
    if seen and seen.step and seen.step.state is StepState.RUNNING:
        report = _report(cloud, output, seen.step, seen)
        progress = report.progress
        if progress and progress.stage in _LAST_STAGES and progress != seen.progress:
            pace.hurry()
        seen = replace(seen, progress=progress, error=report.error)
    if seen and not pace.is_due():
        return seen
    step, cluster = _step(cloud.clusters, *ids), cloud.clusters.cluster(ids[0])
    if seen and (_state_of(step), cluster.state) != (_state_of(seen.step), seen.cluster.state):
        pace.hurry()
    pace.asked()
    if step and step.state.is_final:
        # Again at the end: what the job wrote since our last look.
        report = _report(cloud, output, step, seen)
        return RunState(cluster, step, report.progress, report.error)
    return RunState(cluster, step, *((seen.progress, seen.error) if seen else (None, None)))


def _state_of(step: Step | None) -> StepState | None:
    return step.state if step else None


def _step(clusters: Clusters, cluster_id: str, step: str) -> Step | None:
    if not step.startswith(EMR_NAME_PREFIX):
        return clusters.step(cluster_id, step)
    # ListSteps lags behind a launch: until it lists the step there is none, which is no failure.
    return next((found for found in clusters.steps(cluster_id) if found.name == step), None)


def _report(cloud: Cloud, output: S3Uri, step: Step, seen: RunState | None) -> JobReport:
    """What the job tells of itself; what was seen before where it may not be read just now."""
    before = JobReport(seen.progress, seen.error) if seen else JobReport()
    try:
        found = fetch_report(cloud.storage, output, step.args)
    except FruitsError:
        return before
    return found if found.progress else before


def watch_cluster(
    clusters: Clusters,
    cluster_id: str,
    *,
    until: Callable[[ClusterState], bool],
    clock: Clock,
    timeout_s: float,
    tell: Callable[[str], None] = lambda line: None,
    jitter: Callable[[], float] = random.random,
) -> Iterator[Cluster]:
    """The cluster at each new state, the last one when `until` holds or it has ended.

    tell, errors: as for `watch_run`.
    """
    deadline_s = clock.monotonic() + timeout_s
    pace, sight = _Pace(clock, jitter), _Retrying(clock, tell)
    seen: Cluster | None = None
    while True:
        cluster = sight.ask(partial(clusters.cluster, cluster_id))
        if cluster and (seen is None or cluster.state is not seen.state):
            yield cluster
            seen = cluster
        if seen and (until(seen.state) or seen.state.is_final):
            return
        if clock.monotonic() >= deadline_s:
            state = seen.state if seen else "unknown"
            raise DeadlineReached(
                f"Cluster {cluster_id} is still {state} after {timeout_s / 60:.0f} minutes.",
                hint="fruits status --watch",
            )
        pace.asked()
        clock.sleep(max(sight.wait_s, pace.due_s - clock.monotonic()))


class _Retrying:
    """Tolerates failed AWS calls: the cluster keeps running meanwhile."""

    def __init__(self, clock: Clock, tell: Callable[[str], None]) -> None:
        self._clock, self._tell = clock, tell
        self._answered_s = clock.monotonic()
        # Seconds until it is worth asking again; 0 while AWS answers.
        self.wait_s = 0.0

    def ask(self, ask: Callable[[], _Answer]) -> _Answer | None:
        """The answer, or None where there is none for now."""
        try:
            answer = ask()
        except ClusterNotFound:
            if self._clock.monotonic() - self._answered_s > _UNKNOWN_S:
                raise
            self._lost("EMR does not know the cluster yet.")
            return None
        except FruitsError as error:
            self._lost(str(error))
            return None
        if self.wait_s:
            away_s = self._clock.monotonic() - self._answered_s
            self._tell(f"AWS answers again, after {away_s / 60:.0f} minutes.")
        self._answered_s, self.wait_s = self._clock.monotonic(), 0.0
        return answer

    def _lost(self, why: str) -> None:
        if not self.wait_s:
            self._tell(f"{why} The cluster keeps running; asking again.")
        self.wait_s = min(max(self.wait_s * 1.5, _BLIND_FIRST_S), _BLIND_MOST_S)
