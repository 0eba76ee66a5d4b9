"""Ports of 127.0.0.1: taken, accepted on by one thread, and given back."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from fruits_cli.errors import TunnelError

LOOPBACK = "127.0.0.1"
_HELLO_TIMEOUT_S = 15.0
_END_TIMEOUT_S = 3.0
_BACKLOG = 512
_MAX_CONNECTIONS = 1024

Serve = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Listener:
    """A port of 127.0.0.1 and what is done with a connection to it."""

    sock: socket.socket
    serve: Serve

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.sock.getsockname()[1])


def listening(port: int, *, tries: int = 1) -> socket.socket:
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
    """Accepts on all listeners until it is closed; then nothing is left open."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._listeners: list[Listener] = []
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept_all, daemon=True)

    def add(self, listener: Listener) -> None:
        """Serve this listener too; before `start`."""
        self._listeners.append(listener)
        self._selector.register(listener.sock, selectors.EVENT_READ, listener)

    def start(self) -> None:
        """Accept from now on, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._closed = True
        self._wake.send(b"x")
        if self._thread.ident is not None:
            self._thread.join()
        for listener in self._listeners:
            listener.sock.close()
        self._cut_connections()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _cut_connections(self) -> None:
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _END_TIMEOUT_S
        for thread in connections.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept_all(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                if isinstance(key.data, Listener):
                    self._accept(key.data)

    def _accept(self, listener: Listener) -> None:
        try:
            connection, _ = listener.sock.accept()
        except OSError:
            # Gone before we came, or out of descriptors: the wait keeps this from spinning.
            self._pause()
            return
        thread = threading.Thread(target=self._serve, args=(listener, connection), daemon=True)
        with self._lock:
            is_full = len(self._connections) >= _MAX_CONNECTIONS
            if not is_full:
                self._connections[connection] = thread
        if is_full:
            connection.close()
        else:
            thread.start()

    def _pause(self) -> None:
        with selectors.DefaultSelector() as wait:
            wait.register(self._woken, selectors.EVENT_READ)
            wait.select(0.1)

    def _serve(self, listener: Listener, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_HELLO_TIMEOUT_S)
            listener.serve(connection)
        except OSError:
            # The other program hung up; there is nobody left to tell.
            pass
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()
