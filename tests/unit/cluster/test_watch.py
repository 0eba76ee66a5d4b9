import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fruits_cli.cloud.clusters import Cluster, ClusterState, ErrorDetail, Step, StepState
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.plan import plan_cluster, plan_run
from fruits_cli.cluster.watch import RunState, watch_cluster, watch_run
from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    DeadlineReached,
    FruitsError,
    UsageError,
)
from fruits_cli.job.progress import JobReport, job_error, parse_report
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Progress, time_left
from tests.support.fakes import FakeAws, Script
from tests.support.worlds import PYTHON, RUN_ID, config, job, observed

OUTPUT = S3Uri("grapes-and-figs", f"fruits/runs/{RUN_ID}/")


def running(aws: FakeAws) -> str:
    aws.storage.create_bucket(OUTPUT.bucket)
    plan = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON)
    return aws.clusters.start_cluster(plan.spec)


def watched(
    aws: FakeAws, cluster_id: str, timeout_s: float = 3600, step: str = ""
) -> Iterator[RunState]:
    return watch_run(
        aws.cloud,
        cluster_id,
        step or aws.clusters.steps(cluster_id)[0].step_id,
        OUTPUT,
        clock=aws.clock,
        timeout_s=timeout_s,
        jitter=lambda: 0.5,
    )


def steps_seen(states: list[RunState]) -> list[StepState | None]:
    return [state.step.state if state.step else None for state in states]


def test_a_run_is_yielded_state_by_state_until_its_last() -> None:
    aws = FakeAws()

    states = list(watched(aws, running(aws)))

    seen = list(dict.fromkeys(steps_seen(states)))
    assert seen == [StepState.PENDING, StepState.RUNNING, StepState.COMPLETED]
    assert states[-1].is_final


def test_no_state_is_yielded_twice_in_a_row() -> None:
    aws = FakeAws()

    states = list(watched(aws, running(aws)))

    assert all(one != other for one, other in itertools.pairwise(states))


def test_a_step_that_emr_lists_late_is_no_failure() -> None:
    aws = FakeAws(script=Script(boot_s=10))
    cluster_id, listed = running(aws), aws.clusters.steps

    def late(of: str) -> list[Step]:
        return listed(of) if aws.clock.now_s > 90 else []

    aws.clusters.steps = late  # type: ignore[method-assign]
    states = list(watched(aws, cluster_id, step=f"fruits-{RUN_ID}"))

    assert states[0].step is None
    assert steps_seen(states)[-1] is StepState.COMPLETED


def test_progress_comes_from_the_runs_own_file() -> None:
    aws = FakeAws(script=Script(step_s=600))
    cluster_id = running(aws)
    told = {"stage": "features", "pictures_done": 7, "pictures": 9, "images_per_s": 2.5}
    aws.storage.put_bytes(json.dumps(told).encode(), OUTPUT / "progress.json")

    states = list(watched(aws, cluster_id))

    assert Progress("features", 7, 9, 2.5) in [state.progress for state in states]


def test_the_jobs_own_error_is_part_of_the_last_state() -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    error = {"exit_code": 4, "message": "Too many rejected.", "hint": "Look."}
    told = json.dumps({"stage": "failed", "pictures_done": 1, "pictures": 2, "error": error})
    aws.script.on_step_end = lambda step: aws.storage.put_bytes(
        told.encode(), OUTPUT / "progress.json"
    )

    states = list(watched(aws, running(aws)))

    assert states[-1].error == error
    assert steps_seen(states)[-1] is StepState.FAILED


def test_watching_ends_with_a_cluster_that_dies_before_its_step() -> None:
    error = ErrorDetail("BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE", "bootstrap failed")
    aws = FakeAws(script=Script(boot_error=error))

    states = list(watched(aws, running(aws)))

    assert states[-1].is_final
    assert steps_seen(states)[-1] is StepState.CANCELLED


def test_watching_gives_up_at_the_deadline() -> None:
    aws = FakeAws(script=Script(step_s=10_000))

    with pytest.raises(CloudError, match="has not ended after 10 minutes"):
        list(watched(aws, running(aws), timeout_s=600))

    assert 600 <= aws.clock.now_s < 660


class _Flaky:
    """The fake's clusters behind a network that is down between two moments."""

    def __init__(
        self,
        aws: FakeAws,
        down_s: tuple[float, float],
        error: FruitsError,
        asked: list[float] | None = None,
    ) -> None:
        self._aws, self._down_s, self._error = aws, down_s, error
        self._asked = [] if asked is None else asked

    def __getattr__(self, name: str) -> object:
        self._asked.append(self._aws.clock.now_s)
        if self._down_s[0] <= self._aws.clock.now_s < self._down_s[1]:
            raise self._error
        return getattr(self._aws.clusters, name)


def flaky(
    aws: FakeAws,
    down_s: tuple[float, float],
    error: FruitsError,
    asked: list[float] | None = None,
) -> Cloud:
    clusters = _Flaky(aws, down_s, error, asked)
    return replace(aws.cloud, clusters=clusters)  # type: ignore[arg-type]


def denied(uri: S3Uri) -> None:
    raise AccessDenied(f"You may not read {uri}.")


def watched_through(
    cloud: Cloud, aws: FakeAws, cluster_id: str, told: list[str] | None = None
) -> list[RunState]:
    step_id = aws.clusters.steps(cluster_id)[0].step_id
    told = [] if told is None else told
    return list(
        watch_run(
            cloud,
            cluster_id,
            step_id,
            OUTPUT,
            clock=aws.clock,
            timeout_s=7600,
            tell=told.append,
            jitter=lambda: 0.5,
        )
    )


def test_a_network_that_is_down_for_minutes_does_not_end_the_watching() -> None:
    aws = FakeAws()
    cluster_id = running(aws)
    cloud = flaky(aws, (60, 500), CloudError("no network"))

    states = watched_through(cloud, aws, cluster_id)

    assert steps_seen(states)[-1] is StepState.COMPLETED


@pytest.mark.parametrize(
    "error",
    [CloudError("no network"), AccessDenied("no"), CloudError("expired"), UsageError("helper")],
    ids=["network", "denied", "credentials", "helper"],
)
def test_an_hour_without_answers_is_tolerated_and_reported(error: FruitsError) -> None:
    aws = FakeAws(script=Script(step_s=7200))
    cluster_id = running(aws)
    told: list[str] = []

    states = watched_through(flaky(aws, (60, 3700), error), aws, cluster_id, told=told)

    assert states[-1].step is not None
    assert states[-1].step.state is StepState.COMPLETED
    assert len(told) == 2
    assert str(error) in told[0]
    assert told[1].startswith("AWS answers again, after 6")


def test_without_answers_aws_is_asked_once_a_minute_at_most() -> None:
    aws = FakeAws()
    cluster_id = running(aws)
    asked: list[float] = []

    with pytest.raises(DeadlineReached):
        watched_through(flaky(aws, (0, 99999), AccessDenied("no"), asked), aws, cluster_id)

    assert len(asked) < 160


def test_progress_that_may_not_be_read_is_no_failure() -> None:
    aws = FakeAws()
    cluster_id = running(aws)
    aws.storage.fetch_bytes = denied  # type: ignore[method-assign]

    states = watched_through(aws.cloud, aws, cluster_id)

    assert states[-1].step is not None
    assert states[-1].step.state is StepState.COMPLETED


def test_emr_is_asked_less_and_less_often_while_nothing_changes() -> None:
    aws = FakeAws(script=Script(boot_s=7200))
    asked: list[float] = []

    class Counting:
        def cluster(self, cluster_id: str) -> Cluster:
            asked.append(aws.clock.now_s)
            return aws.clusters.cluster(cluster_id)

    spec = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec
    cluster_id = aws.clusters.start_cluster(spec)
    with pytest.raises(CloudError, match="still STARTING after 30 minutes"):
        list(
            watch_cluster(
                Counting(),  # type: ignore[arg-type]
                cluster_id,
                until=lambda state: state.is_ready,
                clock=aws.clock,
                timeout_s=1800,
                jitter=lambda: 0.5,
            )
        )

    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[0] == pytest.approx(2)
    assert max(pauses) == pytest.approx(20)
    assert len(asked) < 110


def test_a_cluster_is_watched_until_it_takes_steps() -> None:
    aws = FakeAws()
    spec = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec

    states = [
        cluster.state
        for cluster in watch_cluster(
            aws.clusters,
            aws.clusters.start_cluster(spec),
            until=lambda state: state.is_ready,
            clock=aws.clock,
            timeout_s=600,
        )
    ]

    assert states == [ClusterState.STARTING, ClusterState.BOOTSTRAPPING, ClusterState.WAITING]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b'{"stage": "x", "pictures": "many"}', b"\xff\xfe"),
        *(b"[" * 5000, b'{"stage": "x", "images_per_s": 1e999}'),
        *(
            b'{"stage": "x", "pictures": 1%s}' % (b"0" * 400),
            b'{"stage": "x", "pictures": Infinity}1',
        ),
    ],
    ids=range(10),
)
def test_a_progress_file_that_is_not_one_is_no_progress(content: bytes) -> None:
    assert parse_report(content) == JobReport()


def test_the_report_of_an_earlier_attempt_is_ignored() -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    cluster_id = running(aws)
    error = {"exit_code": 2, "message": "pca_k = 500 is too large", "hint": ""}
    told = {"stage": "failed", "attempt": "an-earlier-one", "error": error}
    aws.storage.put_bytes(json.dumps(told).encode(), OUTPUT / "progress.json")

    states = list(watched(aws, cluster_id))

    assert states[-1].error is None


@pytest.mark.parametrize("rate", [b"NaN", b"Infinity", b"1e-300", b"-5"])
def test_a_rate_that_is_none_is_shown_as_none(rate: bytes) -> None:
    report = parse_report(b'{"stage": "x", "pictures": 9, "images_per_s": %s}' % rate)

    assert report.progress is not None
    assert time_left(report.progress) == ""


@pytest.mark.parametrize("error", ['{"exit_code": "x"}', '{"exit_code": []}', '{"message": {}}'])
def test_an_error_of_another_shape_is_still_an_error(error: str) -> None:
    report = parse_report(f'{{"stage": "failed", "error": {error}}}'.encode())

    assert report.error is not None
    assert job_error(report.error).exit_code == 1


def test_progress_written_by_others_is_escaped() -> None:
    report = parse_report(json.dumps({"stage": "\x1b]0;title\x07" + "x" * 9999}).encode())

    assert report.progress is not None
    assert report.progress.stage.isprintable()
    assert len(report.progress.stage) <= 2000
