"""The bytes of a connection, carried both ways."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from fruits_cli.tunnel.connection import Stream

_HANG_UP_S = 1.0
_PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Checked:
    """What of a client's first bytes goes to the far side, or the answer that it gets instead."""

    passed: bytes = b""
    refusal: bytes = b""


# None while too few bytes have come to tell.
Check = Callable[[bytes], Checked | None]


def passed_on(data: bytes) -> Checked:
    """Anything goes to the far side as it is."""
    return Checked(data)


def relay(
    connection: socket.socket,
    stream: Stream,
    *,
    to_client: bytes = b"",
    to_far: bytes = b"",
    check: Check = passed_on,
) -> None:
    """Carry bytes both ways until both sides are done; each may finish before the other.

    A stream that was cut resets the connection, so that half a file never looks whole. check: sees
    the client's first bytes before the far side does.
    """
    received_all = threading.Event()
    try:
        connection.sendall(to_client)
        connection.settimeout(None)
        down = threading.Thread(
            target=_carry_down, args=(stream, connection, received_all), daemon=True
        )
        down.start()
    except BaseException:
        stream.close()
        raise
    try:
        _carry_up(connection, stream, to_far, check)
        received_all.wait()
    finally:
        stream.close()
        down.join()


def _carry_up(connection: socket.socket, stream: Stream, early: bytes, check: Check) -> None:
    # OSError: the client reset the connection, or the far side is gone; both end the stream.
    with suppress(OSError):
        while (checked := check(early)) is None and (piece := connection.recv(_PIECE_BYTES)):
            early += piece
        if checked is not None and checked.refusal:
            connection.sendall(checked.refusal)
            hang_up(connection)
        else:
            stream.send_all(early if checked is None else checked.passed)
            while piece := connection.recv(_PIECE_BYTES):
                stream.send_all(piece)
            stream.finish_sending()
            return
    stream.close()


def _carry_down(stream: Stream, connection: socket.socket, received_all: threading.Event) -> None:
    is_whole = False
    try:
        while piece := stream.receive():
            connection.sendall(piece)
        if is_whole := stream.ended_well:
            connection.shutdown(socket.SHUT_WR)
            received_all.set()
            stream.wait_closed()
    except OSError:
        # Either side has gone. Closing the stream tells the far side, a reset the client.
        stream.close()
    finally:
        if not is_whole:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        received_all.set()
        # Wakes the other direction, which may be waiting for a client that says nothing.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)


def hang_up(connection: socket.socket) -> None:
    """End in order: unread bytes at a close would reset the connection and lose our answer."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_HANG_UP_S)
    for _ in range(16):
        if not connection.recv(_PIECE_BYTES):
            return
