"""The bytes of a connection, carried both ways by the tunnel's event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fruits_cli.tunnel.channel import ForwardChannel
from fruits_cli.tunnel.socks import Reply

_HANG_UP_S = 1.0
PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class OpenFailed(Exception):
    """A forward could not be opened; `reply` is how SOCKS says it."""

    def __init__(self, message: str, *, reply: Reply) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True)
class Client:
    """A program's connection to one of our ports."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def more(self) -> bytes:
        """The next bytes. Raises ConnectionError at the end."""
        if data := await self.reader.read(PIECE_BYTES):
            return data
        raise ConnectionError("The client hung up.")

    async def hang_up(self, answer: bytes = b"") -> None:
        """End in order: unread bytes at a close would reset the connection and lose the answer."""
        self.writer.write(answer)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HANG_UP_S):
                self.writer.write_eof()
                for _ in range(16):
                    if not await self.reader.read(PIECE_BYTES):
                        return

    def reset(self) -> None:
        """End so that the client sees a failure, and not the end of what it reads."""
        sock = self.writer.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.writer.transport.abort()


class Mailbox:
    """Calls from other threads into an event loop, which wakes once for many of them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have the loop call it soon, in the order of the posts."""
        self._calls.append((call, args))
        if not self._is_woken:
            self._is_woken = True
            # RuntimeError: the loop has ended, and with it all streams.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_woken = False
        # Calls that come meanwhile wake the loop again, after its sockets had their turn.
        for _ in range(len(self._calls)):
            call, args = self._calls.popleft()
            call(*args)


class Stream:
    """A forwarded connection as the event loop sees it.

    is_open fails with OpenFailed where the far side refuses. is_done: the channel is closed.
    """

    def __init__(self, mailbox: Mailbox, *, release: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._release: Callable[[], None] | None = release
        self._early: list[bytes] = []
        self._client: Client | None = None
        self._room = 0
        self._has_room = asyncio.Event()
        self._untaken_bytes = 0
        self._draining: asyncio.Task[None] | None = None
        self.channel: ForwardChannel | None = None
        self.is_open: asyncio.Future[None] = mailbox.loop.create_future()
        self.is_done: asyncio.Future[None] = mailbox.loop.create_future()
        self.ended_well = False

    # Called in the transport's thread.

    def opened(self) -> None:
        """The far side took the connection."""
        self._mailbox.post(self._opened)

    def refused(self, reply: Reply) -> None:
        """It did not; nothing else follows."""
        self._mailbox.post(self._refused, reply)

    def received(self, data: bytes) -> None:
        """Bytes came."""
        self._mailbox.post(self._received, data)

    def may_send(self, size: int) -> None:
        """The far side takes `size` bytes more."""
        self._mailbox.post(self._may_send, size)

    def ended(self) -> None:
        """The far side is done sending."""
        self._mailbox.post(self._ended)

    def closed(self) -> None:
        """The channel is closed, by the far side or because the connection was lost."""
        self._mailbox.post(self._closed)

    # In the event loop.

    def pass_to(self, client: Client) -> None:
        """Give the client all that comes from now on, and what has come."""
        self._client = client
        client.writer.transport.set_write_buffer_limits(high=0)
        for data in self._early:
            self._received(data)
        self._early.clear()
        if self.ended_well:
            self._ended()
        if self.is_done.done():
            self._closed()

    async def send_all(self, data: bytes) -> None:
        """Send everything, as fast as the far side takes it. Raises ConnectionError."""
        view = memoryview(data)
        while view:
            while not self._room and not self.is_done.done():
                self._has_room.clear()
                await self._has_room.wait()
            if self.is_done.done() or self.channel is None:
                raise ConnectionError("The far side takes no more.")
            sent = self.channel.send(view[: self._room])
            self._room -= sent
            view = view[sent:]

    def close(self) -> None:
        """Close both directions; what waits on them returns."""
        release, self._release = self._release, None
        if release is not None:
            self.is_open.cancel()
            if self.channel is not None:
                self.channel.close()
            release()

    def _opened(self) -> None:
        if not self.is_open.done():
            self.is_open.set_result(None)

    def _refused(self, reply: Reply) -> None:
        if not self.is_open.done():
            self.is_open.set_exception(OpenFailed("The host refused.", reply=reply))

    def _received(self, data: bytes) -> None:
        client = self._client
        if client is None:
            self._early.append(data)
            return
        if client.writer.transport.is_closing():
            # The client has closed: nothing reads what the far side sends.
            self.close()
            return
        client.writer.write(data)
        self._untaken_bytes += len(data)
        if not client.writer.transport.get_write_buffer_size():
            self._confirm()
        elif self._draining is None:
            self._draining = self._mailbox.loop.create_task(self._drain(client))

    async def _drain(self, client: Client) -> None:
        with suppress(ConnectionError):
            await client.writer.drain()
        self._draining = None
        self._confirm()

    def _confirm(self) -> None:
        if self.channel is not None and self._untaken_bytes:
            self.channel.confirm(self._untaken_bytes)
            self._untaken_bytes = 0

    def _may_send(self, size: int) -> None:
        self._room += size
        self._has_room.set()

    def _ended(self) -> None:
        self.ended_well = True
        if self._client is not None and not self._client.writer.transport.is_closing():
            # The client may have reset the connection, which the loop has not read yet.
            with suppress(OSError):
                self._client.writer.write_eof()

    def _closed(self) -> None:
        if not self.is_open.done():
            self._refused(Reply.GENERAL_FAILURE)
        if not self.is_done.done():
            self.is_done.set_result(None)
        self._has_room.set()
        if self._client is not None:
            if self.ended_well:
                self._client.writer.close()
            else:
                self._client.reset()
        self.close()


@dataclass(frozen=True)
class Checked:
    """What of a client's first bytes goes to the far side, or the answer that it gets instead."""

    passed: bytes = b""
    refusal: bytes = b""


# None while too few bytes have come to decide.
Check = Callable[[bytes], Checked | None]


def pass_all(data: bytes) -> Checked:
    """Anything goes to the far side as it is."""
    return Checked(data)


async def relay(
    client: Client, stream: Stream, *, to_far: bytes = b"", check: Check = pass_all
) -> None:
    """Carry bytes both ways until both sides are done; each may finish before the other.

    A stream that was cut resets the connection: half a file is never taken for a whole one.
    check: sees the client's first bytes before the far side does.
    """
    stream.pass_to(client)
    try:
        data = to_far
        while (checked := check(data)) is None and (piece := await client.reader.read(PIECE_BYTES)):
            data += piece
        if checked is not None and checked.refusal:
            await client.hang_up(checked.refusal)
            return
        data = data if checked is None else checked.passed
        while True:
            if data:
                await stream.send_all(data)
            if not (data := await client.reader.read(PIECE_BYTES)):
                break
        if stream.channel is not None:
            stream.channel.finish_sending()
        await stream.is_done
    finally:
        stream.close()
