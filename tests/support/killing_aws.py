"""The embedded AWS in a forked process, which kills its client when the n-th request arrives."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from fruits_cli.rehearsal.__main__ import drop_user_settings, patch_moto

# moto reads its settings when it is imported.
drop_user_settings()

# ruff: noqa: E402
from moto.autoscaling.models import autoscaling_backends
from moto.core.utils import get_service_model
from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends
from moto.iam.models import get_account_id_from, iam_backends
from moto.s3.models import s3_backends

from fruits_cli.rehearsal.host import Pace
from fruits_cli.rehearsal.server import EmbeddedAws, Keys
from fruits_cli.rehearsal.state import new_access_key, rehearsal_environ
from fruits_cli.rehearsal.wire import Call, Environ, read_body, read_call
from fruits_cli.rehearsal.world import ACCOUNT

patch_moto()
_READS = ("Describe", "List", "Get", "Head", "Simulate", "Lookup")
_CONTROL = "/_kill/"
REGION = "eu-west-3"
# How long an answer stays away after the last signal: what the signal set off may be seen.
_LATE_S = 0.1


@dataclass(frozen=True)
class Kill:
    """Signals for one process at its n-th request.

    signals: numbers, each with the seconds since the one before. is_applied: whether the request
    takes effect before the first signal. what: `changes`, or the name of an operation.
    """

    pid: int
    nth: int
    signals: tuple[tuple[int, float], ...]
    is_applied: bool
    what: str = "changes"

    def is_about(self, call: Call) -> bool:
        if self.what == "changes":
            return not call.action.startswith(_READS)
        return call.action == self.what


class KillingAws(EmbeddedAws):
    """Kills once as it is told to; tells what lives."""

    def __init__(self, folder: Path, *, keys: Keys, pace: Pace) -> None:
        super().__init__(folder, keys=keys, pace=pace, quota_vcpus=1000)
        self.access_key = keys.user
        self._kill: Kill | None = None
        self._counted = 0
        self._struck = ""
        self._counting = threading.Lock()

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(_CONTROL):
            return self._told(environ, start_response)
        call = read_call(environ)
        if call is None or call.access_key != self.access_key or not self._strikes(call):
            return super().__call__(environ, start_response)
        assert self._kill is not None
        if self._kill.is_applied:
            answer = super().__call__(environ, start_response)
            self._strike(self._kill)
            return answer
        # What lies unread in the socket would hide that the client is gone.
        read_body(environ)
        self._strike(self._kill)
        connection: socket.socket = environ["werkzeug.socket"]
        readable, _, _ = select.select([connection], [], [], 0)
        if readable and not connection.recv(1, socket.MSG_PEEK):
            raise ConnectionAbortedError("the client is gone, and its request with it")
        return super().__call__(environ, start_response)

    def _strikes(self, call: Call) -> bool:
        with self._counting:
            if self._kill is None or self._struck or not self._kill.is_about(call):
                return False
            self._counted += 1
            if self._counted != self._kill.nth:
                return False
            self._struck = f"{call.service}:{call.action}"
            return True

    def _strike(self, kill: Kill) -> None:
        for number, after_s in kill.signals:
            time.sleep(after_s)
            with suppress(ProcessLookupError):
                os.kill(kill.pid, number)
        if kill.signals[-1][0] == signal.SIGKILL:
            while _is_alive(kill.pid):
                time.sleep(0.005)
        time.sleep(_LATE_S)

    def _told(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if body:
            told = json.loads(body)
            pairs = tuple((int(number), float(after)) for number, after in told.pop("signals"))
            with self._counting:
                self._kill, self._counted, self._struck = Kill(signals=pairs, **told), 0, ""
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self._seen()).encode()]

    def _seen(self) -> dict[str, Any]:
        clusters = [
            {
                "id": cluster.cluster_id,
                "name": cluster.request["Name"],
                "lives": not cluster.is_final and cluster.ending is None,
                "ended": cluster.is_final,
                "launch_id": cluster.tags.get("fruits:launch-id", ""),
            }
            for cluster in self._world.clusters()
        ]
        buckets = s3_backends[ACCOUNT]["aws"].buckets
        keys = {name: list(bucket.keys.keys()) for name, bucket in buckets.items()}
        groups = [
            group
            for of_vpc in ec2_backends[ACCOUNT][REGION].groups.values()
            for group in of_vpc.values()
        ]
        return {
            "struck": self._struck,
            "counted": self._counted,
            "clusters": clusters,
            "groups": [one.name for one in groups if one.name.startswith("fruits-")],
            "rules": [
                f"{one.name} {rule.from_port}"
                for one in groups
                for rule in one.ingress_rules
                if rule.from_port == 22
            ],
            "locks": [key for found in keys.values() for key in found if "/locks/" in key],
            "unruled": [name for name, bucket in buckets.items() if not bucket.rules],
            "chunks": [key for found in keys.values() for key in found if "/_chunks/" in key],
        }


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@dataclass(frozen=True)
class Server:
    """A server of one cell: how to reach it, and how to tell it what to do."""

    pid: int
    port: int
    environ: dict[str, str]

    def ask(self, kill: Kill | None = None) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            body = json.dumps(asdict(kill)) if kill else None
            connection.request("POST" if kill else "GET", _CONTROL, body)
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()


def warm_up() -> None:
    """Load in the parent what each forked server would load again."""
    from moto.moto_server.werkzeug_app import create_backend_app

    for service in ("ec2", "iam", "s3", "sts"):
        create_backend_app(service)
        get_service_model(service)
    iam_backends[ACCOUNT]["aws"].list_roles()
    ec2_backends[ACCOUNT][REGION].describe_security_groups()
    # What the first request with a key, and the end of an instance, would load.
    get_account_id_from("nobody's")
    for backends in (autoscaling_backends, elbv2_backends):
        assert backends[ACCOUNT][REGION]


@contextmanager
def forked_aws(folder: Path, spark: Path) -> Iterator[Server]:
    """A fresh account, whose steps are run by the pyspark in `spark`, in a child process."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiving)
        try:
            _serve(folder, spark, sending)
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as told:
        port, key = told.readline().split()
    environ = rehearsal_environ(f"http://127.0.0.1:{port}", REGION, key)
    try:
        yield Server(pid, int(port), environ)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def _serve(folder: Path, spark: Path, told: int) -> None:
    os.setsid()
    with (folder / "server.log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # The job has its own tests with Spark; the matrix is about what surrounds it.
    sys.path.insert(0, str(spark))
    keys = Keys(new_access_key(), new_access_key(), new_access_key())
    aws = KillingAws(folder, keys=keys, pace=Pace(minutes_per_second=600))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: aws.stop_asked.set())
    aws.start()
    os.write(told, f"{aws.port} {keys.user}\n".encode())
    os.close(told)
    # Whoever started the matrix may have been killed, and leaves no server behind.
    parent = os.getppid()
    while not aws.stop_asked.wait(1.0) and os.getppid() == parent:
        pass
    aws.stop()
