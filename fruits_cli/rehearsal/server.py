"""The embedded AWS on 127.0.0.1: who may send requests, and which service answers.

A step runs commands on this machine, so only its user may send requests: each is signed with an
access key that only the state file holds (128 random bits, 0600) and names this server as its
Host, and no web page may read or send anything (no CORS, no unsigned route but the text at a
presigned address, which has a secret of its own).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import astuple, dataclass
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

from fruits_cli.rehearsal.account import everything_allowed, vcpu_quota
from fruits_cli.rehearsal.app_ui import PAGES, AppUis
from fruits_cli.rehearsal.bootstrap import check_script
from fruits_cli.rehearsal.ec2 import InternetGateways
from fruits_cli.rehearsal.emr import Emr
from fruits_cli.rehearsal.host import Clients, Host, Pace
from fruits_cli.rehearsal.primary_node import PrimaryNodes
from fruits_cli.rehearsal.s3 import S3Checks
from fruits_cli.rehearsal.wire import (
    Answer,
    Call,
    Environ,
    Refused,
    console_output,
    read_body,
    read_call,
    refusal,
)
from fruits_cli.rehearsal.world import ACCOUNT, World


@dataclass(frozen=True)
class Keys:
    """The three access keys that may sign: the user's, a step's, and EMR's own."""

    user: str
    step: str
    emr: str


class _RequestHandler(MotoRequestHandler):  # type: ignore[misc]
    # Head and body leave in two packets; the second would wait 40 ms for the first one's receipt.
    disable_nagle_algorithm = True


class EmbeddedAws:
    """The WSGI application and the clusters behind it."""

    def __init__(self, folder: Path, *, keys: Keys, pace: Pace, quota_vcpus: int) -> None:
        self._keys, self._quota_vcpus = keys, quota_vcpus
        self.stop_asked = threading.Event()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self, threaded=True, request_handler=_RequestHandler
        )
        self.port = self._server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._clients = Clients(self.endpoint, keys.emr)
        self._world = World()
        self._primaries = PrimaryNodes()
        self.ssh_port = self._primaries.port
        host = Host(
            folder=folder,
            endpoint=self.endpoint,
            step_key=keys.step,
            pace=pace,
            clients=self._clients,
            world=self._world,
            quota_vcpus=quota_vcpus,
            check_script=self.check_script,
            primaries=self._primaries,
        )
        self._app_uis = AppUis(self.endpoint, folder / "logs", pace)
        self._emr = Emr(host, self._app_uis)
        self._s3 = S3Checks(self._moto, _bucket_region)
        self._gateways = InternetGateways(self._clients)

    def start(self) -> None:
        """Answer requests from now on."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End all steps and clusters, then the server."""
        self._emr.end_all()
        self._server.shutdown()
        self._server.server_close()

    def check_script(self, number: int, script: bytes) -> tuple[int, str]:
        """Exit code and stderr of the numbered bootstrap action."""
        return check_script(script)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ.get("HTTP_HOST") not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return send(Answer(403, (), b"Not this host.\n"), start_response)
        if environ["PATH_INFO"].startswith(PAGES):
            return send(self._app_uis.page(environ), start_response)
        call = read_call(environ)
        if call is None or call.access_key not in astuple(self._keys):
            return send(_unknown_key(call), start_response)
        if call.service == "s3":
            return self._s3(call, environ, start_response)
        try:
            answer = self._own_answer(call, environ)
        except Refused as refused:
            answer = refusal(call.service, refused)
        if answer is None:
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        return send(answer, start_response)

    def _own_answer(self, call: Call, environ: Environ) -> Answer | None:
        """The answer where moto has none, or None."""
        if call.service == "elasticmapreduce":
            return self._emr.answer(call, parse_members(environ))
        if call.service == "pricing" or call.action == "DescribeSpotPriceHistory":
            # fruits takes the prices of its built-in table then, and says so.
            raise Refused("UnsupportedOperation", "The rehearsal has no prices.")
        if call.service == "servicequotas":
            return vcpu_quota(call, parse_members(environ), self._quota_vcpus)
        if (call.service, call.action) == ("iam", "SimulatePrincipalPolicy"):
            return everything_allowed(parse_qs(read_body(environ).decode()))
        if (call.service, call.action) == ("ec2", "GetConsoleOutput"):
            return self._console(parse_qs(read_body(environ).decode()))
        # A request of `ensure` itself would wait for its own lock.
        is_own = call.access_key == self._keys.emr
        if (call.service, call.action) == ("ec2", "DescribeRouteTables") and not is_own:
            self._gateways.ensure(call.region)
        return None

    def _console(self, form: dict[str, list[str]]) -> Answer | None:
        (instance_id,) = form.get("InstanceId", [""])
        console = self._primaries.console(instance_id)
        return None if console is None else console_output(instance_id, console)


def parse_members(environ: Environ) -> dict[str, Any]:
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


def _unknown_key(call: Call | None) -> Answer:
    message = "The access key id is not the one of this rehearsal; see its state file."
    code = "InvalidAccessKeyId" if call and call.service == "s3" else "UnrecognizedClientException"
    return refusal(call.service if call else "s3", Refused(code, message, status=403))


def send(answer: Answer, start_response: Any) -> Iterable[bytes]:
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    start_response(f"{answer.status} {'OK' if answer.status < 400 else 'Refused'}", headers)
    return [answer.body]
