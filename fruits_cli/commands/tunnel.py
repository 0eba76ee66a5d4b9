"""fruits tunnel: the cluster's pages on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.screen import Screen

Host = Annotated[
    str | None, typer.Option(help="A host that fruits did not make: [USER@]NAME or address.")
]
SshPort = Annotated[int, typer.Option(min=1, max=65535, help="Port of SSH on that host.")]
OpenPage = Annotated[
    str | None, typer.Option("--open", metavar="PAGE", help="jupyterhub, spark, yarn or a URL.")
]
PrintCommand = Annotated[
    bool, typer.Option("--print-command", help="Print the equal ssh line and stop.")
]
HostKeyOption = Annotated[
    str | None, typer.Option("--host-key", help="Fingerprint to expect, SHA256:...")
]
Source = Annotated[
    str | None, typer.Option("--from", metavar="CIDR", help="Who may reach port 22, if not I.")
]
Password = Annotated[bool, typer.Option("--password", help="Print JupyterHub's password and stop.")]
PacFile = Annotated[Path | None, typer.Option("--pac", help="Write the PAC file here too.")]


@with_config("tunnel")
def tunnel(
    *,
    cluster: ClusterChoice = None,
    host: Host = None,
    ssh_port: SshPort = 22,
    open_page: OpenPage = None,
    print_command: PrintCommand = False,
    host_key: HostKeyOption = None,
    source: Source = None,
    password: Password = False,
    pac: PacFile = None,
    config: Config,
    screen: Screen,
) -> None:
    """Reach the cluster's pages: a SOCKS proxy, a PAC file and local ports, until Ctrl-C.

    \b
    fruits tunnel --open jupyterhub
    fruits tunnel --host ec2-203-0-113-7.eu-west-3.compute.amazonaws.com --key-file key.pem
    """
    from fruits_cli.tunnelling import Request, open_tunnel

    asked = Request(
        host, ssh_port, open_page, print_command, host_key, source, password, pac, cluster
    )
    open_tunnel(config, asked, screen)
