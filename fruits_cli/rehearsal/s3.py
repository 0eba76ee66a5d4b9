"""Adds what S3 does and moto lacks: regions, owners, checksums, conditional puts."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from fruits_cli.rehearsal.wire import (
    Call,
    Environ,
    Refused,
    read_body,
    refusal,
    replace_body,
    s3_place,
)
from fruits_cli.rehearsal.world import ACCOUNT

Wsgi = Callable[[Environ, Any], Iterable[bytes]]
# CRC32C and CRC64NVME, which Python lacks, are kept as the client states them.
CHECKSUMS: dict[str, Callable[[bytes], bytes] | None] = {
    "crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "crc32c": None,
    "crc64nvme": None,
    "sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BucketElsewhere(Refused):
    """301 with the bucket's own region."""

    def __init__(self, region: str) -> None:
        super().__init__(
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified "
            "endpoint. Please send all future requests to this endpoint.",
            status=301,
        )
        self.region = region


class S3Checks:
    """Refuses what S3 would refuse, before moto answers."""

    def __init__(self, moto: Wsgi, region_of: Callable[[str], str | None]) -> None:
        self._moto, self._region_of = moto, region_of
        self._one_at_a_time = threading.Lock()

    def __call__(self, call: Call, environ: Environ, start_response: Any) -> Iterable[bytes]:
        try:
            self._check(call, environ)
        except Refused as refused:
            return _refuse(call, refused, start_response)
        # moto looks and then puts: two conditional puts at once would both win.
        is_conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        if is_conditional and environ["REQUEST_METHOD"] in ("PUT", "POST"):
            with self._one_at_a_time:
                return list(self._moto(environ, start_response))
        return self._moto(environ, start_response)

    def _check(self, call: Call, environ: Environ) -> None:
        bucket, _ = s3_place(environ["PATH_INFO"])
        region = self._region_of(bucket) if bucket else None
        # Any region may ask where a bucket is. Source: S3 API reference, GetBucketLocation.
        if region not in (None, call.region) and call.action not in (
            "GetBucketLocation",
            "CreateBucket",
        ):
            raise BucketElsewhere(str(region))
        # Source: S3 User Guide, verifying bucket ownership with bucket owner condition.
        if environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER", ACCOUNT) != ACCOUNT:
            raise Refused("AccessDenied", "Access Denied", status=403)
        if environ["REQUEST_METHOD"] in ("PUT", "POST"):
            verify(environ)


def _refuse(call: Call, refused: Refused, start_response: Any) -> Iterable[bytes]:
    answer = refusal(call.service, refused)
    headers = list(answer.headers)
    if isinstance(refused, BucketElsewhere):
        headers.append(("x-amz-bucket-region", refused.region))
    start_response(f"{answer.status} Refused", headers)
    return [] if call.action.startswith("Head") else [answer.body]


def verify(environ: Environ) -> None:
    """Refuse a body that is not what its headers or trailers say; else hand it on decoded.

    Source: S3 user guide, checking object integrity; API reference, PutObject and the error codes
    BadDigest and XAmzContentSHA256Mismatch.
    """
    body, trailers = _decode_body(environ, read_body(environ))
    stated = {
        name: environ.get(f"HTTP_X_AMZ_CHECKSUM_{name.upper()}")
        or trailers.get(f"x-amz-checksum-{name}")
        for name in CHECKSUMS
    }
    # On CompleteMultipartUpload the header is about the whole object, not of this body.
    is_content = environ["REQUEST_METHOD"] == "PUT"
    for name, value in stated.items():
        if value and is_content:
            _require(
                matches_checksum(name, value, body),
                "BadDigest",
                f"The {name.upper()} you specified",
            )
            environ[f"HTTP_X_AMZ_CHECKSUM_{name.upper()}"] = value
            # Without it moto does not keep a checksum that was given outright.
            environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", name.upper())
    _verify_digests(environ, body)


def matches_checksum(name: str, stated: str, body: bytes) -> bool:
    """Whether the stated checksum is the body's; a kind that cannot be computed here passes."""
    digest = CHECKSUMS[name]
    return digest is None or base64.b64encode(digest(body)).decode() == stated


def _verify_digests(environ: Environ, body: bytes) -> None:
    md5 = environ.get("HTTP_CONTENT_MD5")
    if md5:
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        _require(base64.b64encode(digest).decode() == md5, "BadDigest", "The Content-MD5 you gave")
    sha256 = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
    if _DIGEST.fullmatch(sha256):
        same = hashlib.sha256(body).hexdigest() == sha256
        _require(same, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header")


def _require(is_same: bool, code: str, what: str) -> None:
    if not is_same:
        raise Refused(code, f"{what} did not match what we received.")


def decode_chunks(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The content and trailers of an aws-chunked body. Source: S3 API, streaming with trailers."""
    content, rest = bytearray(), body
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0] or b"0", 16)
        if length == 0:
            break
        content += rest[:length]
        rest = rest[length + 2 :]
    return bytes(content), _parse_trailers(rest)


def _decode_body(environ: Environ, body: bytes) -> tuple[bytes, dict[str, str]]:
    if not environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-"):
        return body, {}
    content, trailers = decode_chunks(body)
    expected = int(environ.pop("HTTP_X_AMZ_DECODED_CONTENT_LENGTH", len(content)))
    if expected != len(content):
        raise Refused("IncompleteBody", "You did not provide the number of bytes you announced.")
    _drop_chunk_headers(environ, content)
    return content, trailers


def _drop_chunk_headers(environ: Environ, content: bytes) -> None:
    encodings = environ.pop("HTTP_CONTENT_ENCODING", "").split(",")
    kept = [name.strip() for name in encodings if name.strip() not in ("", "aws-chunked")]
    if kept:
        environ["HTTP_CONTENT_ENCODING"] = ",".join(kept)
    environ.pop("HTTP_X_AMZ_TRAILER", None)
    environ["HTTP_X_AMZ_CONTENT_SHA256"] = "UNSIGNED-PAYLOAD"
    replace_body(environ, content)


def _parse_trailers(rest: bytes) -> dict[str, str]:
    lines = (line.partition(b":") for line in rest.split(b"\r\n") if b":" in line)
    return {name.strip().decode().lower(): value.strip().decode() for name, _, value in lines}
