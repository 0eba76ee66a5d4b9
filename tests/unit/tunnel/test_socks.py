from __future__ import annotations

import random

import pytest

from fruits_cli.tunnel.socks import (
    Greeting,
    Reply,
    Request,
    SocksError,
    Target,
    method_reply,
    parse_greeting,
    parse_request,
    reply_message,
)

REQUESTS = [
    pytest.param(b"\x05\x01\x00\x01\x0a\x00\x00\x07\x1f\x98", Target("10.0.0.7", 8088), id="IPv4"),
    pytest.param(b"\x05\x01\x00\x03\x09localhost\x24\xe3", Target("localhost", 9443), id="a name"),
    pytest.param(b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x16", Target("::1", 22), id="IPv6"),
    pytest.param(
        b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\xff\xff", Target("a" * 255, 65535), id="longest"
    ),
]


@pytest.mark.parametrize(("data", "target"), REQUESTS)
def test_a_request_is_known_at_its_last_byte_and_not_before(data: bytes, target: Target) -> None:
    for cut in range(len(data)):
        assert parse_request(data[:cut]) is None

    assert parse_request(data) == Request(target, len(data))


@pytest.mark.parametrize(("data", "target"), REQUESTS)
def test_bytes_after_a_request_are_left_to_the_target(data: bytes, target: Target) -> None:
    assert parse_request(data + b"GET / HTTP/1.1") == Request(target, len(data))


def test_a_greeting_is_known_at_its_last_byte_and_not_before() -> None:
    data = b"\x05\x03\x00\x01\x02"

    assert all(parse_greeting(data[:cut]) is None for cut in range(len(data)))
    assert parse_greeting(data + b"more") == Greeting(frozenset({0, 1, 2}), 5)


def test_a_client_that_insists_on_a_password_is_told_no() -> None:
    with_password = parse_greeting(b"\x05\x01\x02")
    without = parse_greeting(b"\x05\x02\x00\x02")

    assert with_password is not None
    assert method_reply(with_password) == b"\x05\xff"
    assert without is not None
    assert method_reply(without) == b"\x05\x00"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x04\x01", b"\x16\x03\x01", b"\x00"])
def test_another_protocol_is_known_by_its_first_byte(data: bytes) -> None:
    with pytest.raises(SocksError) as refused:
        parse_greeting(data)

    assert refused.value.reply is None


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        pytest.param(b"\x04", Reply.GENERAL_FAILURE, id="version"),
        pytest.param(b"\x05\x02", Reply.COMMAND_NOT_SUPPORTED, id="bind"),
        pytest.param(b"\x05\x03", Reply.COMMAND_NOT_SUPPORTED, id="udp"),
        pytest.param(b"\x05\x01\x00\x02", Reply.ADDRESS_TYPE_NOT_SUPPORTED, id="type"),
        pytest.param(b"\x05\x01\x00\x03\x00\x00\x50", Reply.GENERAL_FAILURE, id="empty name"),
        pytest.param(b"\x05\x01\x00\x03\x02\n;\x00\x50", Reply.GENERAL_FAILURE, id="no name"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(data: bytes, reply: Reply) -> None:
    with pytest.raises(SocksError) as refused:
        parse_request(data)

    assert refused.value.reply is reply


def test_any_bytes_are_a_request_a_refusal_or_too_few() -> None:
    dice = random.Random(8157)
    for _ in range(20_000):
        data = b"\x05\x01\x00"[: dice.randrange(4)] + dice.randbytes(dice.randrange(40))
        try:
            request = parse_request(data)
        except SocksError:
            continue
        assert request is None or request.length <= len(data)


def test_a_reply_is_ten_bytes() -> None:
    assert reply_message(Reply.HOST_UNREACHABLE) == b"\x05\x04\x00\x01" + bytes(6)
