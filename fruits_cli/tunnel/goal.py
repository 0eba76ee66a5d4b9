"""Finds where a tunnel leads, from what the user asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fruits_cli.cloud.clusters import Primary
from fruits_cli.config import Config
from fruits_cli.errors import UsageError
from fruits_cli.tunnel.cluster_access import parse_source, public_host, reachable_of
from fruits_cli.tunnel.host_keys import PinFile, known_hosts_name, parse_fingerprint, state_dir
from fruits_cli.tunnel.reachable import Reachable, reachable_from_host

if TYPE_CHECKING:
    from fruits_cli.tunnel.connection import Link

_USER = "hadoop"
PAGES = ("jupyterhub", "spark", "yarn")


@dataclass(frozen=True)
class Request:
    """What the user asked of the tunnel, beside the configuration."""

    host: str | None = None
    pages: tuple[str, ...] = ()
    print_command: bool = False
    host_key: str | None = None
    source: str | None = None
    password: bool = False
    pac_file: Path | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """User and address to log in to; the host key is pinned under `name`."""

    host: str
    port: int
    user: str
    name: str


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Goal:
    """Where a tunnel leads. `hosts` are tried in order for each application's port.

    expected: fingerprints of the host key; empty: the pinned key, else the user is asked.
    prepare: runs on the link before it serves. before_again: runs before it connects once more;
    what it raises ends the tunnel.
    """

    endpoint: Endpoint
    reachable: Reachable
    hosts: tuple[str, ...]
    expected: frozenset[str] = frozenset()
    prepare: Callable[[Link], None] = _nothing
    before_again: Callable[[], None] = _nothing


def check_request(request: Request) -> None:
    """Raise UsageError before a cluster is waited for, or changed."""
    if request.host and request.cluster:
        raise UsageError("--host and --cluster exclude each other.", hint="Leave out one of them.")
    for page in request.pages:
        if page not in PAGES and not page.startswith(("http://", "https://")):
            hint = f"Pages: {', '.join(PAGES)}, or a URL."
            raise UsageError(f"{page!r} is not a page.", hint=hint)
    if request.host and (request.source or request.password):
        flag = "--from" if request.source else "--password"
        raise UsageError(f"{flag} is for a cluster that fruits made; leave out --host.")
    _given_fingerprints(request)
    if request.source:
        parse_source(request.source)


def _given_fingerprints(request: Request) -> frozenset[str]:
    return frozenset({parse_fingerprint(request.host_key)} if request.host_key else ())


def goal_of_host(config: Config, request: Request) -> Goal:
    """The host of --host. Raises UsageError where it is none."""
    user, _, host = (request.host or "").rpartition("@")
    if not host:
        raise UsageError(f"{request.host!r} is not a host.", hint="Write --host [USER@]NAME.")
    port = config.tunnel.ssh_port
    return Goal(
        Endpoint(host, port, user or _USER, known_hosts_name(host, port)),
        reachable_from_host(host, any_host=config.tunnel.any_host),
        # YARN listens on the node's own address alone, others on all or on localhost.
        hosts=("localhost", host),
        expected=_given_fingerprints(request),
    )


def goal_of_cluster(config: Config, request: Request, primary: Primary) -> Goal:
    """The primary node of a cluster. Raises TunnelError where it lies in a private subnet."""
    return Goal(
        Endpoint(public_host(primary), config.tunnel.ssh_port, _USER, primary.cluster_id),
        reachable_of(primary, any_host=config.tunnel.any_host),
        hosts=(primary.private_name, "localhost"),
        expected=_given_fingerprints(request),
    )


def pins() -> PinFile:
    """The file of the host keys that this user trusts."""
    return PinFile(state_dir(os.environ) / "known_hosts")
