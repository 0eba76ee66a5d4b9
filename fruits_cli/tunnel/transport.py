"""One SSH connection: reached, its host key checked, logged in, ready to open channels."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko import Message, PKey, SSHException
from paramiko.common import cMSG_CHANNEL_OPEN

from fruits_cli.errors import HostKeyRefused, HostUnreachable, LoginRefused
from fruits_cli.tunnel.channel import ForwardChannel
from fruits_cli.tunnel.goal import Endpoint
from fruits_cli.tunnel.host_keys import HostKey
from fruits_cli.tunnel.packetizer import BufferedPacketizer
from fruits_cli.tunnel.socks import Reply, Target

if TYPE_CHECKING:
    from fruits_cli.tunnel.relay import Stream

CONNECT_TIMEOUT_S = 15.0
# OpenSSH sends as much in a packet as we take, and fewer packets cost less of the interpreter.
_MAX_PACKET_BYTES = 256 * 1024
# AES-GCM is one call for cipher and digest, where aes128-ctr with HMAC is two.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
_DIGESTS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_HOST_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
_FORBIDDEN, _CONNECT_FAILED = 1, 2

# Without a handler Python would print paramiko's own messages among ours.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def _method(name: str) -> Callable[[Any, Message], None]:
    return lambda channel, message: getattr(channel, name)(message)


class ForwardTransport(paramiko.Transport):
    """paramiko's Transport with `ForwardChannel` for its forwards."""

    # By method name, for paramiko's table holds the functions of its own Channel.
    _channel_handler_table = {  # noqa: RUF012
        kind: _method(handler.__name__)
        for kind, handler in paramiko.Transport._channel_handler_table.items()  # type: ignore[attr-defined]
    }

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, packetizer_class=BufferedPacketizer)
        options = self.get_security_options()
        options.ciphers = _CIPHERS
        options.digests = _DIGESTS
        # paramiko's own map holds weak references only.
        self._forwards: dict[int, ForwardChannel] = {}

    @property
    def heard_s(self) -> float:
        """When the host last sent anything, on the monotonic clock."""
        assert isinstance(self.packetizer, BufferedPacketizer)
        return self.packetizer.heard_s

    def open_forward(self, target: Target, stream: Stream, *, window_bytes: int) -> ForwardChannel:
        """Ask for a channel to `target` as the host sees it; what comes of it goes to `stream`."""
        with self.lock:
            channel_id = self._next_channel()  # type: ignore[attr-defined]
            channel = ForwardChannel(self, channel_id, window_bytes, stream)
            self._channels.put(channel_id, channel)  # type: ignore[attr-defined]
            self.channels_seen[channel_id] = True
            self._forwards[channel_id] = channel
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string("direct-tcpip")
        for number in (channel_id, window_bytes, _MAX_PACKET_BYTES):
            message.add_int(number)
        for host, port in ((target.host, target.port), ("127.0.0.1", 0)):
            message.add_string(host)
            message.add_int(port)
        self._send_user_message(message)  # type: ignore[attr-defined]
        if not self.is_active():
            channel._unlink()
        return channel

    def _unlink_channel(self, channel_id: int) -> None:
        self._forwards.pop(channel_id, None)
        super()._unlink_channel(channel_id)  # type: ignore[misc]

    def _parse_channel_open_failure(self, message: Message) -> None:
        channel_id, reason = message.get_int(), message.get_int()
        channel = self._channels.get(channel_id)  # type: ignore[attr-defined]
        if isinstance(channel, ForwardChannel):
            self._unlink_channel(channel_id)
            channel.refused(_reply(reason))
            return
        message.rewind()
        super()._parse_channel_open_failure(message)  # type: ignore[misc]


def open_connection(
    endpoint: Endpoint,
    keys: list[PKey],
    *,
    check: Callable[[HostKey], None],
    known_kinds: Iterable[str],
    try_all_kinds: bool,
) -> ForwardTransport:
    """A connection that is logged in.

    keys: offered in this order; the one that is taken moves to the front. check: raises
    HostKeyRefused on a key that is not to be trusted. known_kinds: kinds of key to ask for first;
    with try_all_kinds a refused key is followed by the host's keys of other kinds.
    Raises HostUnreachable, HostKeyRefused or LoginRefused.
    """
    transport = _handshake(endpoint, check, _algorithms(known_kinds), try_all_kinds=try_all_kinds)
    try:
        _log_in(transport, endpoint, keys)
    except BaseException:
        transport.close()
        raise
    return transport


def _handshake(
    endpoint: Endpoint,
    check: Callable[[HostKey], None],
    first: tuple[str, ...],
    *,
    try_all_kinds: bool,
) -> ForwardTransport:
    preferred = first + tuple(kind for kind in _HOST_KEYS if kind not in first)
    try:
        return _try_kinds(endpoint, check, preferred)
    except HostKeyRefused as refused:
        # A fingerprint does not tell its kind, and a host shows one key of several at a time.
        for kind in preferred if try_all_kinds else ():
            try:
                return _try_kinds(endpoint, check, (kind,))
            except (HostKeyRefused, HostUnreachable):
                continue
        raise refused from None


def _try_kinds(
    endpoint: Endpoint, check: Callable[[HostKey], None], kinds: tuple[str, ...]
) -> ForwardTransport:
    transport = ForwardTransport(_socket_to(endpoint))
    try:
        transport.get_security_options().key_types = kinds
        _start(transport, endpoint)
        shown = transport.get_remote_server_key()
        check(HostKey(shown.get_name(), shown.asbytes()))
    except BaseException:
        transport.close()
        raise
    return transport


def _start(transport: ForwardTransport, endpoint: Endpoint) -> None:
    try:
        transport.start_client(timeout=CONNECT_TIMEOUT_S)
    except (SSHException, EOFError, OSError) as error:
        raise HostUnreachable(
            f"{endpoint.host} answers on port {endpoint.port}, but SSH with it failed: "
            f"{error or 'it hung up'}.",
            hint="Is it an SSH server, and has the instance finished starting?",
        ) from error


def _socket_to(endpoint: Endpoint) -> socket.socket:
    where = f"{endpoint.host} on port {endpoint.port}"
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_TIMEOUT_S)
    except (socket.gaierror, UnicodeError) as error:
        # A label of more than 63 letters, or one that is not text, is refused before it is asked.
        raise HostUnreachable(f"The name {endpoint.host} is not known here.") from error
    except TimeoutError as error:
        raise HostUnreachable(
            f"Nothing answers from {where}.",
            hint="A security group that does not allow this machine's address looks like this.",
        ) from error
    except OSError as error:
        raise HostUnreachable(f"No connection to {where}: {error.strerror or error}.") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _log_in(transport: ForwardTransport, endpoint: Endpoint, keys: list[PKey]) -> None:
    for number, key in enumerate(keys):
        try:
            if not transport.auth_publickey(endpoint.user, key):
                keys.insert(0, keys.pop(number))
                return
        except (SSHException, EOFError, OSError) as error:
            if transport.is_active():
                continue
            if not number:
                raise HostUnreachable(f"{endpoint.host} hung up during the login.") from error
            # sshd ends a connection after six keys that it does not know (MaxAuthTries).
            raise LoginRefused(
                f"{endpoint.host} hung up before all {len(keys)} keys of the SSH agent were tried.",
                hint="Name the right one: --key-file KEY.pem, or KEY.pem.pub if the agent has it.",
            ) from error
    raise LoginRefused(
        f"{endpoint.host} refuses the key{'s' if len(keys) > 1 else ''} for user {endpoint.user}.",
        hint="EMR's user is hadoop, and the key is the one the cluster was created with.",
    )


def _algorithms(kinds: Iterable[str]) -> tuple[str, ...]:
    wanted = [name for kind in kinds for name in _ALGORITHMS.get(kind, (kind,))]
    return tuple(dict.fromkeys(name for name in wanted if name in _HOST_KEYS))


def _reply(reason: int | None) -> Reply:
    return {
        _FORBIDDEN: Reply.NOT_ALLOWED,
        _CONNECT_FAILED: Reply.CONNECTION_REFUSED,
    }.get(reason or 0, Reply.GENERAL_FAILURE)
