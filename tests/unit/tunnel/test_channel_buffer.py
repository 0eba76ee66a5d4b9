from __future__ import annotations

import threading

import pytest
from paramiko.buffered_pipe import PipeTimeout

from fruits_cli.tunnel.channel_buffer import PiecePipe


def test_bytes_come_out_as_they_went_in_whatever_their_pieces() -> None:
    pipe = PiecePipe()
    pieces = [b"", b"a", b"b" * 9000, b"", b"c" * 100, b"d" * 100, b"e" * 300_000]

    for piece in pieces:
        pipe.feed(piece)
    size = len(pipe)
    pipe.close()
    out = list(iter(lambda: pipe.read(1000), b""))

    assert size == sum(map(len, pieces))
    assert b"".join(out) == b"".join(pieces)
    assert max(map(len, out)) == 1000


def test_an_empty_pipe_times_out_and_a_closed_one_ends() -> None:
    pipe = PiecePipe()

    with pytest.raises(PipeTimeout):
        pipe.read(10, timeout=0.01)
    pipe.close()
    assert pipe.read(10) == b""
    assert not pipe.read_ready()


def test_a_reader_that_waits_is_woken() -> None:
    pipe, got = PiecePipe(), list[bytes]()
    reader = threading.Thread(target=lambda: got.append(pipe.read(10)))
    reader.start()

    pipe.feed(b"late")
    reader.join(60)

    assert got == [b"late"]


def test_many_small_pieces_take_little_more_than_their_bytes() -> None:
    pipe = PiecePipe()
    for _ in range(100_000):
        pipe.feed(b"x")

    assert len(pipe._pieces) <= 2
    assert pipe.empty() == b"x" * 100_000
