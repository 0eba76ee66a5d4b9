"""Takes one cluster from STARTING to its end, in one thread.

Sources: EMR API reference, ClusterStatus; ManagementGuide, emr-plan-bootstrap, emr-cancel-steps,
emr-auto-termination-policy; emr-facts.md, sections 2, 3 and 7. Guesses say so.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from itertools import pairwise

from botocore.exceptions import BotoCoreError, ClientError

from fruits_cli.rehearsal.bootstrap import run_bootstrap
from fruits_cli.rehearsal.ec2 import Provisioner
from fruits_cli.rehearsal.host import Host
from fruits_cli.rehearsal.logs import LogShipping
from fruits_cli.rehearsal.steps import POLL_S, StepQueue
from fruits_cli.rehearsal.world import Cluster, ClusterEnds, Ending, Step

# How long EMR takes, in minutes. The five minutes between log uploads are documented
# (ManagementGuide, emr-plan-debugging); the others are guesses of the usual order.
PROVISION_MIN = 3.0
BOOTSTRAP_MIN = 2.0
STEP_START_MIN = 0.3
LOG_UPLOAD_MIN = 5.0
TERMINATE_MIN = 1.0
_LIFETIME = re.compile(r"--(?:max-)?lifetime-min")
USER_REQUEST = Ending("USER_REQUEST", "Terminated by user request")
_STEPS_DONE = Ending("ALL_STEPS_COMPLETED", "Steps completed")
_STEP_FAILED = Ending("STEP_FAILURE", "Shut down as step failed", with_errors=True)
# The API has no code of its own for it; which one EMR uses is a guess.
_IDLE = Ending("ALL_STEPS_COMPLETED", "Terminated by the auto-termination policy: cluster idle")
_CLUSTER_ENDED = {"Code": "CLUSTER_TERMINATED", "Message": "Job flow terminated"}
_BOOTSTRAP_REASON = {"Code": "BOOTSTRAP_FAILURE", "Message": "A bootstrap action failed"}


class Lifecycle:
    """Takes one cluster through its states; requests only change what this thread then acts on."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self._cluster, self._host = cluster, host
        self._s3 = host.clients.client("s3", cluster.region)
        self._tree = host.logs_of(cluster.cluster_id)
        self._logs = LogShipping(
            self._tree,
            cluster.request.get("LogUri", ""),
            cluster.cluster_id,
            self._s3,
            host.pace.wait_s(LOG_UPLOAD_MIN),
        )
        self._expires: float | None = None
        self._is_hurried = False
        self._queue = StepQueue(cluster, host, logs=self._logs, check=self._check)
        self._thread = threading.Thread(target=self._run, name=cluster.cluster_id, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until the cluster has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._start()
            self._bootstrap()
            self._work()
        except ClusterEnds as ends:
            self._end(ends.ending)
        except (ClientError, BotoCoreError) as error:
            self._end(Ending("INTERNAL_ERROR", f"EC2 error: {error}", True))
        finally:
            # Without a reason by now it is a fault of the rehearsal, which the log shows.
            self._end(Ending("INTERNAL_ERROR", "The rehearsal itself failed.", True))
            self._shut_down()

    def ask_to_end(self, ending: Ending, *, at_once: bool = False) -> None:
        """End the cluster for the first reason given; `at_once` skips EMR's own delay."""
        with self._cluster.changed:
            self._is_hurried = self._is_hurried or at_once
            self._end(ending)

    def _end(self, ending: Ending) -> None:
        with self._cluster.changed:
            self._cluster.ending = self._cluster.ending or ending
            self._cluster.changed.notify_all()

    def _check(self) -> None:
        """Raise ClusterEnds where something ended the cluster, its lifetime included."""
        if self._expires is not None and time.monotonic() >= self._expires:
            self._end(USER_REQUEST)
        if self._cluster.ending is not None:
            raise ClusterEnds(self._cluster.ending)
        self._logs.ship_when_due()

    def _pause(self, minutes: float) -> None:
        """Wait as long as EMR would, at the rehearsal's pace. Raises ClusterEnds."""
        until = time.monotonic() + self._host.pace.wait_s(minutes)
        while (left := until - time.monotonic()) > 0:
            self._check()
            with self._cluster.changed:
                self._cluster.changed.wait(min(left, POLL_S))
        self._check()

    def _start(self) -> None:
        ec2 = Provisioner(self._cluster, self._host)
        self._pause(PROVISION_MIN / 2)
        ec2.prepare()
        ec2.require_quota()
        ec2.provision()
        self._host.primaries.start(self._cluster, self._host, ec2.groups_of("MASTER"))
        self._pause(PROVISION_MIN / 2)

    def _bootstrap(self) -> None:
        self._set_state("BOOTSTRAPPING", nodes="BOOTSTRAPPING")
        self._start_timer()
        try:
            run_bootstrap(self._cluster, self._tree, self._s3, self._host.check_script)
        except ClusterEnds:
            with self._cluster.changed:
                for node in self._cluster.live_nodes():
                    node.reason = _BOOTSTRAP_REASON
            raise
        self._pause(BOOTSTRAP_MIN)
        with self._cluster.changed:
            now = time.time()
            self._set_state("RUNNING", nodes="RUNNING")
            self._cluster.timeline.ready = now
            for node in self._cluster.live_nodes():
                node.timeline.ready = now

    def _start_timer(self) -> None:
        """The timer that bootstrap.sh starts on the primary: `--max-lifetime-min N` among its
        arguments. The script itself needs a node and does not run."""
        for action in self._cluster.request.get("BootstrapActions", []):
            args = action["ScriptBootstrapAction"].get("Args", [])
            for name, value in pairwise(args):
                if _LIFETIME.fullmatch(name):
                    seconds = self._host.pace.timer_s(float(value) * 60)
                    self._expires = time.monotonic() + seconds

    def _set_state(self, state: str, *, nodes: str = "") -> None:
        with self._cluster.changed:
            self._cluster.state = state
            for node in self._cluster.live_nodes() if nodes else ():
                node.state = nodes
            self._cluster.changed.notify_all()

    def _work(self) -> None:
        while True:
            step = self._queue.next()
            if step is not None:
                self._set_state("RUNNING")
                self._pause(STEP_START_MIN)
                if self._queue.run(step) == "FAILED":
                    self._act_on_failure(step)
            elif not self._cluster.keep_alive:
                raise ClusterEnds(_STEPS_DONE)
            else:
                self._wait_for_work()

    def _wait_for_work(self) -> None:
        self._set_state("WAITING")
        idle_since = time.monotonic()
        while self._queue.next() is None:
            self._check()
            policy = self._cluster.auto_termination
            # 60 minutes where a policy names no time (ManagementGuide, auto-termination policy).
            timeout_s = self._host.pace.timer_s(policy.get("IdleTimeout", 3600))
            if policy and time.monotonic() - idle_since >= timeout_s:
                raise ClusterEnds(_IDLE)
            with self._cluster.changed:
                self._cluster.changed.wait(POLL_S)

    def _act_on_failure(self, step: Step) -> None:
        """ActionOnFailure. Source: EMR API reference, StepConfig."""
        if step.action_on_failure in ("TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"):
            raise ClusterEnds(_STEP_FAILED)
        if step.action_on_failure == "CANCEL_AND_WAIT":
            self._queue.drop_pending()

    def _shut_down(self) -> None:
        """TERMINATING, then the end; a running step is INTERRUPTED (a guess), others CANCELLED."""
        self._set_state("TERMINATING")
        self._queue.drop_pending()
        self._logs.ship()
        with self._cluster.changed:
            wait_s = self._host.pace.wait_s(TERMINATE_MIN)
            self._cluster.changed.wait_for(lambda: self._is_hurried, wait_s)
        self._host.primaries.stop(self._cluster)
        # While the server stops, its EC2 may have stopped already.
        with suppress(ClientError, BotoCoreError):
            Provisioner(self._cluster, self._host).terminate(
                self._cluster.live_nodes(), _CLUSTER_ENDED
            )
        with self._cluster.changed:
            ending = self._cluster.ending
            with_errors = ending is not None and ending.with_errors
            self._cluster.timeline.ended = time.time()
            self._set_state("TERMINATED_WITH_ERRORS" if with_errors else "TERMINATED")
