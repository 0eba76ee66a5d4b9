"""The steps of one cluster, one at a time, whatever its concurrency level says.

Sources: EMR API reference, StepStatus and FailureDetails; ManagementGuide, emr-cancel-steps;
emr-facts.md, section 7.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.rehearsal.logs import LogShipping
from fruits_cli.rehearsal.steps import Place, StepRun
from fruits_cli.rehearsal.world import Cluster, Step

POLL_S = 0.1


@dataclass(frozen=True)
class Workshop:
    """Where steps run and what they may reach; `tree` holds the cluster's logs."""

    folder: Path
    tree: Path
    endpoint: str
    step_key: str
    s3: Any


class StepQueue:
    """Runs the pending steps; `check` raises where the cluster ends meanwhile."""

    def __init__(
        self,
        cluster: Cluster,
        workshop: Workshop,
        *,
        logs: LogShipping,
        check: Callable[[], None],
    ) -> None:
        self._cluster, self._workshop, self._check = cluster, workshop, check
        self._logs = logs
        self._begun = 0

    def next(self) -> Step | None:
        """The oldest pending step."""
        with self._cluster.changed:
            return next((s for s in self._cluster.steps if s.state == "PENDING"), None)

    def run(self, step: Step) -> str:
        """The state a step ended in; unless it was cancelled before, all of it happens here."""
        with self._cluster.changed:
            if step.state != "PENDING":
                return step.state
            step.state, step.started = "RUNNING", time.time()
            self._begun += 1
        run = StepRun(step, self._place(step), self._begun)
        # What ends the cluster in the middle leaves the step so (a guess).
        state, code = "INTERRUPTED", -1
        try:
            run.start()
            state, code = self._followed(step, run)
        finally:
            run.kill()
            run.finish()
            self._conclude(step, state, code)
            self._logs.ship()
        return state

    def _followed(self, step: Step, run: StepRun) -> tuple[str, int]:
        while (code := run.poll()) is None:
            self._check()
            if step.cancellation:
                # CancelSteps does not trigger ActionOnFailure (ManagementGuide, emr-cancel-steps).
                # A real cluster-mode application would go on in YARN; here all of it is killed.
                run.interrupt() if step.cancellation == "SEND_INTERRUPT" else run.kill()
                return "CANCELLED", -1
            with self._cluster.changed:
                self._cluster.changed.wait(POLL_S)
        return ("FAILED", code) if code else ("COMPLETED", 0)

    def _conclude(self, step: Step, state: str, code: int) -> None:
        with self._cluster.changed:
            step.state, step.ended = state, time.time()
            if state == "FAILED":
                log_uri = self._cluster.request.get("LogUri", "").rstrip("/")
                # The reason seldom says more (emr-facts.md, section 7); the containers' logs do.
                step.failure = {
                    "Reason": "Unknown Error.",
                    "Message": f"Exception in the step's process: exit code {code}.",
                    "LogFile": (
                        f"{log_uri}/{self._cluster.cluster_id}/steps/{step.step_id}/stderr.gz"
                    ),
                }
            self._cluster.changed.notify_all()

    def drop_pending(self) -> None:
        """Cancel what has not begun."""
        with self._cluster.changed:
            for step in self._cluster.steps:
                if not step.is_final:
                    step.state, step.ended = "CANCELLED", time.time()

    def _place(self, step: Step) -> Place:
        shop = self._workshop
        return Place(
            tree=shop.tree,
            work=shop.folder / "steps" / step.step_id,
            endpoint=shop.endpoint,
            region=self._cluster.region,
            access_key=shop.step_key,
            s3=shop.s3,
        )
