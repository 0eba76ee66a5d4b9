"""What is done with a connection to one of our ports: the SOCKS proxy, a forward, the PAC file."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fruits_cli.tunnel import http_guard, socks
from fruits_cli.tunnel.connection import Link
from fruits_cli.tunnel.ports import HELLO_TIMEOUT_S, Serve
from fruits_cli.tunnel.reachable import Reachable, canonical_host
from fruits_cli.tunnel.relay import Checked, Client, OpenFailed, Stream, relay
from fruits_cli.tunnel.socks import Reply, SocksError, Target

_SUCCEEDED = socks.reply_message(Reply.SUCCEEDED)


def socks_server(link: Link, reachable: Reachable) -> Serve:
    """What serves a SOCKS5 client: greeting, request, then the stream."""

    async def serve(client: Client) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                early, target = await _negotiate(client)
            stream = await link.open(await _allowed_target(link, reachable, target))
        except SocksError as error:
            last = b"" if error.reply is None else socks.reply_message(error.reply)
            await client.hang_up(last)
        except OpenFailed as error:
            await client.hang_up(socks.reply_message(error.reply))
        else:
            client.writer.write(_SUCCEEDED)
            await relay(client, stream, to_far=early, check=check)

    def check(data: bytes) -> Checked | None:
        try:
            passed = http_guard.check_proxied(data, is_own=reachable.is_own_name)
        except http_guard.HeadError as error:
            return Checked(refusal=http_guard.refusal(str(error)))
        return None if passed is None else Checked(passed)

    return serve


def forward_server(link: Link, targets: tuple[Target, ...], *, http_port: int | None) -> Serve:
    """What forwards to the first of `targets` that answers, once the client has sent something.

    http_port: our own port, where the requests are plain HTTP and so can be checked.
    """

    async def serve(client: Client) -> None:
        try:
            # Clients of HTTP and TLS send first. One that only tests whether the port is open
            # opens nothing: where the host is this machine, that could be our own test.
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                early = (
                    await client.more()
                    if http_port is None
                    else await _checked_request(client, http_port)
                )
            stream = await open_first(link, targets)
        except http_guard.HeadError as error:
            await client.hang_up(http_guard.refusal(str(error)))
        except OpenFailed:
            await client.hang_up()
        else:
            await relay(client, stream, to_far=early)

    return serve


def file_server(text: str, *, port: int, content_type: str) -> Serve:
    """What answers every request for this port with the same text."""
    body = text.encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        "Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n"
    ).encode()

    async def serve(client: Client) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await _checked_request(client, port)
        except http_guard.HeadError as error:
            await client.hang_up(http_guard.refusal(str(error)))
        else:
            await client.hang_up(head + body)

    return serve


async def open_first(link: Link, targets: tuple[Target, ...]) -> Stream:
    """A stream to the first target that answers. Raises the last OpenFailed where none does."""
    for target in targets[:-1]:
        with suppress(OpenFailed):
            return await link.open(target)
    return await link.open(targets[-1])


async def _negotiate(client: Client) -> tuple[bytes, Target]:
    """What the client sent beyond its request, and the target that it asks for."""
    data = b""
    while (greeting := socks.parse_greeting(data)) is None:
        data += await client.more()
    client.writer.write(socks.method_reply(greeting))
    if socks.NO_AUTHENTICATION not in greeting.methods:
        raise SocksError("The client wants a password.")
    data = data[greeting.length :]
    while (request := socks.parse_request(data)) is None:
        data += await client.more()
    return data[request.length :], request.target


async def _allowed_target(link: Link, reachable: Reachable, target: Target) -> Target:
    if not reachable.allows(target.host, target.port):
        raise OpenFailed(f"{target.host} is not of this cluster.", reply=Reply.NOT_ALLOWED)
    place = canonical_host(target.host)
    if isinstance(place, str) and not reachable.is_own(place):
        # Any name may lead to the instance's credentials; only its address shows it.
        address = await asyncio.to_thread(link.address_of, place)
        return Target(address, target.port)
    return Target(str(place), target.port)


async def _checked_request(client: Client, port: int) -> bytes:
    data = b""
    while (checked := http_guard.check_head(data, port=port)) is None:
        data += await client.more()
    head, rest = checked
    return head + rest
