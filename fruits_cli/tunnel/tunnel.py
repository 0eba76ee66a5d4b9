"""A whole tunnel: listeners, link, PAC file and the pages that it opens."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from paramiko import PKey

from fruits_cli.config import TunnelConfig
from fruits_cli.errors import TunnelError
from fruits_cli.files import templates_dir
from fruits_cli.tunnel.connection import Link
from fruits_cli.tunnel.goal import Goal
from fruits_cli.tunnel.host_keys import HostKey, PinFile, Verdict, judge
from fruits_cli.tunnel.pac import pac_file
from fruits_cli.tunnel.ports import LOOPBACK, Acceptor, listen_on
from fruits_cli.tunnel.relay import OpenFailed
from fruits_cli.tunnel.servers import file_server, forward_server, open_first, socks_server
from fruits_cli.tunnel.socks import Reply, Target
from fruits_cli.tunnel.transport import ForwardTransport, open_connection

_TRIES = 20
_LAST_PORT = 65535
_WAIT_S, _POLL_S = 120.0, 1.0
_PAC_TYPE = "application/x-ns-proxy-autoconfig"


@dataclass(frozen=True)
class Application:
    """A page of the cluster that gets a port of its own here."""

    name: str
    scheme: str
    port: int
    what: str


# Source: EMR Management Guide, view web interfaces. Livy is left out: through a port of
# this machine any web page could send it code.
APPLICATIONS = (
    Application("jupyterhub", "https", 9443, "JupyterHub: notebooks on the cluster"),
    Application("spark", "http", 18080, "Spark History Server: jobs, stages and executors"),
    Application("yarn", "http", 8088, "YARN: applications, nodes and their logs"),
)


@dataclass(frozen=True)
class Page:
    """An address to type into a browser, what it shows, and why not yet; empty where it does."""

    name: str
    url: str
    what: str
    port: int
    fault: str = ""


@dataclass(frozen=True)
class Tunnel:
    """Ports and pages of an open tunnel."""

    socks_port: int
    pac_text: str
    pac_url: str
    pages: tuple[Page, ...]

    def page(self, name: str) -> Page:
        """The page of an application."""
        return next(page for page in self.pages if page.name == name)

    def with_fault(self, name: str, fault: str) -> Tunnel:
        """The same, with a page that does not work yet."""
        pages = (replace(page, fault=fault) if page.name == name else page for page in self.pages)
        return replace(self, pages=tuple(pages))


def make_link(
    goal: Goal, keys: list[PKey], *, pins: PinFile, ask: Callable[[HostKey], None]
) -> Link:
    """The link to the goal, not yet started.

    ask: about a host key that is neither expected nor pinned; raises where it is not trusted.
    """
    name = goal.endpoint.name
    is_first = True

    def check(key: HostKey) -> None:
        verdict = judge(key, name=name, pinned=pins.keys(name), expected=goal.expected)
        if verdict is Verdict.ASK:
            ask(key)
        if verdict is not Verdict.TRUSTED:
            pins.pin(name, key)

    def connect() -> ForwardTransport:
        nonlocal is_first
        if not is_first:
            goal.before_again()
        is_first = False
        return open_connection(
            goal.endpoint,
            keys,
            check=check,
            known_kinds=[key.kind for key in pins.keys(name)],
            try_all_kinds=bool(goal.expected),
        )

    return Link(connect)


@contextmanager
def open_tunnel(
    link: Link,
    goal: Goal,
    *,
    socks_port: int,
    wanted: Collection[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Tunnel]:
    """A tunnel that serves until the end of the block; after it nothing listens.

    The ports are taken first, so that one in use is known before the login. Pages that are
    `wanted` are waited for. Raises TunnelError.
    """
    acceptor = Acceptor()
    try:
        tunnel = _add_listeners(acceptor, link, goal, socks_port)
        link.start()
        answering = asyncio.run(find_answering(link, goal, wanted=wanted, tell=tell))
        goal.prepare(link)
        acceptor.start()
        for page in tunnel.pages:
            if page.name not in answering:
                tunnel = tunnel.with_fault(page.name, "no answer yet")
        yield tunnel
    finally:
        # First: the loop may be waiting for a host that does not answer.
        link.close()
        acceptor.close()


async def find_answering(
    link: Link, goal: Goal, *, wanted: Collection[str], tell: Callable[[str], None]
) -> frozenset[str]:
    """The names of those that accept a connection now; for those `wanted` it waits two minutes.

    Raises TunnelError where the host forbids every forward: a connection refused is one allowed.
    """
    answering, refusals = set[str](), set[Reply]()
    for application in APPLICATIONS:
        refusal = await _refusal(link, goal, application)
        if refusal is None:
            answering.add(application.name)
        else:
            refusals.add(refusal)
    if not answering and refusals == {Reply.NOT_ALLOWED}:
        raise TunnelError(
            f"{goal.endpoint.host} forbids forwarding.",
            hint="Its sshd_config must say AllowTcpForwarding yes (or local).",
        )
    missing = [each for each in APPLICATIONS if each.name in set(wanted) - answering]
    if missing:
        names = " and ".join(each.name for each in missing)
        tell(f"Waiting for {names}, which may still be starting: two minutes at most.")
    deadline = time.monotonic() + _WAIT_S
    while missing and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        for application in list(missing):
            if await _refusal(link, goal, application) is None:
                answering.add(application.name)
                missing.remove(application)
    return frozenset(answering)


async def _refusal(link: Link, goal: Goal, application: Application) -> Reply | None:
    """Why it takes no connection; None where it does."""
    try:
        (await open_first(link, _targets(goal, application))).close()
    except OpenFailed as error:
        return error.reply
    return None


def _targets(goal: Goal, application: Application) -> tuple[Target, ...]:
    return tuple(Target(host, application.port) for host in goal.hosts)


def ssh_command(goal: Goal, config: TunnelConfig, *, known_hosts: Path) -> str:
    """The `ssh` line that opens the same ports and trusts the same host key."""
    endpoint = goal.endpoint
    host = f"[{goal.hosts[0]}]" if ":" in goal.hosts[0] else goal.hosts[0]
    options = {
        "ServerAliveInterval": "10",
        "ExitOnForwardFailure": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "HostKeyAlias": endpoint.name,
        "StrictHostKeyChecking": "ask",
    }
    words = ["ssh", "-N", "-p", str(endpoint.port), "-D", f"{LOOPBACK}:{config.port}"]
    for application in APPLICATIONS:
        words += ["-L", f"{LOOPBACK}:{application.port}:{host}:{application.port}"]
    if config.key_file is not None:
        words += ["-i", str(config.key_file)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join([*words, f"{endpoint.user}@{endpoint.host}"])


def _add_listeners(acceptor: Acceptor, link: Link, goal: Goal, socks_port: int) -> Tunnel:
    acceptor.add(listen_on(socks_port), socks_server(link, goal.reachable))
    template = (templates_dir() / "proxy.pac").read_text(encoding="utf-8")
    text = pac_file(template, goal.reachable, socks_port=socks_port)
    pac = listen_on(min(socks_port + 1, _LAST_PORT - _TRIES), tries=_TRIES)
    pac_port = int(pac.getsockname()[1])
    acceptor.add(pac, file_server(text, port=pac_port, content_type=_PAC_TYPE))
    pages = tuple(_add_forward(acceptor, link, goal, each) for each in APPLICATIONS)
    return Tunnel(socks_port, text, f"http://{LOOPBACK}:{pac_port}/proxy.pac", pages)


def _add_forward(acceptor: Acceptor, link: Link, goal: Goal, application: Application) -> Page:
    sock = listen_on(application.port, tries=_TRIES)
    port = int(sock.getsockname()[1])
    http_port = port if application.scheme == "http" else None
    serve = forward_server(link, _targets(goal, application), http_port=http_port)
    acceptor.add(sock, serve)
    url = f"{application.scheme}://{LOOPBACK}:{port}/"
    return Page(application.name, url, application.what, port)
