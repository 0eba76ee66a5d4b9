"""Runs the steps of one cluster for real: fetch, spark-submit on this machine, logs, state.

One step at a time. Sources: EMR API reference, StepStatus and FailureDetails; ManagementGuide,
emr-cancel-steps; emr-facts.md, section 7.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from botocore.exceptions import ClientError

from fruits_cli.errors import FruitsError
from fruits_cli.job.java import find_java, spark_environ, spark_home
from fruits_cli.job.spark import usable_cores
from fruits_cli.rehearsal.host import Host
from fruits_cli.rehearsal.logs import LogShipping, append_line, append_text
from fruits_cli.rehearsal.spark_submit import (
    Submission,
    command_line,
    files_to_fetch,
    local_options,
    parse_submission,
    with_local_files,
)
from fruits_cli.rehearsal.state import rehearsal_environ
from fruits_cli.rehearsal.wire import Refused
from fruits_cli.rehearsal.world import Cluster, Step
from fruits_cli.s3uri import S3Uri, parse_s3_uri
from fruits_cli.tunnel import guard

POLL_S = 0.1
_GUARD = Path(guard.__file__)


class StepRun:
    """A running step. Its logs lie in the cluster's tree under EMR's names."""

    def __init__(self, step: Step, cluster: Cluster, host: Host, number: int) -> None:
        self._step, self._host, self._number = step, host, number
        self._region = cluster.region
        self._s3 = host.clients.client("s3", cluster.region)
        self._tree = host.logs_of(cluster.cluster_id)
        self._events = host.events_of(cluster.cluster_id)
        self._work = host.folder / "steps" / step.step_id
        self._folder = self._tree / "steps" / step.step_id
        self._controller = self._folder / "controller"
        self._guard: subprocess.Popen[bytes] | None = None
        self._in_cluster_mode = False
        self._started = time.monotonic()
        self._exit_code: int | None = None

    def start(self) -> None:
        """Fetch and start; what cannot be fetched or run is a failed step, as on EMR."""
        for name in ("stderr", "stdout"):
            append_text(self._folder / name, "")
        shown = shlex.join(self._step.args)
        append_line(self._controller, f"Ensure step {self._number} jar file {self._step.jar}")
        append_line(self._controller, f"startExec 'hadoop jar {self._step.jar} {shown}'")
        try:
            self._guard = self._launch()
        except (Refused, FruitsError, ClientError, OSError) as error:
            append_line(self._controller, str(error), level="ERROR")
            append_text(self._folder / "stderr", f'Exception in thread "main" {error}')
            self._exit_code = 1

    def _launch(self) -> subprocess.Popen[bytes]:
        if self._step.jar != "command-runner.jar":
            raise Refused("NotRehearsed", f"The rehearsal runs no {self._step.jar}.")
        submission = parse_submission(self._step.args)
        self._in_cluster_mode = submission.in_cluster_mode
        self._step.application_id = f"application_{int(time.time() * 1000)}_{self._number:04d}"
        command = self._command(submission)
        self._driver_log("stdout").parent.mkdir(parents=True, exist_ok=True)
        with (
            self._driver_log("stdout").open("ab") as stdout,
            self._driver_log("stderr").open("ab") as stderr,
        ):
            return subprocess.Popen(
                [sys.executable, "-I", str(_GUARD), *command],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=stdout,
                stderr=stderr,
                cwd=self._work,
                env=step_environ(
                    work=self._work,
                    endpoint=self._host.endpoint,
                    region=self._region,
                    access_key=self._host.step_key,
                ),
                start_new_session=True,
            )

    def _command(self, submission: Submission) -> list[str]:
        work = self._work
        (work / "tmp").mkdir(parents=True, exist_ok=True)
        local: dict[str, str] = {}
        for number, (what, address) in enumerate(files_to_fetch(submission)):
            local[address] = str(self._fetch(address, work / "fetched" / str(number)))
            append_line(self._controller, f"rehearsal: {what} {address} is {local[address]} here")
        self._events.mkdir(parents=True, exist_ok=True)
        ours = local_options(usable_cores(), sys.executable, str(work / "tmp"), str(self._events))
        command = command_line(
            str(spark_home() / "bin" / "spark-submit"), with_local_files(submission, local), ours
        )
        append_line(self._controller, f"rehearsal: runs {shlex.join(command)}")
        return command

    def _fetch(self, address: str, folder: Path) -> Path:
        """A file, or a folder with all that lies below a prefix."""
        uri = parse_s3_uri(address)
        folder.mkdir(parents=True, exist_ok=True)
        below = uri.key.rstrip("/") + "/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=uri.bucket, Prefix=below)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        if not keys:
            return self._download(uri, folder / Path(uri.key).name)
        for key in keys:
            if not key.endswith("/"):
                self._download(S3Uri(uri.bucket, key), folder / _safe_path(key[len(below) :]))
        return folder

    def _download(self, uri: S3Uri, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            body = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"]
        except ClientError as error:
            message = f"java.io.FileNotFoundException: {uri}: {error}"
            raise Refused("FileNotFound", message) from error
        with path.open("wb") as stream:
            shutil.copyfileobj(body, stream)
        return path

    def _driver_log(self, name: str) -> Path:
        """Client mode: the step's own log. Cluster mode: the first YARN container's."""
        if not self._in_cluster_mode:
            return self._folder / name
        application = self._step.application_id
        container = application.replace("application", "container") + "_01_000001"
        return self._tree / "containers" / application / container / name

    def poll(self) -> int | None:
        """The exit code, or None while the step runs."""
        if self._exit_code is None and self._guard is not None:
            self._exit_code = self._guard.poll()
        return self._exit_code

    def interrupt(self) -> None:
        """SEND_INTERRUPT: the step may tidy up for three seconds."""
        self._send(b"i")

    def kill(self) -> None:
        """End every process of the step; returns when they are gone."""
        self._send(b"k")

    def _send(self, word: bytes) -> None:
        if self._guard is None or self._guard.stdin is None or self._guard.poll() is not None:
            return
        # The guard may end at this very moment, and its stdin with it.
        with suppress(BrokenPipeError):
            self._guard.stdin.write(word)
        self._exit_code = self._guard.wait()

    def finish(self) -> None:
        """Write the last lines as EMR and Spark do, and tidy up the work folder."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
        code = self._exit_code or 0
        took = round(time.monotonic() - self._started)
        if self._in_cluster_mode:
            self._write_yarn_report(code)
        append_line(
            self._controller, f"waitProcessCompletion ended with exit code {code} : hadoop jar"
        )
        word = "succeeded" if code == 0 else "failed"
        append_line(self._controller, f"Step {word} with exitCode {code} and took {took} seconds")
        shutil.rmtree(self._work, ignore_errors=True)

    def _write_yarn_report(self, code: int) -> None:
        application, stderr = self._step.application_id, self._folder / "stderr"
        state = "SUCCEEDED" if code == 0 else "FAILED"
        append_line(stderr, f"Client: Application report for {application} (state: FINISHED)")
        append_text(stderr, f"\t final status: {state}")
        if code:
            append_text(
                stderr,
                'Exception in thread "main" org.apache.spark.SparkException: '
                f"Application {application} finished with failed status",
            )


def _safe_path(below: str) -> Path:
    """A key's remainder as a relative path that stays where it belongs."""
    path = Path(below)
    if path.is_absolute() or ".." in path.parts:
        raise Refused("BadKey", f"{below!r} is no place inside the step's folder.")
    return path


def step_environ(*, work: Path, endpoint: str, region: str, access_key: str) -> dict[str, str]:
    """The environment of a step: nothing of the user's but PATH, and made-up credentials.

    HOME is the step's own folder: no profile, cache or start-up file of the user is read.
    """
    java = find_java(os.environ)
    path = f"{java / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {
        # Otherwise a killed step leaves folders in /tmp.
        **spark_environ({"PATH": path, "HOME": str(work)}, java, work / "tmp"),
        "SPARK_SUBMIT_OPTS": f'-Djava.io.tmpdir="{work / "tmp"}"',
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        **rehearsal_environ(endpoint, region, access_key),
    }


class StepQueue:
    """Runs the pending steps; `check` raises where the cluster ends meanwhile."""

    def __init__(
        self,
        cluster: Cluster,
        host: Host,
        *,
        logs: LogShipping,
        check: Callable[[], None],
    ) -> None:
        self._cluster, self._host, self._check = cluster, host, check
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
        run = StepRun(step, self._cluster, self._host, self._begun)
        # What ends the cluster in the middle leaves the step so (a guess).
        state, code = "INTERRUPTED", -1
        try:
            run.start()
            state, code = self._follow(step, run)
        finally:
            run.kill()
            run.finish()
            self._conclude(step, state, code)
            self._logs.ship()
        return state

    def _follow(self, step: Step, run: StepRun) -> tuple[str, int]:
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
