"""AWS through boto3: the one place where clients are made. Each door of `cloud` has its file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config as ClientConfig

from fruits_cli import __version__
from fruits_cli.aws.account import AwsAccount
from fruits_cli.aws.addresses import fetch_own_addresses
from fruits_cli.aws.ec2 import AwsAccess
from fruits_cli.aws.emr import AwsClusters
from fruits_cli.aws.errors import asking
from fruits_cli.aws.preflight import AwsPreflight
from fruits_cli.aws.remains import AwsRemains
from fruits_cli.aws.rights import AwsRights
from fruits_cli.aws.s3 import AwsStorage
from fruits_cli.aws.trace import trace_to
from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.protocols import Clock, Cloud, ClusterAccess, SystemClock
from fruits_cli.config import AwsConfig
from fruits_cli.errors import ConfigError

# As many as uploads ever use at once.
_CONNECTIONS = 64
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
_ATTEMPTS = 8
# For those who would rather know soon that AWS does not answer.
_HASTY_ATTEMPTS, _HASTY_TIMEOUT_S = 2, 5
_LOOPBACK = "127.0.0.1"
# Prices have a built-in table behind them: nobody waits long for better ones.
_OPTIONAL, _OPTIONAL_ATTEMPTS, _OPTIONAL_TIMEOUT_S = ("pricing",), 2, 5


def connect(
    config: AwsConfig,
    *,
    region: str | None = None,
    environ: Mapping[str, str] = os.environ,
    clock: Clock | None = None,
    is_hasty: bool = False,
) -> Cloud:
    """AWS as this profile and region see it; nothing is asked yet.

    is_hasty: give up within seconds. Raises ConfigError where no region is configured, or the
    profile does not exist.
    """
    return _cloud(_clients(config, region, environ, is_hasty=is_hasty), clock or SystemClock())


def connect_everywhere(config: AwsConfig) -> Callable[[str], Cloud]:
    """AWS in any region, through one session: making one takes longer than asking. As `connect`."""
    clients = _clients(config, None, os.environ)
    return lambda region: _cloud(clients.elsewhere(region), SystemClock())


def _cloud(clients: Clients, clock: Clock) -> Cloud:
    region = clients.region
    return Cloud(
        storage=AwsStorage(clients, region),
        clusters=AwsClusters(clients, clock),
        rights=AwsRights(clients),
        remains=AwsRemains(clients),
        account=AwsAccount(clients, region, clock),
        preflight=AwsPreflight(clients, region, clock),
    )


def cluster_access(
    config: AwsConfig, cluster: Cluster, *, environ: Mapping[str, str] = os.environ
) -> ClusterAccess:
    """One cluster as the tunnel sees it; nothing is asked yet. Raises ConfigError as `connect`."""
    clients = _clients(config, None, environ)
    # A stand-in AWS on this machine sees this machine as the loopback.
    own = (lambda: (_LOOPBACK,)) if is_stand_in(environ) else fetch_own_addresses
    return AwsAccess(clients, clients.region, cluster, own_addresses=own)


def is_stand_in(environ: Mapping[str, str]) -> bool:
    """Whether AWS is a process of this machine, so that no machine stands behind its clusters."""
    return urlsplit(environ.get("AWS_ENDPOINT_URL", "")).hostname == _LOOPBACK


def is_s3_here(environ: Mapping[str, str]) -> bool:
    """Whether S3 is a process of this machine, which no node of a cluster could reach."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", "")
    return urlsplit(endpoint).hostname == _LOOPBACK


def _clients(
    config: AwsConfig, region: str | None, environ: Mapping[str, str], *, is_hasty: bool = False
) -> Clients:
    with asking("read the AWS profile"):
        session = boto3.Session(profile_name=config.profile or None)
        if config.trace:
            trace_to(config.trace, session)
        region = region or config.region or environ.get("AWS_REGION") or session.region_name
    if not region:
        raise ConfigError(
            "No AWS region is configured.", hint="Give --region, for example --region eu-west-3."
        )
    return Clients(session, region, is_hasty=is_hasty)


class Clients:
    """boto3 clients, each made at its first use."""

    def __init__(self, session: boto3.Session, region: str, *, is_hasty: bool = False) -> None:
        self._session, self.region, self._is_hasty = session, region, is_hasty
        self._made: dict[tuple[str, str, bool], Any] = {}
        # Making a client is not thread-safe; using one is.
        self._lock = threading.Lock()

    def elsewhere(self, region: str) -> Clients:
        """The same session in another region."""
        return Clients(self._session, region, is_hasty=self._is_hasty)

    def __call__(self, service: str, *, region: str | None = None, once: bool = False) -> Any:
        """The client of a service; with `once` a request is never sent a second time."""
        key = (service, region or self.region, once)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._session.client(
                    service,  # type: ignore[call-overload]
                    region_name=key[1],
                    config=_client_config(service, once=once, is_hasty=self._is_hasty),
                )
            return self._made[key]


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
