from __future__ import annotations

import base64
import datetime
import hashlib
import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fruits_cli.errors import TunnelError
from fruits_cli.files import templates_dir
from fruits_cli.tunnel.browser import browser_command, browser_open, find_browser
from fruits_cli.tunnel.jupyterhub import (
    certificate_key_hash,
    ensure_password,
    load_password,
    password_file,
)
from fruits_cli.tunnel.pac import pac_file
from fruits_cli.tunnel.ports import Acceptor, listen_on
from fruits_cli.tunnel.reachable import Reachable
from fruits_cli.tunnel.servers import file_server
from tests.support.paths import ROOT
from tests.support.ssh_servers import (
    SshServer,
    free_port,
    served,
    socks_through,
    wait_until,
)

SET_PASSWORD = "sudo docker exec -i jupyterhub chpasswd"


def self_signed(folder: Path) -> tuple[Path, str]:
    """A file with key and certificate, and the hash of the key as a browser wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )
    file = folder / "hub.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return file, base64.b64encode(hashlib.sha256(public).digest()).decode()


def test_the_password_is_set_on_stdin_once_and_kept_private(
    ssh_server: SshServer, key_file: Path, tmp_path: Path
) -> None:
    ssh_server.answers = {SET_PASSWORD: b""}
    file = password_file(tmp_path, "j-1")

    with socks_through(ssh_server, key_file) as (_, link):
        password = ensure_password(link, file)
        again = ensure_password(link, file)

    assert password == again == load_password(file)
    assert ssh_server.stdin_seen == [f"jovyan:{password}\n".encode()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(password) >= 20


def test_a_password_that_was_not_set_is_not_kept(
    ssh_server: SshServer, key_file: Path, tmp_path: Path
) -> None:
    file = password_file(tmp_path, "j-1")

    with (
        socks_through(ssh_server, key_file) as (_, link),
        pytest.raises(TunnelError, match="exit code 127"),
    ):
        ensure_password(link, file)

    assert not file.exists()
    with pytest.raises(TunnelError, match="No tunnel of this machine"):
        load_password(file)


def test_the_certificates_key_is_known_by_its_hash(tmp_path: Path) -> None:
    file, expected = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def hub(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(1)

    with served(hub) as port:
        assert certificate_key_hash(port) == expected


def test_a_missing_hub_is_reported() -> None:
    with pytest.raises(TunnelError, match="JupyterHub does not answer"):
        certificate_key_hash(free_port())


def test_the_browser_knows_the_tunnel_and_one_key_alone(tmp_path: Path) -> None:
    command = browser_command(
        Path("/usr/bin/chromium"),
        profile=tmp_path,
        pac_url="http://127.0.0.1:8158/proxy.pac",
        key_hashes=("abc=",),
        urls=("https://127.0.0.1:9443/",),
    )

    assert f"--user-data-dir={tmp_path}" in command
    assert "--proxy-pac-url=http://127.0.0.1:8158/proxy.pac" in command
    assert "--ignore-certificate-errors-spki-list=abc=" in command
    assert "--ignore-certificate-errors" not in command
    assert command[-1] == "https://127.0.0.1:9443/"


def stand_in_browser(folder: Path) -> Path:
    """A browser that writes its pid and profile to `seen` and stays; it has a socket elsewhere."""
    stand_in = folder / "chromium"
    seen, sockets = folder / "seen", folder / "sockets"
    sockets.mkdir()
    stand_in.write_text(
        f"#!/bin/sh\ntouch {sockets}/SingletonSocket\n"
        f"ln -s {sockets}/SingletonSocket ${{1#*=}}/SingletonSocket\n"
        f'echo "$$ $1" > {seen}.new\nmv {seen}.new {seen}\nsleep 1000\n'
    )
    stand_in.chmod(0o755)
    return stand_in


def seen_browser(folder: Path) -> tuple[int, Path]:
    """The pid and the profile of the one that runs."""
    seen = folder / "seen"
    wait_until(seen.exists)
    pid, _, option = seen.read_text().strip().partition(" ")
    return int(pid), Path(option.partition("=")[2])


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_browser_ends_and_its_profile_goes_with_the_tunnel(tmp_path: Path) -> None:
    stand_in = stand_in_browser(tmp_path)

    with browser_open(stand_in, pac_url="http://x/", key_hashes=(), urls=("http://y/",)):
        pid, profile = seen_browser(tmp_path)
        assert profile.is_dir()

    assert not lives(pid)
    assert not profile.exists()
    assert not (tmp_path / "sockets").exists()


def test_the_browser_of_a_killed_tunnel_ends_with_its_profile(tmp_path: Path) -> None:
    opening = """
import sys, time
from pathlib import Path
from fruits_cli.tunnel.browser import browser_open
with browser_open(Path(sys.argv[1]), pac_url="http://x/", key_hashes=(), urls=("http://y/",)):
    time.sleep(1000)
"""
    words = [sys.executable, "-c", opening, str(stand_in_browser(tmp_path))]
    with subprocess.Popen(words, cwd=ROOT) as tunnel:
        pid, profile = seen_browser(tmp_path)
        tunnel.kill()

    wait_until(lambda: not profile.exists())
    assert not lives(pid)


def test_without_a_browser_there_is_none(tmp_path: Path) -> None:
    found = find_browser(str(tmp_path))

    assert found is None or str(found).startswith("/Applications")


def test_a_real_browser_reads_the_pac_and_takes_the_certificate(
    ssh_server: SshServer, key_file: Path, tmp_path: Path
) -> None:
    executable = find_browser(None)
    if executable is None:
        pytest.skip("Chromium is not installed")
    hub_file, key_hash = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(hub_file)

    def hub(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(65536)
            body = b"<title>hub</title><p>notebooks behind the tunnel</p>"
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}"
            encrypted.sendall(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)

    own = Reachable(names=frozenset({"hub.example"}))
    with served(hub) as target, socks_through(ssh_server, key_file, own) as (port, _):
        text = pac_file((templates_dir() / "proxy.pac").read_text(), own, socks_port=port)
        pac_port = free_port()
        acceptor = Acceptor()
        server = file_server(text, port=pac_port, content_type="application/x-ns-proxy-autoconfig")
        acceptor.add(listen_on(pac_port), server)
        acceptor.start()
        command = browser_command(
            executable,
            profile=tmp_path / "profile",
            pac_url=f"http://127.0.0.1:{pac_port}/proxy.pac",
            key_hashes=(key_hash,),
            urls=(f"https://hub.example:{target}/",),
        )
        headless = ["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        try:
            shown = subprocess.run(
                [command[0], *headless, *command[1:]], capture_output=True, text=True, timeout=120
            )
        finally:
            acceptor.close()

    assert "notebooks behind the tunnel" in shown.stdout
    assert ("hub.example", target) in ssh_server.destinations
