"""What `fruits tunnel` does: finds the way, talks with the user, keeps it open until Ctrl-C.

What loads paramiko is imported where it is used: `--print-command` and mistakes need none of it.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fruits_cli.cloud.clusters import rule_note
from fruits_cli.cloud.protocols import Clock, ClusterAccess, SystemClock
from fruits_cli.config import Config
from fruits_cli.errors import TunnelError, UsageError
from fruits_cli.files import templates_dir
from fruits_cli.screen import Screen, table
from fruits_cli.signals import termination_as_interrupt
from fruits_cli.tunnel import browser
from fruits_cli.tunnel import cluster_access as reach
from fruits_cli.tunnel import host_keys as hostkeys
from fruits_cli.tunnel import reachable as hosts

if TYPE_CHECKING:
    from fruits_cli.tunnel.connection import Link, LinkEvent
    from fruits_cli.tunnel.tunnel import Tunnel, TunnelSpec


_USER = "hadoop"
_PAGES = ("jupyterhub", "spark", "yarn")


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


def open_tunnel(config: Config, request: Request, screen: Screen) -> None:
    """The tunnel to the host or the cluster that is meant, kept open until Ctrl-C.

    Raises TunnelError, CloudError, UsageError.
    """
    _check_request(request)
    access = None if request.host else _access_to(request, config, screen)
    run_tunnel(config, screen, request, access=access, clock=SystemClock())


def _access_to(request: Request, config: Config, screen: Screen) -> ClusterAccess:
    from fruits_cli.aws.clients import cluster_access, is_stand_in
    from fruits_cli.cluster.find import find_cluster
    from fruits_cli.commands.wiring import open_session

    session = open_session(config, screen)
    cloud = session.cloud
    found = find_cluster(request.cluster, cloud.clusters, session.ledger, region=cloud.region)
    screen.tell(f"Cluster {found.emr_name} ({found.cluster_id})")
    if is_stand_in(os.environ) and not (request.print_command or request.password):
        # The names of its nodes belong to strangers.
        raise TunnelError(
            f"Cluster {found.cluster_id} is rehearsed: no machine stands behind it.",
            hint="fruits tunnel --host reaches any SSH server.",
        )
    return cluster_access(config.aws, found)


def run_tunnel(
    config: Config,
    screen: Screen,
    request: Request,
    *,
    access: ClusterAccess | None,
    clock: Clock,
) -> None:
    """Open the tunnel to the cluster of `access`, or without one to the request's host."""
    # A job in the background of a script ignores Ctrl-C; its tunnel still has to end in order.
    with termination_as_interrupt(signal.SIGINT):
        if access is None:
            goal = _goal_of_host(config, request)
        elif request.password:
            _print_password(screen, access.cluster_id)
            return
        else:
            goal = _goal_of_cluster(config, screen, request, access, clock)
        if request.print_command:
            _print_command(config, screen, goal.spec)
        else:
            _keep_open(config, screen, request, goal)


def _check_request(request: Request) -> None:
    """Raise UsageError before a cluster is waited for, or changed."""
    page = request.page
    if request.host and request.cluster:
        raise UsageError("--host and --cluster exclude each other.", hint="Leave out one of them.")
    if page and page not in _PAGES and not page.startswith(("http://", "https://")):
        raise UsageError(f"{page!r} is not a page.", hint=f"Pages: {', '.join(_PAGES)}, or a URL.")
    if request.host and (request.source or request.password):
        flag = "--from" if request.source else "--password"
        raise UsageError(f"{flag} is for a cluster that fruits made; leave out --host.")
    _given_fingerprints(request)
    if request.source:
        reach.parse_source(request.source)


def _given_fingerprints(request: Request) -> frozenset[str]:
    return frozenset({hostkeys.parse_fingerprint(request.host_key)} if request.host_key else ())


def _goal_of_host(config: Config, request: Request) -> Goal:
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


def _goal_of_cluster(
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
    note = rule_note(getpass.getuser(), socket.gethostname())
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
        if not expected and not _pins().keys(name):
            expected = reach.expected_fingerprints(access, primary, clock=clock, tell=screen.tell)
    return Goal(
        spec,
        expected,
        prepare=lambda link: _set_password(screen, link, name),
        before_again=lambda: reach.find_again(
            access, source=request.source, note=note, tell=screen.tell
        ),
    )


def _pins() -> hostkeys.PinFile:
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


def _print_password(screen: Screen, cluster_id: str) -> None:
    from fruits_cli.tunnel import jupyterhub

    file = jupyterhub.password_file(hostkeys.state_dir(os.environ), cluster_id)
    password = jupyterhub.load_password(file)
    screen.answer([password], {"user": jupyterhub.USER, "password": password})


def _print_command(config: Config, screen: Screen, spec: TunnelSpec) -> None:
    from fruits_cli.tunnel.tunnel import ssh_command

    line = ssh_command(spec, key_file=config.tunnel.key_file, known_hosts=_pins().path)
    screen.answer([line], {"command": line})


def _keep_open(config: Config, screen: Screen, request: Request, goal: Goal) -> None:
    from fruits_cli.tunnel.tunnel import Trust, link_to, opened_tunnel

    endpoint = goal.spec.endpoint
    trust = Trust(_pins(), goal.expected, lambda key: _ask_to_trust(screen, endpoint.name, key))
    link = link_to(
        endpoint,
        key_file=config.tunnel.key_file,
        trust=trust,
        before_again=goal.before_again,
    )
    with ExitStack() as stack:
        opened = stack.enter_context(opened_tunnel(link, goal.spec, prepare=goal.prepare))
        if request.pac_file is not None:
            _write_pac(request.pac_file, opened.pac_text)
        _show(screen, opened)
        if request.page:
            _open_browser(screen, stack, opened, request.page)
        for event in link.events():
            screen.tell(_said(event))


def _ask_to_trust(screen: Screen, name: str, key: hostkeys.HostKey) -> None:
    question = f"Nobody vouches for the host key of {name}: {key.kind} {key.fingerprint}. Trust it?"
    try:
        screen.ask(question, yes=False)
    except UsageError as error:
        raise UsageError(
            f"Nobody vouches for the host key of {name}, and there is no terminal to ask on.",
            hint=f"If you know it to be right: --host-key {key.fingerprint}",
        ) from error


def _write_pac(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TunnelError(f"{file} cannot be written: {error.strerror}.") from error


def _show(screen: Screen, opened: Tunnel) -> None:
    rows = [("page", "address", "what it shows")]
    rows += [(page.name, page.url, page.what) for page in opened.pages]
    rows += [
        ("", f"socks5://127.0.0.1:{opened.socks_port}", "SOCKS proxy to the cluster's hosts"),
        ("", opened.pac_url, "PAC file for a browser or a proxy extension"),
    ]
    value = {
        "pac_url": opened.pac_url,
        "pages": {page.name: page.url for page in opened.pages},
        "socks_port": opened.socks_port,
    }
    screen.answer(table(rows), value)
    # A program that reads the answer through a pipe must have it while the tunnel stands.
    sys.stdout.flush()
    screen.tell("The tunnel is open. Ctrl-C closes it.")


def _open_browser(screen: Screen, stack: ExitStack, opened: Tunnel, page: str) -> None:
    url = page if page not in _PAGES else opened.page(page).url
    executable = browser.find_browser(os.environ.get("PATH"))
    if executable is None:
        screen.warn(f"There is no Chromium or Chrome here. Open {url} in your browser.")
        return
    hashes = _key_hashes(screen, opened, is_wanted=page == "jupyterhub")
    stack.enter_context(
        browser.browser_open(executable, pac_url=opened.pac_url, key_hashes=hashes, url=url)
    )
    screen.tell(f"{executable.name} opens {url} with a profile that ends with the tunnel.")


def _key_hashes(screen: Screen, opened: Tunnel, *, is_wanted: bool) -> tuple[str, ...]:
    from fruits_cli.tunnel.jupyterhub import certificate_key_hash

    try:
        return (certificate_key_hash(opened.page("jupyterhub").port),)
    except TunnelError as error:
        if is_wanted:
            screen.warn(f"{error} {error.hint}")
        return ()


def _said(event: LinkEvent) -> str:
    from fruits_cli.tunnel.connection import Back, Lost

    if isinstance(event, Lost):
        return "The connection is lost; reconnecting. The local ports stay."
    if isinstance(event, Back):
        return f"The connection is back after {event.away_s:.0f} s."
    return f"Still not connected. {event.reason}"
