"""AWS through boto3: each Protocol of `cloud` is implemented in one module here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import boto3

from fruits_cli.aws.account import AwsAccount
from fruits_cli.aws.addresses import fetch_own_addresses
from fruits_cli.aws.clients import Clients
from fruits_cli.aws.ec2 import AwsAccess
from fruits_cli.aws.emr import AwsClusters
from fruits_cli.aws.errors import asking
from fruits_cli.aws.preflight import AwsPreflight
from fruits_cli.aws.rights import AwsRights
from fruits_cli.aws.s3 import AwsStorage
from fruits_cli.aws.trace import trace_to
from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.protocols import Cloud, ClusterAccess, SystemClock
from fruits_cli.config import AwsConfig
from fruits_cli.errors import ConfigError

_LOOPBACK = "127.0.0.1"


def connect(config: AwsConfig, *, is_hasty: bool = False) -> Cloud:
    """AWS as this profile and region see it; nothing is asked yet.

    is_hasty: give up within seconds. Raises ConfigError where no region is configured, or the
    profile does not exist.
    """
    return _cloud(_clients(config, os.environ, is_hasty=is_hasty))


def connect_everywhere(config: AwsConfig) -> Callable[[str], Cloud]:
    """AWS in any region, through one session: making one takes longer than asking. As `connect`."""
    clients = _clients(config, os.environ)
    return lambda region: _cloud(clients.elsewhere(region))


def _cloud(clients: Clients) -> Cloud:
    region, clock = clients.region, SystemClock()
    return Cloud(
        storage=AwsStorage(clients, region),
        clusters=AwsClusters(clients, clock),
        rights=AwsRights(clients),
        account=AwsAccount(clients, region, clock),
        preflight=AwsPreflight(clients, clock),
    )


def cluster_access(
    config: AwsConfig, cluster: Cluster, *, environ: Mapping[str, str] = os.environ
) -> ClusterAccess:
    """One cluster as the tunnel sees it; nothing is asked yet. Raises ConfigError as `connect`."""
    clients = _clients(config, environ)
    # The embedded AWS sees this machine as the loopback.
    is_here = urlsplit(environ.get("AWS_ENDPOINT_URL", "")).hostname == _LOOPBACK
    own = (lambda: (_LOOPBACK,)) if is_here else fetch_own_addresses
    return AwsAccess(clients, clients.region, cluster, own_addresses=own)


def is_s3_here(environ: Mapping[str, str]) -> bool:
    """Whether S3 is a process of this machine, which no node of a cluster could reach."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", "")
    return urlsplit(endpoint).hostname == _LOOPBACK


def _clients(config: AwsConfig, environ: Mapping[str, str], *, is_hasty: bool = False) -> Clients:
    with asking("read the AWS profile"):
        session = boto3.Session(profile_name=config.profile or None)
        if config.trace:
            trace_to(config.trace, session)
        region = config.region or environ.get("AWS_REGION") or session.region_name
    if not region:
        raise ConfigError(
            "No AWS region is configured.",
            hint="Give --region, such as eu-west-3, or run fruits init, which writes it down.",
        )
    return Clients(session, region, is_hasty=is_hasty)
