"""An S3 some milliseconds away, quick enough to be waited for: `... far_s3 BUCKET DELAY_S`

Prints its address. Takes objects, verifies their checksums, lists and heads them; content is not
kept but for small objects. moto answers some hundred requests a second, this some thousand.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from fruits_cli.rehearsal.s3 import CHECKSUMS, decode_chunks, matches_checksum

KEPT_BYTES = 2**20
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    size: int
    etag: str
    checksums: Mapping[str, str]
    content: bytes | None


@dataclass
class S3:
    """One bucket, and what was asked of it."""

    bucket: str
    delay_s: float
    objects: dict[str, Stored] = field(default_factory=dict)
    requests: int = 0
    received: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")[:-2]
                method, target, _ = first.split(" ")
                pairs = (line.partition(":") for line in lines)
                headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                if headers.get("expect") == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                writer.write(await self._answer(method, target, headers, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> bytes:
        url = urlsplit(target)
        if url.path == "/-/forget":
            self.objects, self.requests, self.received = {}, 0, 0
        if url.path.startswith("/-/"):
            seen = {
                "objects": len(self.objects),
                "requests": self.requests,
                "bytes": self.received,
            }
            return _response(200, json.dumps(seen).encode())
        self.requests += 1
        self.received += len(body)
        await asyncio.sleep(self.delay_s)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if bucket != self.bucket:
            return _refusal(404, "NoSuchBucket")
        if method == "PUT" and key:
            return self._put(key, headers, body)
        if key:
            return self._get(method, key)
        return self._list(parse_qs(url.query, keep_blank_values=True))

    def _put(self, key: str, headers: Mapping[str, str], body: bytes) -> bytes:
        if headers.get("if-none-match") == "*" and key in self.objects:
            return _refusal(412, "PreconditionFailed")
        content, trailers = body, {}
        said = headers.get("x-amz-content-sha256", "")
        if said.startswith("STREAMING-"):
            content, trailers = decode_chunks(body)
        stated = {
            name: value
            for name in CHECKSUMS
            if (value := {**headers, **trailers}.get(f"x-amz-checksum-{name}"))
        }
        is_whole = not _DIGEST.fullmatch(said) or hashlib.sha256(content).hexdigest() == said
        if not is_whole or not all(matches_checksum(*one, content) for one in stated.items()):
            return _refusal(400, "BadDigest")
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        kept = content if len(content) <= KEPT_BYTES else None
        self.objects[key] = Stored(len(content), etag, stated, kept)
        return _response(200, b"", {"ETag": etag})

    def _get(self, method: str, key: str) -> bytes:
        stored = self.objects.get(key)
        if stored is None:
            return _refusal(404, "NoSuchKey", has_body=method != "HEAD")
        headers = {
            "ETag": stored.etag,
            "Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT",
            **{f"x-amz-checksum-{name}": value for name, value in stored.checksums.items()},
        }
        if method == "HEAD":
            return _response(200, b"", headers, length=stored.size)
        if stored.content is None:
            return _refusal(503, "NotKept")
        return _response(200, stored.content, headers)

    def _list(self, query: Mapping[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{one.size}</Size>"
            f"<ETag>{escape(one.etag)}</ETag><LastModified>2026-11-24T12:00:00.000Z</LastModified>"
            "</Contents>"
            for key, one in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return _response(200, text.encode(), {"x-amz-bucket-region": "eu-west-3"})


def _refusal(status: int, code: str, *, has_body: bool = True) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>" if has_body else ""
    return _response(status, text.encode())


def _response(
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
) -> bytes:
    given = {**(headers or {}), "Content-Length": str(len(body) if length is None else length)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode("latin-1") + body


async def main(bucket: str, delay_s: float) -> None:
    s3 = S3(bucket, delay_s)
    listening = await asyncio.start_server(s3.serve, "127.0.0.1", 0, limit=2**20)
    host, port = listening.sockets[0].getsockname()[:2]
    print(f"http://{host}:{port}", flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
