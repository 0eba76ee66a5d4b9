"""Listens on ports of 127.0.0.1, and accepts on all of them in one thread."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fruits_cli.errors import TunnelError
from fruits_cli.tunnel.relay import Client

LOOPBACK = "127.0.0.1"
HELLO_TIMEOUT_S = 15.0
_END_TIMEOUT_S = 3.0
_BACKLOG = 512
_MAX_CONNECTIONS = 1024

Serve = Callable[[Client], Coroutine[Any, Any, None]]


def listen_on(port: int, *, tries: int = 1) -> socket.socket:
    """A listening socket on 127.0.0.1, on `port` or one of the `tries` - 1 ports after it.

    Raises TunnelError where they are all taken.
    """
    for candidate in range(port, min(port + tries, 65536)):
        try:
            return socket.create_server((LOOPBACK, candidate), backlog=_BACKLOG)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise TunnelError(f"Port {candidate} is reserved for the administrator.") from error
            if error.errno != errno.EADDRINUSE:
                raise TunnelError(
                    f"Port {candidate} cannot be opened: {error.strerror}."
                ) from error
    raise TunnelError(
        f"Port {port} of this machine is in use.",
        hint=f"Is another tunnel open? Else choose another port, such as --port {port + 10}.",
    )


class Acceptor:
    """Serves all listeners by one event loop in one thread, until it is closed."""

    def __init__(self) -> None:
        self._listeners: list[tuple[socket.socket, Serve]] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._is_serving = threading.Event()

    def add(self, sock: socket.socket, serve: Serve) -> None:
        """Serve the connections to this listening socket too; before `start`."""
        self._listeners.append((sock, serve))

    def start(self) -> None:
        """Accept from now on, in a thread."""
        self._thread.start()
        self._is_serving.wait()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._is_serving.is_set():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._closed.set)
            self._thread.join(_END_TIMEOUT_S)
        for sock, _ in self._listeners:
            sock.close()

    async def _serve(self) -> None:
        self._loop, self._closed = asyncio.get_running_loop(), asyncio.Event()
        servers = [
            await asyncio.start_server(self._handler(serve), sock=sock, backlog=_BACKLOG)
            for sock, serve in self._listeners
        ]
        self._is_serving.set()
        await self._closed.wait()
        for server in servers:
            server.close()
        for writer in self._clients:
            writer.transport.abort()

    def _handler(
        self, serve: Serve
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._clients) >= _MAX_CONNECTIONS:
                writer.transport.abort()
                return
            self._clients.add(writer)
            try:
                await serve(Client(reader, writer))
                writer.close()
                await writer.wait_closed()
            except (OSError, asyncio.CancelledError):
                # The other program closed the connection, or the loop ends: nobody is left to
                # tell. Python 3.11 writes a traceback for each task here that ends as cancelled.
                pass
            finally:
                self._clients.discard(writer)
                writer.transport.abort()

        return handle
