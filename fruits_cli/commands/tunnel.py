"""fruits tunnel: the cluster's pages on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fruits_cli.cloud.clusters import rule_note
from fruits_cli.cloud.protocols import Clock, ClusterAccess, SystemClock
from fruits_cli.config import Config
from fruits_cli.errors import CloudError, TunnelError, UsageError
from fruits_cli.files import expanded, user_name
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.screen import Outcome, Screen, Table
from fruits_cli.signals import heard_again, termination_as_interrupt
from fruits_cli.tunnel import browser, host_keys
from fruits_cli.tunnel.cluster_access import SshPort, expected_fingerprints, wait_for_primary
from fruits_cli.tunnel.goal import (
    PAGES,
    Goal,
    Request,
    check_request,
    goal_of_cluster,
    goal_of_host,
    pins,
)

if TYPE_CHECKING:
    from fruits_cli.tunnel.connection import Link, LinkEvent
    from fruits_cli.tunnel.keys import Keys
    from fruits_cli.tunnel.tunnel import Tunnel

Host = Annotated[
    str | None, typer.Option(help="A host that fruits did not make: [USER@]NAME or address.")
]
OpenPages = Annotated[
    list[str] | None,
    typer.Option("--open", metavar="PAGE", help="jupyterhub, spark, yarn or a URL; repeatable."),
]
PrintCommand = Annotated[
    bool, typer.Option("--print-command", help="Print the equal ssh line and stop.")
]
HostKeyOption = Annotated[
    str | None, typer.Option("--host-key", help="Fingerprint to expect, SHA256:...")
]
Source = Annotated[
    str | None,
    typer.Option("--from", metavar="CIDR", help="Who may reach port 22 instead of this machine."),
]
Password = Annotated[bool, typer.Option("--password", help="Print JupyterHub's password and stop.")]
PacFile = Annotated[Path | None, typer.Option("--pac", help="Write the PAC file here too.")]


@with_config("tunnel")
def tunnel(
    *,
    cluster: ClusterChoice = None,
    host: Host = None,
    open_pages: OpenPages = None,
    print_command: PrintCommand = False,
    host_key: HostKeyOption = None,
    source: Source = None,
    password: Password = False,
    pac: PacFile = None,
    config: Config,
    screen: Screen,
) -> Outcome | None:
    """Reach the cluster's pages: a SOCKS proxy, a PAC file and local ports, until Ctrl-C.

    \b
    fruits tunnel --open jupyterhub
    fruits tunnel --host ec2-203-0-113-7.eu-west-3.compute.amazonaws.com --key-file key.pem
    """
    request = Request(
        host=host,
        pages=tuple(open_pages or ()),
        print_command=print_command,
        host_key=host_key,
        source=source,
        password=password,
        pac_file=expanded(pac) if pac else None,
        cluster=cluster,
    )
    check_request(request)
    access = None if host else _access_to(cluster, config, screen)
    return run_tunnel(config, screen, request, access=access, clock=SystemClock())


def _access_to(wanted: str | None, config: Config, screen: Screen) -> ClusterAccess:
    from fruits_cli.aws import cluster_access
    from fruits_cli.cluster.find import find_cluster
    from fruits_cli.commands.wiring import open_session

    session = open_session(config, screen)
    cloud = session.cloud
    found = find_cluster(wanted, cloud.clusters, session.ledger, region=cloud.region, standing=True)
    screen.tell(f"Cluster {found.emr_name} ({found.cluster_id})")
    return cluster_access(config.aws, found)


def run_tunnel(
    config: Config,
    screen: Screen,
    request: Request,
    *,
    access: ClusterAccess | None,
    clock: Clock,
) -> Outcome | None:
    """Open the tunnel to the cluster of `access`, or without one to the request's host."""
    # A job in the background of a script ignores Ctrl-C; its tunnel still has to end in order.
    with termination_as_interrupt(signal.SIGINT):
        if access is None:
            return _open_to_host(config, screen, request)
        if request.password:
            return _password(access.cluster_id)
        return _open_to_cluster(config, screen, request, access, clock)


def _open_to_host(config: Config, screen: Screen, request: Request) -> Outcome | None:
    from fruits_cli.tunnel.keys import load_keys

    goal = goal_of_host(config, request)
    if request.print_command:
        return _ssh_command(config, goal)
    _keep_open(config, screen, request, goal, load_keys(config.tunnel.key_file), lambda it: it)
    return None


def _open_to_cluster(
    config: Config, screen: Screen, request: Request, access: ClusterAccess, clock: Clock
) -> Outcome | None:
    from fruits_cli.tunnel.keys import load_keys

    key_file = config.tunnel.key_file
    # A key that cannot be used is known before a cluster is waited for, or changed.
    keys = load_keys(key_file) if key_file and not request.print_command else []
    primary = wait_for_primary(access, clock=clock, tell=screen.tell)
    goal = goal_of_cluster(config, request, primary)
    if request.print_command:
        return _ssh_command(config, goal)
    keys = keys or load_keys(None, first=_public_key(access))
    note = rule_note(user_name(), socket.gethostname())
    ssh_port = SshPort(access, source=request.source, note=note, tell=screen.tell)
    try:
        ssh_port.open()
        expected = goal.expected
        if not expected and not pins().keys(primary.cluster_id):
            expected = expected_fingerprints(access, primary, clock=clock, tell=screen.tell)
        prepared = replace(
            goal,
            expected=expected,
            prepare=lambda link: _set_password(screen, link, primary.cluster_id),
            before_again=ssh_port.open_again,
        )
        settle = partial(_with_notebooks, screen, primary.cluster_id, clock)
        _keep_open(config, screen, request, prepared, keys, settle)
    finally:
        # A second Ctrl-C must not have to wait for AWS.
        heard_again()
        ssh_port.close()
    return None


def _public_key(access: ClusterAccess) -> str:
    """The cluster's key, which is offered first; empty where AWS does not show it."""
    with suppress(CloudError):
        return access.public_key()
    return ""


def _set_password(screen: Screen, link: Link, cluster_id: str) -> None:
    from fruits_cli.tunnel import jupyterhub

    file = jupyterhub.password_file(host_keys.state_dir(os.environ), cluster_id)
    try:
        jupyterhub.ensure_password(link, file)
    except TunnelError as error:
        # A cluster without JupyterHub still has its other pages.
        screen.warn(f"JupyterHub's password was not set. {error}")
        return
    screen.tell(
        f"JupyterHub's user is {jupyterhub.USER}; fruits tunnel --password prints the password."
    )


def _with_notebooks(screen: Screen, cluster_id: str, clock: Clock, opened: Tunnel) -> Tunnel:
    """Start JupyterHub's server of its user; warns with the reason where it does not start."""
    from fruits_cli.tunnel import jupyterhub

    page = opened.page("jupyterhub")
    file = jupyterhub.password_file(host_keys.state_dir(os.environ), cluster_id)
    if page.fault or not file.exists():
        return opened
    screen.tell(f"JupyterHub starts the notebook server of {jupyterhub.USER}.")
    try:
        jupyterhub.start_server(page.port, jupyterhub.load_password(file), clock=clock)
    except TunnelError as error:
        screen.warn(f"{error} {error.hint}")
        return opened.with_fault(page.name, "no notebook server")
    return opened


def _password(cluster_id: str) -> Outcome:
    from fruits_cli.tunnel import jupyterhub

    file = jupyterhub.password_file(host_keys.state_dir(os.environ), cluster_id)
    password = jupyterhub.load_password(file)
    return Outcome([password], {"user": jupyterhub.USER, "password": password})


def _ssh_command(config: Config, goal: Goal) -> Outcome:
    from fruits_cli.tunnel.tunnel import ssh_command

    line = ssh_command(goal, config.tunnel, known_hosts=pins().path)
    return Outcome([line], {"command": line})


def _keep_open(
    config: Config,
    screen: Screen,
    request: Request,
    goal: Goal,
    keys: Keys,
    settle: Callable[[Tunnel], Tunnel],
) -> None:
    """settle: makes the pages work, once the tunnel is open, and says which do not."""
    from fruits_cli.tunnel.tunnel import make_link, open_tunnel

    name = goal.endpoint.name
    link = make_link(goal, keys, pins=pins(), ask=lambda key: _ask_to_trust(screen, name, key))
    with ExitStack() as stack:
        opening = open_tunnel(
            link, goal, socks_port=config.tunnel.port, wanted=request.pages, tell=screen.tell
        )
        opened = stack.enter_context(opening)
        if request.pac_file is not None:
            _write_pac(request.pac_file, opened.pac_text)
        opened = settle(opened)
        _show(screen, opened)
        if request.pages:
            _open_browser(screen, stack, opened, request.pages)
        for event in link.events():
            screen.tell(_event_line(event))


def _ask_to_trust(screen: Screen, name: str, key: host_keys.HostKey) -> None:
    question = f"The host key of {name} is not known yet: {key.kind} {key.fingerprint}. Trust it?"
    try:
        screen.ask(question, yes=False)
    except UsageError as error:
        raise UsageError(
            f"The host key of {name} is not known yet, and there is no terminal to ask on.",
            hint=f"If you know it to be right: --host-key {key.fingerprint}",
        ) from error


def _write_pac(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TunnelError(f"{file} cannot be written: {error.strerror}.") from error


def _show(screen: Screen, opened: Tunnel) -> None:
    rows = [("page", "address", "what it shows")]
    rows += [
        (page.name, page.url, f"{page.what} ({page.fault})" if page.fault else page.what)
        for page in opened.pages
    ]
    rows += [
        ("", f"socks5://127.0.0.1:{opened.socks_port}", "SOCKS proxy to the cluster's hosts"),
        ("", opened.pac_url, "PAC file for a browser or a proxy extension"),
    ]
    value = {
        "pac_url": opened.pac_url,
        "pages": {page.name: page.url for page in opened.pages},
        "silent": [page.name for page in opened.pages if page.fault],
        "socks_port": opened.socks_port,
    }
    screen.answer(Outcome([Table(rows)], value))
    # A program that reads the answer through a pipe needs it while the tunnel is open.
    sys.stdout.flush()
    screen.tell("The tunnel is open. Ctrl-C closes it.")


def _open_browser(screen: Screen, stack: ExitStack, opened: Tunnel, pages: tuple[str, ...]) -> None:
    urls = tuple(opened.page(page).url if page in PAGES else page for page in pages)
    shown = " and ".join(urls)
    executable = browser.find_browser(os.environ.get("PATH"))
    if executable is None:
        screen.warn(f"There is no Chromium or Chrome here. Open {shown} in your browser.")
        return
    hashes = _key_hashes(screen, opened, is_wanted="jupyterhub" in pages)
    stack.enter_context(
        browser.browser_open(executable, pac_url=opened.pac_url, key_hashes=hashes, urls=urls)
    )
    screen.tell(f"{executable.name} opens {shown} with a profile that ends with the tunnel.")


def _key_hashes(screen: Screen, opened: Tunnel, *, is_wanted: bool) -> tuple[str, ...]:
    from fruits_cli.tunnel.jupyterhub import certificate_key_hash

    try:
        return (certificate_key_hash(opened.page("jupyterhub").port),)
    except TunnelError as error:
        if is_wanted:
            screen.warn(f"{error} {error.hint}")
        return ()


def _event_line(event: LinkEvent) -> str:
    from fruits_cli.tunnel.connection import Back, Lost

    if isinstance(event, Lost):
        return "The connection is lost; reconnecting. The local ports stay."
    if isinstance(event, Back):
        return f"The connection is back after {event.away_s:.0f} s."
    return f"Still not connected. {event.reason}"
