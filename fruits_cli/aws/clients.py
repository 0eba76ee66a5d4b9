"""boto3 clients with limits of time and attempts; S3's name the owner that we expect."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config as ClientConfig
from botocore.parsers import ResponseParserError

from fruits_cli import __version__
from fruits_cli.aws.errors import asking

# As many as uploads ever use at once.
_CONNECTIONS = 64
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
_ATTEMPTS = 8
# For callers that need to know soon whether AWS answers.
_HASTY_ATTEMPTS, _HASTY_TIMEOUT_S = 2, 5
# Prices have a built-in table: better ones are not worth a long wait.
_OPTIONAL, _OPTIONAL_ATTEMPTS, _OPTIONAL_TIMEOUT_S = ("pricing",), 2, 5


class Clients:
    """boto3 clients, each made at its first use."""

    def __init__(self, session: boto3.Session, region: str, *, is_hasty: bool = False) -> None:
        self._session, self.region, self._is_hasty = session, region, is_hasty
        self._made: dict[tuple[str, str, bool], Any] = {}
        self._account_id = ""
        # Making a client is not thread-safe; using one is.
        self._lock, self._asking = threading.Lock(), threading.Lock()

    def elsewhere(self, region: str) -> Clients:
        """The same session in another region."""
        return Clients(self._session, region, is_hasty=self._is_hasty)

    def __call__(self, service: str, *, region: str | None = None, once: bool = False) -> Any:
        """The client of a service; with `once` a request is never sent a second time."""
        key = (service, region or self.region, once)
        # The first client asks the profile's credential helper, wherever it is made.
        with self._lock, asking("take your credentials"):
            if key not in self._made:
                self._made[key] = client = self._session.client(
                    service,  # type: ignore[call-overload]
                    region_name=key[1],
                    config=_client_config(service, once=once, is_hasty=self._is_hasty),
                )
                client.meta.events.register("before-parse", _refuse_page)
                if service == "s3":
                    client.meta.events.register("provide-client-params.s3", self._name_owner)
            return self._made[key]

    def _name_owner(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Make S3 refuse a bucket of another account: its name does not say whose it is.

        An empty owner in the request stands for any. Source: S3 User Guide, bucket owner condition.
        """
        if "ExpectedBucketOwner" not in model.input_shape.members:
            return
        if not params.setdefault("ExpectedBucketOwner", self._caller()):
            del params["ExpectedBucketOwner"]

    def _caller(self) -> str:
        with self._asking:
            if not self._account_id:
                self._account_id = str(self("sts").get_caller_identity()["Account"])
            return self._account_id


# How a page begins that is no answer of a service which speaks XML.
_PAGE = re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE)


def _refuse_page(response_dict: dict[str, Any], operation_model: Any, **_: Any) -> None:
    """Raise ResponseParserError for what a proxy answered in AWS's place.

    botocore takes a page with status 200 for an answer in which every member is missing.
    """
    body, protocol = response_dict["body"], operation_model.service_model.resolved_protocol
    if response_dict["status_code"] >= 300:
        return
    if operation_model.has_streaming_output:
        # S3's GetObject, whose content may be a page.
        is_answer = "etag" in response_dict["headers"]
    elif protocol == "json":
        is_answer = not body or _is_json_object(body)
    else:
        is_answer = not _PAGE.match(body)
    if not is_answer:
        raise ResponseParserError(f"no answer to {operation_model.name}")


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


class Service:
    """What the modules of this package share: the clients of the services that they ask."""

    def __init__(self, clients: Callable[..., Any]) -> None:
        self._clients = clients

    @property
    def _ec2(self) -> Any:
        return self._clients("ec2")

    @property
    def _emr(self) -> Any:
        return self._clients("emr")

    @property
    def _iam(self) -> Any:
        return self._clients("iam")

    @property
    def _s3(self) -> Any:
        return self._clients("s3")


def _client_config(service: str, *, once: bool, is_hasty: bool) -> ClientConfig:
    # S3 slows down by prefix; one rate for all its requests would slow the other prefixes, too.
    mode = "standard" if service == "s3" else "adaptive"
    attempts, connect_s, read_s = _ATTEMPTS, _CONNECT_TIMEOUT_S, _READ_TIMEOUT_S
    if is_hasty:
        attempts, connect_s = _HASTY_ATTEMPTS, _HASTY_TIMEOUT_S
    if service in _OPTIONAL:
        attempts, connect_s, read_s = _OPTIONAL_ATTEMPTS, _OPTIONAL_TIMEOUT_S, _OPTIONAL_TIMEOUT_S
    retries = {"mode": mode, "total_max_attempts": 1 if once else attempts}
    return ClientConfig(
        retries=retries,  # type: ignore[arg-type]
        connect_timeout=connect_s,
        read_timeout=read_s,
        max_pool_connections=_CONNECTIONS,
        user_agent_extra=f"fruits/{__version__}",
    )
