"""Where a tunnel leads: to a host or a cluster, what to expect of it, and what to do first."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fruits_cli.cloud.clusters import rule_note
from fruits_cli.cloud.protocols import Clock, ClusterAccess
from fruits_cli.config import Config
from fruits_cli.errors import TunnelError, UsageError
from fruits_cli.files import templates_dir, user_name
from fruits_cli.screen import Screen
from fruits_cli.tunnel import cluster_access as reach
from fruits_cli.tunnel import host_keys as hostkeys
from fruits_cli.tunnel import reachable as hosts

if TYPE_CHECKING:
    from fruits_cli.tunnel.connection import Link
    from fruits_cli.tunnel.tunnel import TunnelSpec


_USER = "hadoop"
PAGES = ("jupyterhub", "spark", "yarn")


@dataclass(frozen=True)
class Request:
    """What the user asked of the tunnel, beside the configuration."""

    host: str | None = None
    ssh_port: int = 22
    page: str | None = None
    print_command: bool = False
    host_key: str | None = None
    source: str | None = None
    password: bool = False
    pac_file: Path | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class Goal:
    """Where the tunnel leads, which host keys to expect, and what to do before it serves.

    before_again: what to do before it connects once more.
    """

    spec: TunnelSpec
    expected: frozenset[str]
    prepare: Callable[[Link], None]
    before_again: Callable[[], None] = lambda: None


def check_request(request: Request) -> None:
    """Raise UsageError before a cluster is waited for, or changed."""
    page = request.page
    if request.host and request.cluster:
        raise UsageError("--host and --cluster exclude each other.", hint="Leave out one of them.")
    if page and page not in PAGES and not page.startswith(("http://", "https://")):
        raise UsageError(f"{page!r} is not a page.", hint=f"Pages: {', '.join(PAGES)}, or a URL.")
    if request.host and (request.source or request.password):
        flag = "--from" if request.source else "--password"
        raise UsageError(f"{flag} is for a cluster that fruits made; leave out --host.")
    _given_fingerprints(request)
    if request.source:
        reach.parse_source(request.source)


def _given_fingerprints(request: Request) -> frozenset[str]:
    return frozenset({hostkeys.parse_fingerprint(request.host_key)} if request.host_key else ())


def goal_of_host(config: Config, request: Request) -> Goal:
    from fruits_cli.tunnel.transport import Endpoint
    from fruits_cli.tunnel.tunnel import TunnelSpec

    user, _, host = (request.host or "").rpartition("@")
    if not host:
        raise UsageError(f"{request.host!r} is not a host.", hint="Write --host [USER@]NAME.")
    name = hostkeys.known_hosts_name(host, request.ssh_port)
    spec = TunnelSpec(
        endpoint=Endpoint(host, request.ssh_port, user or _USER, name),
        reachable=hosts.reachable_from_host(host, any_host=config.tunnel.any_host),
        # YARN listens on the node's own address alone, others on all or on localhost.
        hosts=("localhost", host),
        socks_port=config.tunnel.port,
        pac_template=_pac_template(),
    )
    return Goal(spec, _given_fingerprints(request), prepare=lambda link: None)


def goal_of_cluster(
    config: Config, screen: Screen, request: Request, access: ClusterAccess, clock: Clock
) -> Goal:
    from fruits_cli.tunnel.keys import load_keys
    from fruits_cli.tunnel.transport import Endpoint
    from fruits_cli.tunnel.tunnel import TunnelSpec

    if config.tunnel.key_file is not None:
        # A key that cannot be used is known before a cluster is waited for, or changed.
        load_keys(config.tunnel.key_file)
    primary = reach.wait_for_primary(access, clock=clock, tell=screen.tell)
    name = primary.cluster_id
    note = rule_note(user_name(), socket.gethostname())
    spec = TunnelSpec(
        endpoint=Endpoint(reach.public_host(primary), request.ssh_port, _USER, name),
        reachable=reach.reachable_of(primary, any_host=config.tunnel.any_host),
        hosts=(primary.private_name, "localhost"),
        socks_port=config.tunnel.port,
        pac_template=_pac_template(),
    )
    expected = _given_fingerprints(request)
    if not request.print_command:
        for rule in reach.open_ssh_port(access, source=request.source, note=note).add:
            screen.tell(f"Port 22 of the cluster is now open to {rule.cidr}.")
        if not expected and not pins().keys(name):
            expected = reach.expected_fingerprints(access, primary, clock=clock, tell=screen.tell)
    return Goal(
        spec,
        expected,
        prepare=lambda link: _set_password(screen, link, name),
        before_again=lambda: reach.find_again(
            access, source=request.source, note=note, tell=screen.tell
        ),
    )


def pins() -> hostkeys.PinFile:
    return hostkeys.PinFile(hostkeys.state_dir(os.environ) / "known_hosts")


def _pac_template() -> str:
    return (templates_dir() / "proxy.pac").read_text(encoding="utf-8")


def _set_password(screen: Screen, link: Link, cluster_id: str) -> None:
    from fruits_cli.tunnel import jupyterhub

    file = jupyterhub.password_file(hostkeys.state_dir(os.environ), cluster_id)
    try:
        jupyterhub.ensure_password(link.run, file)
    except TunnelError as error:
        # A cluster without JupyterHub still has its other pages.
        screen.warn(f"JupyterHub's password was not set. {error}")
        return
    screen.tell(f"JupyterHub's user is {jupyterhub.USER}; fruits tunnel --password shows the rest.")
