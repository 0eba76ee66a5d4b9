"""The embedded AWS where things go wrong as asked: the server process that tests start."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from fruits_cli.rehearsal.__main__ import drop_user_settings, main
from tests.support.faults import CONTROL, Fault, FaultBook, parse_fault, request_refusal

# moto reads its settings when it is imported.
drop_user_settings()

# ruff: noqa: E402
from fruits_cli.rehearsal.server import EmbeddedAws, parse_members, send
from fruits_cli.rehearsal.wire import (
    Answer,
    Call,
    Environ,
    Refused,
    json_answer,
    read_call,
    refusal,
)
from fruits_cli.rehearsal.world import Cluster, Ending

_HANG_S = 600.0
# Code and sentence as EMR's users quote them; the API reference has the code alone.
_CORE_LOST = Ending(
    "INSTANCE_FAILURE", "All slaves in the job flow were terminated due to Spot", with_errors=True
)
_TAKEN_BACK = {"Code": "INSTANCE_FAILURE", "Message": "Spot instance termination"}


class FaultyAws(EmbeddedAws):
    """Fails the user's requests and the bootstrap actions that it was asked to fail."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._faults = FaultBook()

    def check_script(self, number: int, script: bytes) -> tuple[int, str]:
        fault = self._faults.of_bootstrap(number)
        return (fault.status, fault.message) if fault else super().check_script(number, script)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CONTROL:
            return send(self._controlled(environ), start_response)
        call = read_call(environ)
        is_user = call is not None and call.access_key == self._keys.user
        path = environ["PATH_INFO"]
        if call is not None and call.access_key == self._keys.step:
            self._reclaim_for(path)
            if self._faults.of_stuck(call, path):
                self._keep_waiting(environ)
        fault = self._faults.of_request(call, path) if call and is_user else None
        if call is None or fault is None:
            return super().__call__(environ, start_response)
        return self._failing(fault, call, environ, start_response)

    def _keep_waiting(self, environ: Environ) -> None:
        _wait_until_closed(environ["werkzeug.socket"], self.stop_asked)
        raise ConnectionAbortedError("the rehearsal was asked to keep this request waiting")

    def _reclaim_for(self, path: str) -> None:
        """Take back nodes of the job's cluster, whose bucket the path begins with."""
        if (fault := self._faults.of_job(path)) is None:
            return
        bucket = path.split("/")[1]
        for cluster in self._world.clusters():
            if not cluster.is_final and f"//{bucket}/" in cluster.request["LogUri"]:
                self._take_back(cluster, fault.action)

    def _take_back(self, cluster: Cluster, role: str) -> None:
        """Without core nodes a cluster ends. Source: ManagementGuide, emr-plan-instances."""
        lost = [node for node in cluster.live_nodes() if node.role == role]
        ec2 = self._clients.client("ec2", cluster.region)
        ec2.terminate_instances(InstanceIds=[node.instance_id for node in lost])
        with cluster.changed:
            for node in lost:
                node.state, node.reason, node.timeline.ended = (
                    "TERMINATED",
                    _TAKEN_BACK,
                    time.time(),
                )
            if role == "CORE":
                cluster.ending = cluster.ending or _CORE_LOST
            cluster.changed.notify_all()

    def _controlled(self, environ: Environ) -> Answer:
        try:
            if environ["REQUEST_METHOD"] == "DELETE":
                self._faults.clear()
            else:
                self._faults.add(parse_fault(parse_members(environ)))
        except Refused as refused:
            return json_answer({"error": refused.message}, status=400)
        return json_answer({})

    def _failing(
        self, fault: Fault, call: Call, environ: Environ, start_response: Any
    ) -> Iterable[bytes]:
        if fault.kind == "unheeded":
            asked = parse_members(environ)["StepIds"]
            infos = [{"StepId": step_id, "Status": "SUBMITTED"} for step_id in asked]
            return send(json_answer({"CancelStepsInfoList": infos}), start_response)
        if fault.kind not in ("cut", "lost-answer", "hung-answer"):
            return send(refusal(call.service, request_refusal(fault, call)), start_response)
        if fault.kind != "cut":
            _read_whole(super().__call__(environ, _ignored))
        connection: socket.socket = environ["werkzeug.socket"]
        if fault.kind == "hung-answer":
            _wait_until_closed(connection, self.stop_asked)
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError("the rehearsal was asked to lose this answer")


def _read_whole(parts: Iterable[bytes]) -> bytes:
    """All bytes of a WSGI answer; closes it as WSGI asks."""
    try:
        return b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


def _ignored(status: str, headers: Any, exc_info: Any = None) -> Any:
    return lambda body: None


def _wait_until_closed(connection: socket.socket, stop_asked: threading.Event) -> None:
    """Keep the caller waiting until it gives up."""
    deadline = time.monotonic() + _HANG_S
    while time.monotonic() < deadline and not stop_asked.is_set():
        readable, _, _ = select.select([connection], [], [], 0.2)
        if readable and not connection.recv(1, socket.MSG_PEEK):
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], lambda: FaultyAws))
