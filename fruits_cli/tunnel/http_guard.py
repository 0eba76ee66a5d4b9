"""Checks the head of an HTTP request before it reaches a page of the cluster.

A web page of a stranger can name a host that resolves to 127.0.0.1 and so reach our ports; its
requests carry that name as Host, so they are refused by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit

MAX_HEAD_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"[A-Z]{1,20} [^\x00-\x20\x7f]+ HTTP/1\.[01]")
_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"OPTIONS ")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_OWN_NAMES = ("127.0.0.1", "localhost")
# Headers about the connection, which is not kept.
_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"upgrade")


class HeadError(Exception):
    """The request must not be passed on; the text says why."""


def check_head(data: bytes, *, port: int) -> tuple[bytes, bytes] | None:
    """The head to send on and the bytes after it, or None while the head is incomplete.

    The head sent on asks for one answer and then the end of the connection, so that each
    request passes here. Raises HeadError where Host or Origin is not this port's, and for what
    another page makes a browser ask, but for following a link.
    """
    end = data.find(_END)
    if end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise HeadError("The head of the request is too long.")
        return None
    lines = data[:end].split(b"\r\n")
    if not _REQUEST_LINE.fullmatch(lines[0]):
        raise HeadError("This is not an HTTP request.")
    headers = [_header(line) for line in lines[1:]]
    _check_origin(headers, port=port)
    _check_page(lines[0], dict(headers))
    return _ask_for_one_answer(lines, headers), data[end + len(_END) :]


def check_proxied(data: bytes, *, is_own: Callable[[str], bool]) -> bytes | None:
    """What of a SOCKS client's first bytes to send on, or None while too few have come to decide.

    What is not HTTP/1 in the clear passes as it is. Spark ends a job at a GET of .../kill/, and of
    a name that is not localhost browsers send no Sec-Fetch-Site: such a request must name a page of
    the cluster as its Origin or Referer, else HeadError. Asked for one answer each, so that every
    request passes here; a WebSocket is left whole.
    """
    if not any(data.startswith(method) or method.startswith(data) for method in _METHODS):
        return data
    line, newline, _ = data.partition(b"\n")
    line = line.removesuffix(b"\r")
    if newline and not _REQUEST_LINE.fullmatch(line):
        return data
    end = data.find(_END)
    if end < 0:
        return None if len(data) <= MAX_HEAD_BYTES else data
    lines = data[:end].split(b"\r\n")
    headers = [_header(line) for line in lines[1:]]
    named = dict(headers)
    page = urlsplit(named.get(b"origin") or named.get(b"referer", b"")).hostname or b""
    if _is_kill(line) and not is_own(page.decode("ascii", "replace")):
        raise HeadError("The request comes from another page.")
    return (
        data
        if b"upgrade" in named
        else _ask_for_one_answer(lines, headers) + data[end + len(_END) :]
    )


def refusal(reason: str) -> bytes:
    """The answer to a request that is not passed on."""
    body = f"fruits tunnel: {reason}\n".encode("ascii", "replace")
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return head.encode() + b"Content-Type: text/plain\r\n\r\n" + body


def _header(line: bytes) -> tuple[bytes, bytes]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise HeadError("A header of the request is malformed.")
    return match[1].lower(), match[2]


def _ask_for_one_answer(lines: list[bytes], headers: list[tuple[bytes, bytes]]) -> bytes:
    kept = [line for line, (name, _) in zip(lines[1:], headers, strict=True) if name not in _HOP]
    return b"\r\n".join([lines[0], *kept, b"Connection: close"]) + _END


def _is_kill(request: bytes) -> bool:
    return b"/kill" in unquote_to_bytes(request.split(b" ")[1]).lower()


def _check_origin(headers: list[tuple[bytes, bytes]], *, port: int) -> None:
    own = {f"{name}:{port}".encode() for name in _OWN_NAMES}
    hosts = [value.lower() for name, value in headers if name == b"host"]
    if len(hosts) != 1 or hosts[0] not in own:
        raise HeadError(f"Only http://127.0.0.1:{port} and http://localhost:{port} are served.")
    origins = {value.lower() for name, value in headers if name == b"origin"}
    if not origins <= {b"http://" + host for host in own}:
        raise HeadError("The request comes from another page.")


def _check_page(request: bytes, headers: dict[bytes, bytes]) -> None:
    """A GET carries no Origin, but browsers say whether their own page asks.

    Source: W3C Fetch Metadata Request Headers. Programs send none of them, and may ask all.
    """
    if headers.get(b"sec-fetch-site", b"none").lower() in (b"none", b"same-origin"):
        return
    follows_link = (
        request.split(b" ")[0] in (b"GET", b"HEAD")
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
    )
    # Spark ends a stage or job at a GET of .../kill/.
    if not follows_link or _is_kill(request):
        raise HeadError("The request comes from another page.")
