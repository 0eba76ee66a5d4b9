"""What has arrived for one channel and was not read yet, kept in the pieces it came in.

paramiko's BufferedPipe copies each piece into one array and twice out of it again, and moves
what is left; without that a download costs a tenth less of the processor.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from paramiko.buffered_pipe import PipeTimeout

# Smaller pieces are collected: a piece costs more memory than a few bytes do.
_SMALL_BYTES = 8 * 1024
_COLLECTED_BYTES = 64 * 1024


class PiecePipe:
    """What a Channel uses of paramiko's BufferedPipe, over a queue of pieces."""

    def __init__(self) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._size = 0
        self._is_closed = False
        self._ready = threading.Condition()

    def feed(self, data: bytes | str) -> None:
        """Add what arrived; called by the transport's thread."""
        piece = data.encode() if isinstance(data, str) else data
        if not piece:
            # An empty read means the end.
            return
        with self._ready:
            self._size += len(piece)
            last = self._pieces[-1] if self._pieces else None
            if isinstance(last, bytearray) and len(last) + len(piece) <= _COLLECTED_BYTES:
                last += piece
            else:
                self._pieces.append(bytearray(piece) if len(piece) < _SMALL_BYTES else piece)
            self._ready.notify()

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """At most `nbytes` of the oldest piece; empty at the end.

        Raises PipeTimeout when nothing came within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._ready:
            while not self._pieces:
                if self._is_closed:
                    return b""
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise PipeTimeout
                self._ready.wait(left)
            piece = self._pieces.popleft()
            if len(piece) > nbytes:
                self._pieces.appendleft(piece[nbytes:])
                piece = piece[:nbytes]
            self._size -= len(piece)
            return bytes(piece)

    def read_ready(self) -> bool:
        """Whether a read would not wait, the end apart."""
        return len(self) > 0

    def empty(self) -> bytes:
        """Everything that has arrived."""
        with self._ready:
            everything = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            return everything

    def close(self) -> None:
        """Let reads end once everything is read."""
        with self._ready:
            self._is_closed = True
            self._ready.notify_all()

    def __len__(self) -> int:
        with self._ready:
            return self._size
