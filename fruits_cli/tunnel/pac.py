"""The proxy auto-configuration file: which pages a browser fetches through the tunnel; pure."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, ip_address
from string import Template

from fruits_cli.tunnel.reachable import Reachable


def pac_file(template: str, reachable: Reachable, *, socks_port: int) -> str:
    """JavaScript that sends the cluster's own hosts to the SOCKS proxy and all else direct.

    template: templates/proxy.pac. There is no DIRECT fallback for the cluster's hosts: a name of
    the VPC must not leak to the local network, where it may mean another machine.
    """
    networks = [
        [str(network.network_address), str(network.netmask)]
        for network in reachable.networks
        if isinstance(network, IPv4Network) and reachable.names
    ]
    return Template(template).substitute(
        names=json.dumps(sorted(name for name in reachable.names if not _is_loopback(name))),
        suffixes=json.dumps(sorted(reachable.suffixes)),
        networks=json.dumps(networks),
        proxy=json.dumps(f"SOCKS5 127.0.0.1:{socks_port}; SOCKS 127.0.0.1:{socks_port}"),
    )


def _is_loopback(name: str) -> bool:
    """Whether a browser would take this machine's own pages for the cluster's."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
