"""Every request to AWS and its answer as a line of JSON, without secrets and account ids."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

import boto3

from fruits_cli.aws.errors import redacted
from fruits_cli.errors import UsageError

_REQUEST = "fruits_request"
# S3 names the owner by its canonical id, which is another form of the account's.
_SECRET = re.compile(
    r"secret|password|token|keymaterial|accesskeyid|presigned|userdata|authorization|signature"
    r"|^(owner|initiator)$",
    re.IGNORECASE,
)
# The tokens of pages reveal nothing, and the comparison needs them.
_NOT_SECRET = re.compile(r"^(next|continuation|nextcontinuation)?token$|marker", re.IGNORECASE)
# Not within a digest; a bucket's name may run into it.
_ACCOUNT_ID = re.compile(r"(?<![0-9a-fA-F])\d{12}(?![0-9a-fA-F])")
_ACCESS_KEY = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b")
_LEFT_OUT = "(left out)"
_LOG = logging.getLogger(__name__)


def trace_to(file: Path, session: boto3.Session) -> None:
    """Write what all clients of the session ask and are answered into the file, line by line.

    Raises UsageError where the file cannot be written.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as error:
        raise UsageError(f"The trace {file} cannot be written: {error.strerror}.") from error
    writing, lost = threading.Lock(), threading.Event()

    def note_request(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_REQUEST] = dict(params)

    def note_answer(parsed: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        line = trace_line(
            model.service_model.service_name, model.name, context.get(_REQUEST, {}), parsed
        )
        with writing:
            try:
                if not lost.is_set():
                    _append(line, file)
            except OSError as error:
                # Never raised: the request had its effect, and may have started a cluster.
                lost.set()
                _LOG.warning("The trace %s ends here: %s.", file, error.strerror)

    events: Any = session.events
    events.register("before-parameter-build", note_request)
    events.register("after-call", note_answer)


def _append(line: str, file: Path) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def trace_line(service: str, operation: str, request: Any, parsed: dict[str, Any]) -> str:
    """One request and its answer, or its error, as JSON."""
    entry = {"service": service, "operation": operation, "request": _without_secrets(request)}
    if "Error" in parsed:
        entry["error"] = _without_secrets(parsed["Error"])
    else:
        answer = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        entry["answer"] = _without_secrets(answer)
    return json.dumps(entry)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            str(name): _LEFT_OUT if _is_secret(str(name)) else _without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _ACCESS_KEY.sub(_LEFT_OUT, _ACCOUNT_ID.sub("000000000000", redacted(value)))
    # Contents of objects and keys are left out; times are kept.
    return str(value) if hasattr(value, "isoformat") else _LEFT_OUT


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _NOT_SECRET.search(name)
