from __future__ import annotations

import pytest

from fruits_cli.tunnel.http_guard import (
    MAX_HEAD_BYTES,
    HeadError,
    check_head,
    check_proxied,
    refusal,
)

GOOD = b"GET /cluster HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: keep-alive\r\n\r\n"


def test_a_head_is_known_at_its_last_byte_and_not_before() -> None:
    assert all(check_head(GOOD[:cut], port=8088) is None for cut in range(len(GOOD)))
    assert check_head(GOOD + b"body", port=8088) == (
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
        check_head(head, port=8088)


def test_a_refusal_is_an_http_answer() -> None:
    head, _, body = refusal("no").partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 403 ")
    assert f"Content-Length: {len(body)}".encode() in head


def asked_by_a_browser(
    target: str, *, site: str, mode: str, dest: str, method: str = "GET"
) -> bytes:
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost:8088\r\nSec-Fetch-Site: {site}\r\n"
        f"Sec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {dest}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("method", "target", "site", "mode", "dest"),
    [
        ("GET", "/proxy.pac", "cross-site", "no-cors", "script"),
        ("GET", "/logo.png", "same-site", "no-cors", "image"),
        ("GET", "/", "cross-site", "navigate", "iframe"),
        ("GET", "/stages/stage/kill/?id=1", "cross-site", "navigate", "document"),
        ("GET", "/stages/stage/%6Bill/?id=1", "same-site", "navigate", "document"),
        pytest.param("POST", "/", "cross-site", "navigate", "document", id="a form"),
    ],
)
def test_what_another_page_makes_a_browser_ask_is_refused(
    method: str, target: str, site: str, mode: str, dest: str
) -> None:
    head = asked_by_a_browser(target, site=site, mode=mode, dest=dest, method=method)

    with pytest.raises(HeadError, match="comes from another page"):
        check_head(head, port=8088)


@pytest.mark.parametrize(
    ("target", "site", "mode", "dest"),
    [
        ("/stages/stage/kill/?id=1", "same-origin", "navigate", "document"),
        ("/stages/stage/kill/?id=1", "none", "navigate", "document"),
        ("/history", "cross-site", "navigate", "document"),
        ("/static/x.js", "same-origin", "no-cors", "script"),
    ],
)
def test_own_pages_and_links_pass(target: str, site: str, mode: str, dest: str) -> None:
    head = asked_by_a_browser(target, site=site, mode=mode, dest=dest)

    assert check_head(head, port=8088) is not None


def is_own(host: str) -> bool:
    return host == "ip-10-0-0-7.ec2.internal"


KILL = b"GET /proxy/application_1/jobs/job/k%69ll/?id=3 HTTP/1.1\r\nHost: ip-10-0-0-7\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Referer: http://evil.example/\r\n",
        b"Origin: null\r\nReferer: http://ip-10-0-0-7.ec2.internal/\r\n",
        b"Origin: http://evil.example\r\n",
        b"Origin: http://evil.example\r\nUpgrade: websocket\r\n",
    ],
)
def test_through_socks_another_page_ends_no_job(header: bytes) -> None:
    with pytest.raises(HeadError, match="another page"):
        check_proxied(KILL + header + b"\r\n", is_own=is_own)


def test_through_socks_a_page_of_the_cluster_may_end_a_job() -> None:
    own = b"Referer: http://ip-10-0-0-7.ec2.internal:8088/proxy/jobs/\r\n"

    passed = check_proxied(KILL + own + b"\r\nbody", is_own=is_own)

    assert passed == KILL + own + b"Connection: close\r\n\r\nbody"


def test_through_socks_a_request_is_told_as_soon_as_its_head_is_whole() -> None:
    head = KILL.replace(b"/k%69ll", b"") + b"\r\n"

    assert all(check_proxied(head[:cut], is_own=is_own) is None for cut in range(len(head)))
    assert check_proxied(head, is_own=is_own)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 a TLS hello",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"QUIT",
        b"GET key\n",
        b"GET key\r\n",
        b"PUT\x00",
        b"GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_through_socks_what_is_no_plain_request_passes_as_it_is(data: bytes) -> None:
    assert check_proxied(data, is_own=is_own) == data
