"""The primary node of a rehearsed cluster: an SSH server on loopback, and the pages behind it.

Only user hadoop can log in, with the cluster's key pair; only the rehearsed pages are forwarded
to, and only JupyterHub's password can be changed. The security groups decide who reaches port 22.
"""

from __future__ import annotations

import base64
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from ipaddress import ip_address, ip_network
from typing import Any

import paramiko
from paramiko import common

from fruits_cli.rehearsal.history_server import history_server
from fruits_cli.rehearsal.host import Host
from fruits_cli.rehearsal.jupyter_hub import JupyterHub
from fruits_cli.rehearsal.page_server import PageServer
from fruits_cli.rehearsal.world import Cluster, Node
from fruits_cli.tunnel.jupyterhub import SET_PASSWORD
from fruits_cli.tunnel.keys import new_private_key

HISTORY_PORT, HUB_PORT = 18080, 9443
_USER = "hadoop"
_LAST_ADDRESS = 254
_POLL_S = 1.0
_PIECE_BYTES = 4096

logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class NodeAddresses:
    """Addresses 127.0.0.x for the primary nodes, all with SSH on the same port.

    Amazon's public names belong to strangers. macOS has 127.0.0.1 alone: one cluster at a time.
    """

    def __init__(self) -> None:
        self._spare: socket.socket | None = socket.socket()
        self._spare.bind(("127.0.0.1", 0))
        self.port = int(self._spare.getsockname()[1])
        self._lock = threading.Lock()

    def listen(self) -> socket.socket | None:
        """A listening socket on the first free address, None where none is."""
        with self._lock:
            if self._spare is not None:
                sock, self._spare = self._spare, None
                sock.listen()
                return sock
            for last in range(1, _LAST_ADDRESS + 1):
                with suppress(OSError):
                    return socket.create_server((f"127.0.0.{last}", self.port))
        return None


class PrimaryNode:
    """One primary node, from `start` to `stop`."""

    def __init__(self, cluster: Cluster, node: Node, host: Host, groups: list[str]) -> None:
        self._cluster, self._node, self._groups = cluster, node, groups
        self._ec2 = host.clients.client("ec2", cluster.region)
        self._host_key = paramiko.Ed25519Key.from_private_key(StringIO(new_private_key()))
        self._authorized = self._public_key()
        work, events = host.folder / "tmp" / cluster.cluster_id, host.events_of(cluster.cluster_id)
        self.hub = JupyterHub(cluster, host, work / "hub")
        history = history_server(events, work / "history")
        self._pages: dict[int, PageServer] = {HISTORY_PORT: history, HUB_PORT: self.hub}
        self._listener: socket.socket | None = None
        self._transports: list[paramiko.Transport] = []

    @property
    def console(self) -> str:
        """What the instance prints at its first boot. Source: EC2 user guide, fingerprints."""
        return (
            "-----BEGIN SSH HOST KEY FINGERPRINTS-----\n"
            f"256 {self._host_key.fingerprint} root@{self._node.private_dns} (ED25519)\n"
            "-----END SSH HOST KEY FINGERPRINTS-----\n"
        )

    def start(self, listener: socket.socket) -> None:
        """Answer on `listener`, whose address becomes the node's public one."""
        self._listener = listener
        with self._cluster.changed:
            self._node.public_dns = self._node.public_ip = str(listener.getsockname()[0])
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Cut every connection and end the pages."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for transport in self._transports:
            transport.close()
        for page in self._pages.values():
            page.stop()

    def start_pages(self) -> None:
        """Start the pages; whoever logs in asks for them next."""
        for page in self._pages.values():
            threading.Thread(target=page.port, daemon=True).start()

    def authorizes(self, user: str, key: paramiko.PKey) -> bool:
        """Whether the key is the one that the cluster was created with."""
        return user == _USER and bool(self._authorized) and key.asbytes() == self._authorized

    def connect(self, host: str, port: int) -> socket.socket | int:
        """A connection to a rehearsed page, or SSH's reason why there is none."""
        own = {self._node.private_dns, self._node.private_ip, "localhost", "127.0.0.1"}
        if host not in own:
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        page = self._pages[port].port() if port in self._pages else None
        with suppress(OSError):
            if page:
                return socket.create_connection(("127.0.0.1", page))
        return common.OPEN_FAILED_CONNECT_FAILED

    def _public_key(self) -> bytes:
        name = self._cluster.request["Instances"].get("Ec2KeyName")
        if not name:
            return b""
        found = self._ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)["KeyPairs"]
        return base64.b64decode(found[0]["PublicKey"].split()[1])

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, peer = listener.accept()
                # A real one would let it wait until it gives up.
                if self._allows(peer[0]):
                    threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
                else:
                    connection.close()

    def _allows(self, address: str) -> bool:
        groups = self._ec2.describe_security_groups(GroupIds=self._groups)["SecurityGroups"]
        return any(
            _covers(permission, address)
            for group in groups
            for permission in group["IpPermissions"]
        )

    def _serve(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self._host_key)
        session = _Session(self)
        self._transports.append(transport)
        with suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=session)
            while transport.is_active():
                channel = transport.accept(_POLL_S)
                page = channel and session.pages.pop(channel.chanid, None)
                if channel is not None and page is not None:
                    threading.Thread(target=_forward, args=(page, channel), daemon=True).start()
        transport.close()
        self._transports.remove(transport)


def _forward(page: socket.socket, channel: paramiko.Channel) -> None:
    def carry_down() -> None:
        try:
            while data := page.recv(_PIECE_BYTES):
                channel.sendall(data)
            channel.shutdown_write()
        except (OSError, EOFError):
            channel.close()

    down = threading.Thread(target=carry_down, daemon=True)
    down.start()
    with page, channel:
        with suppress(OSError, EOFError):
            while data := channel.recv(_PIECE_BYTES):
                page.sendall(data)
            page.shutdown(socket.SHUT_WR)
        down.join()


def _covers(permission: Mapping[str, Any], address: str) -> bool:
    first, last = permission.get("FromPort", 0), permission.get("ToPort", 65535)
    if permission["IpProtocol"] not in ("tcp", "-1") or not first <= 22 <= last:
        return False
    return any(
        ip_address(address) in ip_network(found["CidrIp"]) for found in permission["IpRanges"]
    )


class _Session(paramiko.ServerInterface):
    """What one connection may do. `pages`: connections to pages whose channels come next."""

    def __init__(self, node: PrimaryNode) -> None:
        self._node = node
        self.pages: dict[int, socket.socket] = {}

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_own = self._node.authorizes(username, key)
        if is_own:
            self._node.start_pages()
        return common.AUTH_SUCCESSFUL if is_own else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        is_session = kind == "session"
        refused = common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return common.OPEN_SUCCEEDED if is_session else refused

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        args = (channel, command.decode("utf-8", "replace"), self._node.hub)
        threading.Thread(target=_run, args=args, daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        found = self._node.connect(*destination)
        if isinstance(found, int):
            return found
        self.pages[chanid] = found
        return common.OPEN_SUCCEEDED


def _run(channel: paramiko.Channel, command: str, hub: JupyterHub) -> None:
    """Set JupyterHub's password; for all else a shell's answer to a program that is not there."""
    with suppress(paramiko.SSHException, EOFError, OSError):
        # Closed with its input unread, the caller would hear that, and not why.
        given = b"".join(iter(lambda: channel.recv(_PIECE_BYTES), b""))
        if command == SET_PASSWORD and not hub.lack():
            hub.set_password(given)
            channel.send_exit_status(0)
        else:
            absent = f"{command.split(' ')[0]}: not on a rehearsed node"
            said = hub.lack() if command == SET_PASSWORD else absent
            channel.sendall_stderr(f"{said}\n".encode())
            channel.send_exit_status(127)
    channel.close()


class PrimaryNodes:
    """The primary nodes of all clusters, by the ids of their instances."""

    def __init__(self) -> None:
        self._addresses = NodeAddresses()
        self._nodes: dict[str, PrimaryNode] = {}

    @property
    def port(self) -> int:
        """The port of SSH on all of them."""
        return self._addresses.port

    def start(self, cluster: Cluster, host: Host, groups: list[str]) -> None:
        """Start the primary node of a cluster whose instances run."""
        node, listener = cluster.primary, self._addresses.listen()
        if node is not None and listener is not None:
            self._nodes[node.instance_id] = primary = PrimaryNode(cluster, node, host, groups)
            primary.start(listener)

    def stop(self, cluster: Cluster) -> None:
        """End the cluster's; it keeps its console, as an instance does for an hour."""
        if cluster.primary and (primary := self._nodes.get(cluster.primary.instance_id)):
            primary.stop()

    def console(self, instance_id: str) -> str | None:
        """The console output of an instance, None of one that is not a primary node."""
        primary = self._nodes.get(instance_id)
        return None if primary is None else primary.console
