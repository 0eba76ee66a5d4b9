"""JupyterHub's password, its certificate's key, and a server of its user, started and awaited."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import (
    HTTPCookieProcessor,
    HTTPErrorProcessor,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from fruits_cli.cloud.protocols import Clock
from fruits_cli.errors import TunnelError
from fruits_cli.files import write_private

if TYPE_CHECKING:
    from fruits_cli.tunnel.connection import Link

USER = "jovyan"
# The user is one of the container, not of the node. Source: EMR Release Guide, JupyterHub,
# PAM authentication. The password comes on stdin: arguments are for all users to see.
SET_PASSWORD = "sudo docker exec -i jupyterhub chpasswd"
_PASSWORD_BYTES = 18
_TIMEOUT_S = 30.0
_SERVER = f"api/users/{USER}/server"
# JupyterHub itself gives a server 60 s to start and 30 s more to answer.
_START_S, _POLL_S = 120.0, 1.0
_WHAT_TO_DO = (
    "Its log, on the primary node: sudo docker logs --tail 50 jupyterhub\n"
    "Known of EMR 7.11: S3_ENDPOINT_URL in JupyterHub's configuration must not begin with "
    "https://; take that out, then sudo docker restart jupyterhub."
)


def password_file(state_dir: Path, cluster_id: str) -> Path:
    """Where the password of a cluster's JupyterHub is kept, for this user only."""
    return state_dir / "clusters" / cluster_id / "jupyterhub-password"


def load_password(file: Path) -> str:
    """The password that the first tunnel set. Raises TunnelError while none was."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise TunnelError(
            "No tunnel of this machine has set JupyterHub's password yet.",
            hint="Open one with fruits tunnel.",
        ) from error


def ensure_password(link: Link, file: Path) -> str:
    """The password of JupyterHub's user, set on the cluster if this machine never did."""
    if file.exists():
        return load_password(file)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    link.run(SET_PASSWORD, stdin=f"{USER}:{password}\n".encode())
    write_private(file, f"{password}\n")
    return password


def certificate_key_hash(port: int) -> str:
    """Base64 of the SHA-256 of the certificate's key, as Chromium wants it, from a local forward.

    The certificate signs itself; it is trusted because of the SSH connection it came through.
    """
    try:
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=_TIMEOUT_S)
    except OSError as error:
        raise TunnelError(
            "JupyterHub does not answer on the cluster.",
            hint="It starts some minutes after the cluster; is the application installed?",
        ) from error
    key = load_pem_x509_certificate(pem.encode()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def start_server(port: int, password: str, *, clock: Clock) -> None:
    """Return once JupyterHub, behind a local forward, runs a single-user server of its user.

    A login page alone proves nothing. Raises TunnelError with JupyterHub's own reason.
    Source: JupyterHub REST API; seen with 1.5.0, which is EMR's, and 6.1.1.
    """
    hub = _Hub(port)
    hub.log_in(password)
    status, answer = hub.ask(_SERVER, b"")
    deadline = clock.monotonic() + _START_S
    while not (user := hub.user())["server"]:
        if not user["pending"]:
            raise _no_server(hub.last_failure() or _message(answer) or f"it answers {status}")
        if clock.monotonic() >= deadline:
            raise _no_server(f"it is not up after {_START_S:.0f} s")
        clock.sleep(_POLL_S)


def _no_server(reason: str) -> TunnelError:
    why = f": {reason.rstrip('.')}" if reason else ""
    return TunnelError(f"JupyterHub starts no server for {USER}{why}.", hint=_WHAT_TO_DO)


def _message(answer: bytes) -> str:
    with suppress(ValueError, AttributeError):
        return str(json.loads(answer).get("message", ""))
    return ""


class _Unchanged(HTTPErrorProcessor):
    """Redirects and refusals are answers like any other."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


class _Hub:
    """JupyterHub's pages and REST API, with the cookies of one session."""

    def __init__(self, port: int) -> None:
        self._base = f"https://127.0.0.1:{port}/hub/"
        # The SSH connection proves which server it is, not the certificate.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._cookies = CookieJar()
        self._opener = build_opener(
            ProxyHandler({}),
            HTTPSHandler(context=context),
            HTTPCookieProcessor(self._cookies),
            _Unchanged,
        )

    def log_in(self, password: str) -> None:
        """Raises TunnelError where JupyterHub does not take the password."""
        self.ask("login")
        form = {"username": USER, "password": password, "_xsrf": self._xsrf()}
        status, _ = self.ask("login", urlencode(form).encode(), kind="x-www-form-urlencoded")
        if status != 302:
            raise TunnelError(
                f"JupyterHub does not take {USER}'s password that this machine knows.",
                hint="Another machine's tunnel may have set its own since: use that one's.",
            )
        # The token against forged requests is another one after the login.
        self.ask("home")

    def ask(self, path: str, body: bytes | None = None, *, kind: str = "json") -> tuple[int, bytes]:
        """Status and body; a POST where there is a body. Raises TunnelError without an answer."""
        headers = {"Referer": self._base, "X-XSRFToken": self._xsrf()}
        headers |= {} if body is None else {"Content-Type": f"application/{kind}"}
        request = Request(self._base + path, body, headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except (OSError, HTTPException) as error:
            raise TunnelError("JupyterHub does not answer.", hint=_WHAT_TO_DO) from error

    def user(self) -> Mapping[str, Any]:
        """The hub's own view of the user: `server` once one runs, `pending` while it starts."""
        status, answer = self.ask(f"api/users/{USER}")
        try:
            found = json.loads(answer)
            return {name: found[name] for name in ("server", "pending")}
        except (ValueError, TypeError, KeyError) as error:
            raise _no_server(_message(answer) or f"it answers {status}") from error

    def last_failure(self) -> str:
        """Why the last start failed, out of its stream of events; empty where it does not say."""
        _, answer = self.ask(f"{_SERVER}/progress")
        events = [line for line in answer.splitlines() if line.startswith(b"data:")]
        return _message(events[-1].removeprefix(b"data:")) if events else ""

    def _xsrf(self) -> str:
        return next((c.value or "" for c in self._cookies if c.name == "_xsrf"), "")
