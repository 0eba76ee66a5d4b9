from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest
import quickjs

from fruits_cli.files import templates_dir
from fruits_cli.tunnel.pac import pac_file
from fruits_cli.tunnel.reachable import Reachable, reachable_from_host

TEMPLATE = (templates_dir() / "proxy.pac").read_text()
PROXY = "SOCKS5 127.0.0.1:8157; SOCKS 127.0.0.1:8157"
OWN = Reachable(
    names=frozenset({"ec2-203-0-113-7.eu-west-3.compute.amazonaws.com", "10.0.1.7", "2001:db8::7"}),
    suffixes=frozenset({"eu-west-3.compute.internal"}),
    networks=(ip_network("10.0.0.0/16"), ip_network("2001:db8::/56")),
)
HOSTS = {
    "ec2-203-0-113-7.eu-west-3.compute.amazonaws.com": PROXY,
    "EC2-203-0-113-7.eu-west-3.compute.amazonaws.com.": PROXY,
    "ip-10-0-44-2.eu-west-3.compute.internal": PROXY,
    "i-0123456789abcdef0.eu-west-3.compute.internal": PROXY,
    "10.0.200.9": PROXY,
    "2001:db8::7": PROXY,
    "[2001:db8::7]": PROXY,
    "ec2-203-0-113-8.eu-west-3.compute.amazonaws.com": "DIRECT",
    "ec2.eu-west-3.amazonaws.com": "DIRECT",
    "ip-10-9-0-1.eu-west-3.compute.internal": "DIRECT",
    "ip-10-0-1-7.us-west-2.compute.internal": "DIRECT",
    "ip-10-0-1-7.eu-west-3.compute.internal.evil.example": "DIRECT",
    "10.1.0.1": "DIRECT",
    "110.0.1.7": "DIRECT",
    "192.168.1.1": "DIRECT",
    "localhost": "DIRECT",
    "127.0.0.1": "DIRECT",
    "example.org": "DIRECT",
    "10.0.1.7.example.org": "DIRECT",
}


def answer(text: str, host: str) -> str:
    engine = quickjs.Context()
    engine.eval(text)
    return str(engine.get("FindProxyForURL")(f"http://{host}/ip-10-0-1-7/ec2", host))


@pytest.mark.parametrize(("host", "way"), HOSTS.items())
def test_exactly_the_clusters_hosts_go_through_the_proxy(host: str, way: str) -> None:
    assert answer(pac_file(TEMPLATE, OWN, socks_port=8157), host) == way


def test_the_proxy_is_reached_where_it_listens_and_has_no_fallback() -> None:
    assert answer(pac_file(TEMPLATE, OWN, socks_port=9000), "10.0.1.7") == (
        "SOCKS5 127.0.0.1:9000; SOCKS 127.0.0.1:9000"
    )


def test_names_cannot_leave_their_quotes() -> None:
    odd = Reachable(names=frozenset({'a";</script>', "$names\\"}))

    assert answer(pac_file(TEMPLATE, odd, socks_port=8157), "example.org") == "DIRECT"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machines_own_pages_stay_direct(host: str) -> None:
    own = reachable_from_host(host, any_host=False)

    assert answer(pac_file(TEMPLATE, own, socks_port=8157), host) == "DIRECT"


def test_the_pac_and_the_proxy_agree_about_every_host() -> None:
    text = pac_file(TEMPLATE, OWN, socks_port=8157)

    for host, way in HOSTS.items():
        if way == PROXY:
            assert OWN.allows(host, 80), host
    assert answer(text, "169.254.169.254") == "DIRECT"


def test_node_reads_it_too(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = tmp_path / "proxy.js"
    script.write_text(
        pac_file(TEMPLATE, OWN, socks_port=8157)
        + 'console.log(FindProxyForURL("http://10.0.1.7/", "10.0.1.7"));'
    )

    said = subprocess.run([node, str(script)], capture_output=True, text=True, check=True).stdout

    assert said == f"{PROXY}\n"
