"""The embedded AWS on 127.0.0.1: who may ask, which service answers, what goes wrong on the way.

A step runs commands on this machine, so nobody else may ask: every request is signed with an
access key that only the state file tells (128 random bits, 0600), carries this server's own name as
its Host, and no page of a browser may read or send anything (no CORS, no unsigned route but the
text behind a presigned address, which has a secret of its own).
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from fruits_cli.rehearsal.account import Quotas, everything_allowed
from fruits_cli.rehearsal.app_ui import PAGES, AppUis
from fruits_cli.rehearsal.cluster_life import Life, Pace, Surroundings
from fruits_cli.rehearsal.emr import Emr
from fruits_cli.rehearsal.faults import Fault, FaultBook, parse_fault, request_refusal
from fruits_cli.rehearsal.inside import Inside
from fruits_cli.rehearsal.network import WaysOut
from fruits_cli.rehearsal.nodes import Ec2Side
from fruits_cli.rehearsal.s3 import S3Gate
from fruits_cli.rehearsal.wire import (
    Answer,
    Call,
    Environ,
    Refused,
    full_body,
    json_answer,
    read_body,
    read_call,
    refusal,
)
from fruits_cli.rehearsal.world import ACCOUNT, Cluster, Region, World

CONTROL = "/_rehearsal/"
CONTROL_KEY = "X-Rehearsal-Key"
_HANG_S = 600.0


@dataclass(frozen=True)
class Keys:
    """Access keys of the three who ask: the user, a step, and EMR itself."""

    user: str
    step: str
    inside: str

    def caller(self, access_key: str) -> str | None:
        for name in ("user", "step", "inside"):
            if getattr(self, name) == access_key:
                return name
        return None


class _RequestHandler(MotoRequestHandler):  # type: ignore[misc]
    # Head and body leave in two packets; the second would wait 40 ms for the first one's receipt.
    disable_nagle_algorithm = True


class EmbeddedAws:
    """The WSGI application and the clusters behind it."""

    def __init__(self, folder: Path, *, keys: Keys, pace: Pace, quota_vcpus: int) -> None:
        self._keys, self._folder, self._pace = keys, folder, pace
        self.faults, self.stop_asked = FaultBook(), threading.Event()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self, threaded=True, request_handler=_RequestHandler
        )
        self.port = self._server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._inside = Inside(self.endpoint, keys.inside)
        self._world, self._quotas = World(), Quotas(quota_vcpus, self.faults)
        self._app_uis = AppUis(self.endpoint, folder / "logs", pace)
        self._emr = Emr(self._world, self._inside, self._begin, self._app_uis)
        self._s3 = S3Gate(self._moto, _bucket_region)
        self._ways_out = WaysOut(self._inside)

    def start(self) -> None:
        """Answer requests from now on."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End all steps and clusters, then the server."""
        self._emr.end_all()
        self._server.shutdown()
        self._server.server_close()

    def _begin(self, cluster: Cluster, region: Region) -> Life:
        def ec2() -> Ec2Side:
            return Ec2Side(cluster, region, self._world, self._quotas, self._inside)

        around = Surroundings(
            folder=self._folder,
            endpoint=self.endpoint,
            step_key=self._keys.step,
            pace=self._pace,
            faults=self.faults,
            inside=self._inside,
        )
        life = Life(cluster, ec2, around)
        life.start()
        return life

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ.get("HTTP_HOST") not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return _send(Answer(403, (), b"Not this host.\n"), start_response)
        if environ["PATH_INFO"].startswith(CONTROL):
            return _send(self._control(environ), start_response)
        if environ["PATH_INFO"].startswith(PAGES):
            return _send(self._app_uis.page(environ), start_response)
        call = read_call(environ)
        caller = None if call is None else self._keys.caller(call.access_key)
        if call is None or caller is None:
            return _send(_stranger(call), start_response)
        fault = None if caller == "inside" else self.faults.of_request(call, caller)
        if fault is None:
            return self._routed(call, environ, start_response)
        return self._failing(fault, call, environ, start_response)

    def _routed(self, call: Call, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if call.service == "s3":
            return self._s3(call, environ, start_response)
        try:
            answer = self._own_answer(call, environ)
        except Refused as refused:
            answer = refusal(call.service, refused)
        if answer is None:
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        return _send(answer, start_response)

    def _own_answer(self, call: Call, environ: Environ) -> Answer | None:
        """What moto cannot answer; None leaves it to moto."""
        if call.service == "elasticmapreduce":
            return self._emr.answer(call, _members(environ))
        if call.service == "pricing" or call.action == "DescribeSpotPriceHistory":
            # fruits takes the prices of its built-in table then, and says so.
            raise Refused("UnsupportedOperation", "The rehearsal has no prices.")
        if call.service == "servicequotas":
            return self._quotas.answer(call, _members(environ))
        if (call.service, call.action) == ("iam", "SimulatePrincipalPolicy"):
            return everything_allowed(parse_qs(read_body(environ).decode()))
        # What the rehearsal itself asks while it opens one would wait for itself.
        is_inside = call.access_key == self._keys.inside
        if (call.service, call.action) == ("ec2", "DescribeRouteTables") and not is_inside:
            self._ways_out.open(call.region)
        return None

    def _failing(
        self, fault: Fault, call: Call, environ: Environ, start_response: Any
    ) -> Iterable[bytes]:
        if fault.kind not in ("lost-answer", "hung-answer"):
            return _send(refusal(call.service, request_refusal(fault, call)), start_response)
        full_body(self._routed(call, environ, _ignored))
        connection: socket.socket = environ["werkzeug.socket"]
        if fault.kind == "hung-answer":
            _wait_until_closed(connection, self.stop_asked)
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError("the rehearsal was asked to lose this answer")

    def _control(self, environ: Environ) -> Answer:
        """Faults and the end, for whoever read the state file."""
        if environ.get("HTTP_X_REHEARSAL_KEY") != self._keys.user:
            return Answer(403, (), b"Not without the key of the state file.\n")
        asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(CONTROL))
        try:
            return self._controlled(asked, environ)
        except Refused as refused:
            return json_answer({"error": refused.message}, status=400)

    def _controlled(self, asked: tuple[str, str], environ: Environ) -> Answer:
        if asked == ("GET", ""):
            return json_answer({"pid": os.getpid()})
        if asked == ("POST", "faults"):
            self.faults.add(parse_fault(_members(environ)))
        elif asked == ("DELETE", "faults"):
            self.faults.clear()
        elif asked == ("POST", "stop"):
            self.stop_asked.set()
        elif asked != ("GET", "faults"):
            raise Refused("Unknown", f"There is no {' '.join(asked)}.")
        return json_answer({"faults": self.faults.listed()})


def _members(environ: Environ) -> dict[str, Any]:
    try:
        members = json.loads(read_body(environ) or b"{}")
    except ValueError as error:
        raise Refused("SerializationException", f"The body is not JSON: {error}") from error
    if not isinstance(members, dict):
        raise Refused("SerializationException", "The body is not a JSON object.")
    return members


def _bucket_region(bucket: str) -> str | None:
    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    return None if found is None else str(found.region_name)


def _stranger(call: Call | None) -> Answer:
    message = "The access key id is not the one of this rehearsal; see its state file."
    code = "InvalidAccessKeyId" if call and call.service == "s3" else "UnrecognizedClientException"
    return refusal(call.service if call else "s3", Refused(code, message, status=403))


def _send(answer: Answer, start_response: Any) -> Iterable[bytes]:
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    start_response(f"{answer.status} {'OK' if answer.status < 400 else 'Refused'}", headers)
    return [answer.body]


def _ignored(status: str, headers: Any, exc_info: Any = None) -> Any:
    return lambda body: None


def _wait_until_closed(connection: socket.socket, stop_asked: threading.Event) -> None:
    """Keep the caller waiting until it gives up."""
    deadline = time.monotonic() + _HANG_S
    while time.monotonic() < deadline and not stop_asked.is_set():
        readable, _, _ = select.select([connection], [], [], 0.2)
        if readable and not connection.recv(1, socket.MSG_PEEK):
            return
