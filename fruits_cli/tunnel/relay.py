"""A stream opened in time, and its bytes carried both ways."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from fruits_cli.tunnel.connection import Stream
from fruits_cli.tunnel.socks import Reply
from fruits_cli.tunnel.transport import OpenFailed

OPEN_TIMEOUT_S = 15.0
_PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def open_in_time(open_stream: Callable[[], Stream], timeout_s: float = OPEN_TIMEOUT_S) -> Stream:
    """The stream, if it opens within `timeout_s`; one that opens later is closed at once.

    Raises OpenFailed, with HOST_UNREACHABLE after the time-out.
    """
    answer: Future[Stream] = Future()

    def run() -> None:
        try:
            stream = open_stream()
        except OpenFailed as error:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)
            return
        if answer.set_running_or_notify_cancel():
            answer.set_result(stream)
        else:
            stream.close()

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout_s)
    except TimeoutError as error:
        if answer.cancel():
            raise OpenFailed("No answer.", reply=Reply.HOST_UNREACHABLE) from error
        return answer.result()


def relay(
    connection: socket.socket, stream: Stream, *, to_client: bytes = b"", to_far: bytes = b""
) -> None:
    """Carry bytes both ways until both sides are done; each may finish before the other.

    A stream that was cut resets the connection, so that half a file never looks whole.
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
        _carry_up(connection, stream, to_far)
        received_all.wait()
    finally:
        stream.close()
        down.join()


def _carry_up(connection: socket.socket, stream: Stream, early: bytes) -> None:
    # OSError: the client reset the connection, or the far side is gone; both end the stream.
    with suppress(OSError):
        if early:
            stream.send_all(early)
        while piece := connection.recv(_PIECE_BYTES):
            stream.send_all(piece)
        stream.finish_sending()
        return
    stream.close()


def _carry_down(stream: Stream, connection: socket.socket, received_all: threading.Event) -> None:
    try:
        while piece := stream.receive():
            connection.sendall(piece)
        if stream.ended_well:
            connection.shutdown(socket.SHUT_WR)
            received_all.set()
            stream.wait_closed()
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        # The client has gone; closing the stream tells the far side.
        stream.close()
    finally:
        received_all.set()
        # Wakes the other direction, which may be waiting for a client that says nothing.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
