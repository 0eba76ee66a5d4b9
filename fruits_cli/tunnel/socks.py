"""SOCKS5 as bytes in and values out; no socket here. Source: RFC 1928."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

_VERSION = 5
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_LENGTHS = {_IPV4: 4, _IPV6: 16}
# Nothing that a resolver could read as something else than a name or an address.
_NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:%[]")

NO_AUTHENTICATION = 0


class Reply(IntEnum):
    """The answers to a request. Source: RFC 1928, section 6."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class SocksError(Exception):
    """The peer does not speak SOCKS5 as we do; `reply` is what to tell it, None for nothing."""

    def __init__(self, message: str, *, reply: Reply | None = None) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True)
class Target:
    """Where a connection is to go; `host` is a name or an address in text."""

    host: str
    port: int


@dataclass(frozen=True)
class Greeting:
    """The methods that a client offers, and how many bytes said so."""

    methods: frozenset[int]
    length: int


@dataclass(frozen=True)
class Request:
    """The target of a CONNECT, and how many bytes said so; what follows belongs to the target."""

    target: Target
    length: int


def parse_greeting(data: bytes) -> Greeting | None:
    """The client's first message, or None while bytes are still missing.

    Raises SocksError on another protocol. Source: RFC 1928, section 3.
    """
    if data[:1] not in (b"", bytes([_VERSION])):
        raise SocksError(f"Version {data[0]} is not SOCKS5.")
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    length = 2 + data[1]
    return Greeting(frozenset(data[2:length]), length)


def method_reply(greeting: Greeting) -> bytes:
    """The method that we choose: none needed, or 0xFF when the client does not offer that."""
    return bytes([_VERSION, 0 if NO_AUTHENTICATION in greeting.methods else 0xFF])


def parse_request(data: bytes) -> Request | None:
    """The target of a CONNECT request, or None while bytes are still missing.

    Raises SocksError, with the reply to send, on a wrong version, command, address type or name.
    Source: RFC 1928, sections 4 and 5.
    """
    _check_head(data)
    if len(data) < 5:
        return None
    kind = data[3]
    start = 5 if kind == _NAME else 4
    end = start + (data[4] if kind == _NAME else _ADDRESS_LENGTHS[kind])
    if len(data) < end + 2:
        return None
    host = _host(kind, data[start:end])
    return Request(Target(host, int.from_bytes(data[end : end + 2])), end + 2)


def reply_message(reply: Reply) -> bytes:
    """The answer to a request; our own address is left at 0.0.0.0:0, as `ssh -D` does."""
    return bytes([_VERSION, reply, 0, _IPV4]) + bytes(6)


def _check_head(data: bytes) -> None:
    if len(data) > 0 and data[0] != _VERSION:
        raise SocksError(f"Version {data[0]} is not SOCKS5.", reply=Reply.GENERAL_FAILURE)
    if len(data) > 1 and data[1] != _CONNECT:
        raise SocksError(f"Command {data[1]} is not CONNECT.", reply=Reply.COMMAND_NOT_SUPPORTED)
    if len(data) > 3 and data[3] not in (_IPV4, _NAME, _IPV6):
        raise SocksError(
            f"Address type {data[3]} is unknown.", reply=Reply.ADDRESS_TYPE_NOT_SUPPORTED
        )


def _host(kind: int, raw: bytes) -> str:
    if kind == _IPV4:
        return str(IPv4Address(raw))
    if kind == _IPV6:
        return str(IPv6Address(raw))
    if not raw or not _NAME_BYTES.issuperset(raw):
        raise SocksError("The name of the target is not a name.", reply=Reply.GENERAL_FAILURE)
    return raw.decode("ascii")
