from __future__ import annotations

import pytest

from fruits_cli.tunnel.http_guard import MAX_HEAD_BYTES, HeadError, checked_head, refusal

GOOD = b"GET /cluster HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: keep-alive\r\n\r\n"


def test_a_head_is_known_at_its_last_byte_and_not_before() -> None:
    assert all(checked_head(GOOD[:cut], port=8088) is None for cut in range(len(GOOD)))
    assert checked_head(GOOD + b"body", port=8088) == (
        b"GET /cluster HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: close\r\n\r\n",
        b"body",
    )


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: evil.example:8088\r\n\r\n", id="another name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", id="another port"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: localhost:8088\r\nHost: evil.example\r\n\r\n", id="two hosts"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost:8088\r\nOrigin: http://evil.example\r\n\r\n",
            id="another page",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost:8088\r\n Host: x\r\n\r\n", id="folded"),
        pytest.param(b"GET / HTTP/1.1\nHost: localhost:8088\n\n\r\n\r\n", id="bare line feeds"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="no HTTP"),
        pytest.param(b"x" * (MAX_HEAD_BYTES + 1), id="endless"),
    ],
)
def test_a_request_of_another_page_is_refused(head: bytes) -> None:
    with pytest.raises(HeadError):
        checked_head(head, port=8088)


def test_a_refusal_is_an_http_answer() -> None:
    head, _, body = refusal("no").partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 403 ")
    assert f"Content-Length: {len(body)}".encode() in head
