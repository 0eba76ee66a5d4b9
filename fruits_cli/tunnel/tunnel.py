"""A whole tunnel: listeners, link, PAC file and the pages that it opens."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fruits_cli.errors import TunnelError
from fruits_cli.tunnel.connection import Link
from fruits_cli.tunnel.host_keys import HostKey, PinFile, Verdict, judge
from fruits_cli.tunnel.keys import load_keys
from fruits_cli.tunnel.pac import pac_file
from fruits_cli.tunnel.ports import LOOPBACK, Acceptor, Listener, listening
from fruits_cli.tunnel.reachable import Reachable
from fruits_cli.tunnel.relay import open_in_time
from fruits_cli.tunnel.servers import file_server, forward_server, socks_server
from fruits_cli.tunnel.socks import Reply, Target
from fruits_cli.tunnel.transport import Endpoint, ForwardTransport, OpenFailed, connected

_TRIES = 20
_LAST_PORT = 65535
_DISCARD_PORT = 9
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
class TunnelSpec:
    """What to open: `hosts` are tried in order for each application's port."""

    endpoint: Endpoint
    reachable: Reachable
    hosts: tuple[str, ...]
    socks_port: int
    pac_template: str


@dataclass(frozen=True)
class Page:
    """An address to type into a browser, and what it shows."""

    name: str
    url: str
    what: str
    port: int


@dataclass(frozen=True)
class Tunnel:
    """What stands open."""

    socks_port: int
    pac_text: str
    pac_url: str
    pages: tuple[Page, ...]

    def page(self, name: str) -> Page:
        """The page of an application."""
        return next(page for page in self.pages if page.name == name)


@dataclass(frozen=True)
class Trust:
    """Which host keys to take; `ask` returns where the user vouches for one, else raises."""

    pins: PinFile
    expected: frozenset[str]
    ask: Callable[[HostKey], None]

    def check(self, name: str, key: HostKey) -> None:
        """Pin a new key. Raises HostKeyRefused, or what `ask` raises, where it is not to be."""
        verdict = judge(key, name=name, pinned=self.pins.keys(name), expected=self.expected)
        if verdict is Verdict.ASK:
            self.ask(key)
        if verdict is not Verdict.TRUSTED:
            self.pins.pin(name, key)


def link_to(
    endpoint: Endpoint,
    *,
    key_file: Path | None,
    trust: Trust,
    before_again: Callable[[], None] = lambda: None,
) -> Link:
    """The link to `endpoint`, not yet started. Raises UsageError on a bad key file.

    before_again: runs before every attempt but the first; what it raises ends the link.
    """
    keys = load_keys(key_file)
    tried = False

    def connect() -> ForwardTransport:
        nonlocal tried
        if tried:
            before_again()
        tried = True
        return connected(
            endpoint,
            keys,
            check=lambda key: trust.check(endpoint.name, key),
            known_kinds=[key.kind for key in trust.pins.keys(endpoint.name)],
            try_all_kinds=bool(trust.expected),
        )

    return Link(connect)


@contextmanager
def opened_tunnel(
    link: Link, spec: TunnelSpec, *, prepare: Callable[[Link], None]
) -> Iterator[Tunnel]:
    """A tunnel that serves until the end of the block; after it nothing listens.

    The ports are taken first, so that one in use is known before anyone is asked to log in;
    `prepare` runs on the link before the first connection is served. Raises TunnelError.
    """
    acceptor = Acceptor()
    try:
        tunnel = _add_listeners(acceptor, link, spec)
        link.start()
        check_forwarding(link, spec)
        prepare(link)
        acceptor.start()
        yield tunnel
    finally:
        acceptor.close()
        link.close()


def check_forwarding(link: Link, spec: TunnelSpec) -> None:
    """Raise TunnelError where the host forbids every forward that we want."""
    # Nobody listens on the discard port, but a connection refused is a forward allowed.
    targets = [Target("localhost", _DISCARD_PORT)]
    targets += [Target(spec.hosts[0], application.port) for application in APPLICATIONS]
    for target in targets:
        try:
            open_in_time(lambda target=target: link.open(target)).close()  # type: ignore[misc]
        except OpenFailed as error:
            if error.reply is not Reply.NOT_ALLOWED:
                return
        else:
            return
    raise TunnelError(
        f"{spec.endpoint.host} forbids forwarding.",
        hint="Its sshd_config must say AllowTcpForwarding yes (or local).",
    )


def ssh_command(spec: TunnelSpec, *, key_file: Path | None, known_hosts: Path) -> str:
    """The `ssh` line that opens the same ports and trusts the same host key."""
    endpoint = spec.endpoint
    host = f"[{spec.hosts[0]}]" if ":" in spec.hosts[0] else spec.hosts[0]
    options = {
        "ServerAliveInterval": "10",
        "ExitOnForwardFailure": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "HostKeyAlias": endpoint.name,
        "StrictHostKeyChecking": "ask",
    }
    words = ["ssh", "-N", "-p", str(endpoint.port), "-D", f"{LOOPBACK}:{spec.socks_port}"]
    for application in APPLICATIONS:
        words += ["-L", f"{LOOPBACK}:{application.port}:{host}:{application.port}"]
    if key_file is not None:
        words += ["-i", str(key_file)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join([*words, f"{endpoint.user}@{endpoint.host}"])


def _add_listeners(acceptor: Acceptor, link: Link, spec: TunnelSpec) -> Tunnel:
    proxy = listening(spec.socks_port)
    acceptor.add(Listener(proxy, socks_server(link, spec.reachable)))
    text = pac_file(spec.pac_template, spec.reachable, socks_port=spec.socks_port)
    pac = listening(min(spec.socks_port + 1, _LAST_PORT - _TRIES), tries=_TRIES)
    pac_port = int(pac.getsockname()[1])
    acceptor.add(Listener(pac, file_server(text, port=pac_port, content_type=_PAC_TYPE)))
    pages = tuple(_add_forward(acceptor, link, spec, each) for each in APPLICATIONS)
    return Tunnel(spec.socks_port, text, f"http://{LOOPBACK}:{pac_port}/proxy.pac", pages)


def _add_forward(
    acceptor: Acceptor, link: Link, spec: TunnelSpec, application: Application
) -> Page:
    sock = listening(application.port, tries=_TRIES)
    port = int(sock.getsockname()[1])
    targets = tuple(Target(host, application.port) for host in spec.hosts)
    http_port = port if application.scheme == "http" else None
    acceptor.add(Listener(sock, forward_server(link, targets, http_port=http_port)))
    url = f"{application.scheme}://{LOOPBACK}:{port}/"
    return Page(application.name, url, application.what, port)
