"""What is done with a connection to one of our ports: the SOCKS proxy, a forward, the PAC file."""

from __future__ import annotations

import socket
from contextlib import suppress

from fruits_cli.tunnel import http_guard as heads
from fruits_cli.tunnel import socks
from fruits_cli.tunnel.connection import Link, Stream
from fruits_cli.tunnel.ports import Serve
from fruits_cli.tunnel.reachable import Reachable, canonical_host
from fruits_cli.tunnel.relay import Checked, hang_up, relay
from fruits_cli.tunnel.socks import Reply, SocksError, Target
from fruits_cli.tunnel.transport import OpenFailed

_PIECE_BYTES = 64 * 1024


def socks_server(link: Link, reachable: Reachable) -> Serve:
    """What serves a SOCKS5 client: greeting, request, then the stream."""

    def serve(connection: socket.socket) -> None:
        try:
            early, target = _agree(connection)
        except SocksError as error:
            if error.reply is not None:
                connection.sendall(socks.reply_message(error.reply))
            hang_up(connection)
            return
        try:
            stream = link.open(_permitted(link, reachable, target))
        except OpenFailed as error:
            connection.sendall(socks.reply_message(error.reply))
            hang_up(connection)
            return
        succeeded = socks.reply_message(Reply.SUCCEEDED)
        relay(connection, stream, to_client=succeeded, to_far=early, check=check)

    def check(data: bytes) -> Checked | None:
        try:
            passed = heads.checked_proxied(data, is_own=reachable.is_own_name)
        except heads.HeadError as error:
            return Checked(refusal=heads.refusal(str(error)))
        return None if passed is None else Checked(passed)

    return serve


def forward_server(link: Link, targets: tuple[Target, ...], *, http_port: int | None) -> Serve:
    """What forwards to the first of `targets` that answers, once the client has spoken.

    http_port: our own port, where the requests are plain HTTP and so can be checked.
    """

    def serve(connection: socket.socket) -> None:
        try:
            # Clients of HTTP and TLS speak first. One that only looks whether somebody listens
            # opens nothing: on a host that is this very machine it could be our own look.
            early = (
                _more(connection) if http_port is None else _checked_request(connection, http_port)
            )
        except heads.HeadError as error:
            connection.sendall(heads.refusal(str(error)))
            hang_up(connection)
            return
        try:
            stream = open_first(link, targets)
        except OpenFailed:
            hang_up(connection)
            return
        relay(connection, stream, to_far=early)

    return serve


def file_server(text: str, *, port: int, content_type: str) -> Serve:
    """What answers every request for this port with the same text."""
    body = text.encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        "Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n"
    ).encode()

    def serve(connection: socket.socket) -> None:
        try:
            _checked_request(connection, port)
        except heads.HeadError as error:
            connection.sendall(heads.refusal(str(error)))
        else:
            connection.sendall(head + body)
        hang_up(connection)

    return serve


def open_first(link: Link, targets: tuple[Target, ...]) -> Stream:
    """A stream to the first target that answers. Raises the last OpenFailed where none does."""
    for target in targets[:-1]:
        with suppress(OpenFailed):
            return link.open(target)
    return link.open(targets[-1])


def _agree(connection: socket.socket) -> tuple[bytes, Target]:
    """What the client sent beyond its request, and the target that it asks for."""
    data = b""
    while (greeting := socks.parse_greeting(data)) is None:
        data += _more(connection)
    connection.sendall(socks.method_reply(greeting))
    if socks.NO_AUTHENTICATION not in greeting.methods:
        raise SocksError("The client wants a password.")
    data = data[greeting.length :]
    while (request := socks.parse_request(data)) is None:
        data += _more(connection)
    return data[request.length :], request.target


def _permitted(link: Link, reachable: Reachable, target: Target) -> Target:
    if not reachable.allows(target.host, target.port):
        raise OpenFailed(f"{target.host} is not of this cluster.", reply=Reply.NOT_ALLOWED)
    place = canonical_host(target.host)
    if isinstance(place, str) and not reachable.is_own(place):
        # Any name may lead to the instance's credentials; only its address tells.
        return Target(link.address_of(place), target.port)
    return Target(str(place), target.port)


def _checked_request(connection: socket.socket, port: int) -> bytes:
    data = b""
    while (checked := heads.checked_head(data, port=port)) is None:
        data += _more(connection)
    head, rest = checked
    return head + rest


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(_PIECE_BYTES)
    if not data:
        raise ConnectionError("The client hung up.")
    return data
