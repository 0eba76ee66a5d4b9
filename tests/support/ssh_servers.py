"""SSH servers to tunnel through, and services to reach behind them; all on 127.0.0.1."""

from __future__ import annotations

import getpass
import hashlib
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
)

from fruits_cli.tunnel.connection import Link
from fruits_cli.tunnel.goal import Endpoint
from fruits_cli.tunnel.keys import load_keys
from fruits_cli.tunnel.ports import Acceptor, listen_on
from fruits_cli.tunnel.reachable import Reachable, reachable_from_host
from fruits_cli.tunnel.servers import socks_server
from fruits_cli.tunnel.transport import ForwardTransport, open_connection

Serve = Callable[[socket.socket], None]
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PATIENCE_S = 60.0
_DICE = random.SystemRandom()


class Threads:
    """Threads that can be waited for, so that no test leaves a socket open."""

    def __init__(self) -> None:
        self._started: list[threading.Thread] = []

    def start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._started.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self._started:
            thread.join(PATIENCE_S)


def new_key(path: Path) -> paramiko.PKey:
    private = Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def fingerprint(key: paramiko.PKey) -> str:
    return str(key.fingerprint)


@contextmanager
def served(serve: Serve) -> Iterator[int]:
    """A port behind which `serve` meets each connection in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=meet, args=(connection,), daemon=True).start()

    def meet(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def payload(size: int) -> bytes:
    block = hashlib.sha256(b"fruits").digest() * 32
    return (block * (size // len(block) + 1))[:size]


_MEBIBYTE = payload(1024 * 1024)


def on_demand(connection: socket.socket) -> None:
    """Sends as many bytes as the first line asks for."""
    line = connection.makefile("rb").readline()
    missing = int(line)
    while missing > 0:
        connection.sendall(_MEBIBYTE[: min(missing, len(_MEBIBYTE))])
        missing -= len(_MEBIBYTE)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


class _Rules(paramiko.ServerInterface):
    def __init__(self, server: SshServer) -> None:
        self._server, self._refused = server, 0

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_known = username == "hadoop" and key == self._server.user_key
        if is_known:
            return AUTH_SUCCESSFUL
        self._refused += 1
        if self._refused >= self._server.most_keys:
            # As sshd does after MaxAuthTries.
            raise EOFError
        return AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(
            target=self._server.run_command, args=(channel, command.decode()), daemon=True
        ).start()
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        return self._server.open_destination((id(self), chanid), destination)


@dataclass
class SshServer:
    """An SSH server in this process that can die, stall, refuse and change its key."""

    host_key: paramiko.PKey
    user_key: paramiko.PKey
    forbids_forwarding: bool = False
    most_keys: int = 6
    answers: dict[str, bytes] = field(default_factory=dict)
    stdin_seen: list[bytes] = field(default_factory=list)
    destinations: list[tuple[str, int]] = field(default_factory=list)
    open_gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open_gate.set()
        self.port = 0
        self._listener: socket.socket | None = None
        self._transports: list[paramiko.Transport] = []
        self._waiting: dict[tuple[int, int], socket.socket] = {}
        self._threads = Threads()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._threads.start(self._accept, self._listener)

    def die(self) -> None:
        """Listen no more and drop every connection at once."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for transport in self._transports:
            transport.close()
        self._transports.clear()
        self._threads.join()
        for far in self._waiting.values():
            far.close()
        self._waiting.clear()

    def run_command(self, channel: paramiko.Channel, command: str) -> None:
        self.stdin_seen.append(b"".join(iter(lambda: channel.recv(4096), b"")))
        output = self.answers.get(command)
        if output is not None:
            channel.sendall(output)
        channel.send_exit_status(0 if output is not None else 127)
        channel.close()

    def open_destination(self, place: tuple[int, int], destination: tuple[str, int]) -> int:
        self.destinations.append(destination)
        if self.forbids_forwarding:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self.open_gate.wait(PATIENCE_S)
        try:
            self._waiting[place] = socket.create_connection(("127.0.0.1", destination[1]))
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        return OPEN_SUCCEEDED

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._threads.start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.host_key)
        rules = _Rules(self)
        self._transports.append(transport)
        with suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=rules)
            while transport.is_active():
                channel = transport.accept(0.2)
                far = channel and self._waiting.pop((id(rules), channel.chanid), None)
                if channel is not None and far is not None:
                    self._threads.start(_join, channel, far)


def _join(channel: paramiko.Channel, far: socket.socket) -> None:
    def up() -> None:
        with suppress(OSError, paramiko.SSHException, EOFError):
            while data := channel.recv(65536):
                far.sendall(data)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    threads = Threads()
    threads.start(up)
    with suppress(OSError, paramiko.SSHException, EOFError):
        while data := far.recv(65536):
            send_all(channel, data)
        channel.shutdown_write()
    threads.join()
    far.close()
    with suppress(OSError, paramiko.SSHException, EOFError):
        channel.close()


def send_all(channel: paramiko.Channel, data: bytes) -> None:
    """paramiko's own sendall spins for ever on a channel that was closed meanwhile."""
    while data:
        sent = channel.send(data)
        if not sent:
            raise ConnectionError
        data = data[sent:]


@dataclass
class OpenSsh:
    """OpenSSH's sshd, without privileges, on a free port."""

    folder: Path
    host_key: paramiko.PKey
    port: int = 0
    extra: str = ""

    @property
    def user(self) -> str:
        return getpass.getuser()

    def start(self) -> None:
        self.port = self.port or free_port()
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / 'host_key'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPidFile none\nMaxStartups 100\n" + self.extra
        )
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: is_listening(self.port))

    def die(self) -> None:
        """End sshd and the children that serve its connections."""
        for child in _descendants(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(child, 9)
        self._process.kill()
        self._process.wait()


def _descendants(parent: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [tuple(map(int, line.split())) for line in listing.stdout.splitlines()]
    found: list[int] = []
    layer = {parent}
    while layer:
        layer = {pid for pid, ppid in pairs if ppid in layer}
        found += layer
    return found


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection is given.

    A port of the system's choice may become the source of the very connection that asks
    whether somebody listens there, which then answers itself.
    """
    while True:
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", _DICE.randrange(15000, 32000))) as probe,
        ):
            return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def wait_until(is_so: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.02)


def through_socks(port: int, host: str, target_port: int) -> tuple[int, socket.socket]:
    """The reply code of a CONNECT by name, and the connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    connection.sendall(b"\x05\x01\x00")
    assert _exactly(connection, 2) == b"\x05\x00"
    name = host.encode()
    connection.sendall(
        b"\x05\x01\x00\x03" + bytes([len(name)]) + name + target_port.to_bytes(2, "big")
    )
    return _exactly(connection, 10)[1], connection


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))


def transport_to(server: SshServer | OpenSsh, key_file: Path) -> ForwardTransport:
    """A connection that is logged in."""
    user = server.user if isinstance(server, OpenSsh) else "hadoop"
    endpoint = Endpoint("127.0.0.1", server.port, user, "test")
    keys = load_keys(key_file)
    return open_connection(
        endpoint, keys, check=lambda key: None, known_kinds=(), try_all_kinds=False
    )


@contextmanager
def socks_through(
    server: SshServer | OpenSsh, key_file: Path, reachable: Reachable | None = None, **pace: Any
) -> Iterator[tuple[int, Link]]:
    """A SOCKS port and the link behind it."""
    link = Link(lambda: transport_to(server, key_file), **pace)
    acceptor = Acceptor()
    port = free_port()
    own = reachable or reachable_from_host("127.0.0.1", any_host=False)
    acceptor.add(listen_on(port, tries=20), socks_server(link, own))
    link.start()
    acceptor.start()
    try:
        yield port, link
    finally:
        acceptor.close()
        link.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, f"the end after {data!r}"
        data += piece
    return data
