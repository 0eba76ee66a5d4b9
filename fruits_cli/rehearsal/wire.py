"""Reads signed AWS requests, and writes answers and refusals in each protocol."""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl
from xml.sax.saxutils import escape

Environ = dict[str, Any]
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_JSON = "application/x-amz-json-1.1"


@dataclass(frozen=True)
class Call:
    """One request: whose key signed it, for which service and region, and the action's name."""

    service: str
    region: str
    action: str
    access_key: str


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Refused(Exception):
    """The service refuses, with the code that botocore gives to the caller."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def read_call(environ: Environ) -> Call | None:
    """The call and who signed it, or None for a request without a signature.

    Source: the credential scope of Signature Version 4, in the header or a presigned URL.
    """
    query = environ.get("QUERY_STRING", "")
    signature = environ.get("HTTP_AUTHORIZATION", "")
    if not signature:
        given = dict(parse_qsl(query)).get("X-Amz-Credential", "")
        signature = f"Credential={given}"
    found = _CREDENTIAL.search(signature)
    if found is None:
        return None
    access_key, region, service = found.groups()
    return Call(service, region, _action(service, environ), access_key)


def _action(service: str, environ: Environ) -> str:
    if service == "s3":
        return s3_action(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        return target.rpartition(".")[2]
    form = parse_qs(read_body(environ).decode("utf-8", "replace"))
    return (form.get("Action") or [""])[0]


def read_body(environ: Environ) -> bytes:
    """The whole body, which can be read again."""
    if environ.get("wsgi.input_terminated"):
        body = environ["wsgi.input"].read()
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    replace_body(environ, body)
    return bytes(body)


def replace_body(environ: Environ, body: bytes) -> None:
    """Replace the body for the next reader."""
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("wsgi.input_terminated", None)


# Source: Amazon S3 API reference, the request syntax of each action.
_S3_BY_QUERY = {
    ("GET", "location"): "GetBucketLocation",
    ("GET", "lifecycle"): "GetBucketLifecycleConfiguration",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "uploadId"): "ListParts",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("POST", "delete"): "DeleteObjects",
    ("PUT", "partNumber"): "UploadPart",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("PUT", "publicAccessBlock"): "PutPublicAccessBlock",
    ("PUT", "encryption"): "PutBucketEncryption",
    ("PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("PUT", "tagging"): "PutTagging",
    ("PUT", "policy"): "PutBucketPolicy",
}
_S3_SERVICE = {"GET": "ListBuckets"}
_S3_BUCKET = {
    "GET": "ListObjectsV2",
    "HEAD": "HeadBucket",
    "PUT": "CreateBucket",
    "DELETE": "DeleteBucket",
}
_S3_OBJECT = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}


def s3_action(method: str, path: str, query: str) -> str:
    """The S3 operation of a path-style request."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if (method, name) in _S3_BY_QUERY:
            return _S3_BY_QUERY[method, name]
    bucket, key = s3_place(path)
    table = _S3_OBJECT if key else _S3_BUCKET if bucket else _S3_SERVICE
    return table.get(method, f"{method} {path}")


def s3_place(path: str) -> tuple[str, str]:
    """Bucket and key of a path-style request; empty where there is none."""
    bucket, _, key = path.lstrip("/").partition("/")
    return bucket, key


def json_answer(members: Mapping[str, Any], *, status: int = 200) -> Answer:
    """An answer of the JSON 1.1 protocol; times are seconds since 1970."""
    headers = (("Content-Type", _JSON), ("x-amzn-RequestId", secrets.token_hex(8)))
    return Answer(status, headers, json.dumps(members).encode())


def xml_answer(text: str, *, status: int = 200) -> Answer:
    """An answer whose body is the given XML document."""
    headers = (("Content-Type", "text/xml"), ("x-amz-request-id", secrets.token_hex(8)))
    return Answer(status, headers, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode())


def console_output(instance_id: str, text: str) -> Answer:
    """GetConsoleOutput. Source: EC2 API reference; the text comes in Base64."""
    encoded = base64.b64encode(text.encode()).decode()
    return xml_answer(
        '<GetConsoleOutputResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>{secrets.token_hex(8)}</requestId><instanceId>{escape(instance_id)}"
        f"</instanceId><timestamp>{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}</timestamp>"
        f"<output>{encoded}</output></GetConsoleOutputResponse>"
    )


def refusal(service: str, refused: Refused) -> Answer:
    """An error in the words of the service's protocol (json, rest-xml, ec2 or query)."""
    code, message = escape(refused.code), escape(refused.message)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message>"
    if service in ("elasticmapreduce", "pricing", "servicequotas"):
        return _json_refusal(refused)
    if service == "s3":
        return xml_answer(f"{error}</Error>", status=refused.status)
    if service == "ec2":
        text = f"<Response><Errors>{error}</Error></Errors><RequestID>r</RequestID></Response>"
        return xml_answer(text, status=refused.status)
    text = f"<ErrorResponse>{error}<Type>Sender</Type></Error></ErrorResponse>"
    return xml_answer(text, status=refused.status)


def _json_refusal(refused: Refused) -> Answer:
    # InvalidRequestException spells its member Message, ValidationException message; botocore
    # takes either, and a real client of the API sees exactly one.
    key = "message" if refused.code == "ValidationException" else "Message"
    return json_answer({"__type": refused.code, key: refused.message}, status=refused.status)
