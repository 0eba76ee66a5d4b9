"""Asks AWS what a plan depends on, before a launch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from fruits_cli.cloud.account import (
    CLEANUP_ROLE,
    SPOT_ROLE,
    Foundation,
    Identity,
    Network,
    Observed,
)
from fruits_cli.cloud.clusters import Market
from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.policies import (
    RoleSpec,
    Scope,
    instance_role,
    require_ours,
    service_role,
)
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.nodes import node_groups, uses_spot
from fruits_cli.config import Config
from fruits_cli.errors import AccessDenied, BucketElsewhere, ConfigError
from fruits_cli.session import Session


@dataclass(frozen=True)
class FoundationNames:
    """Names derived from bucket, prefix and settings, so that a second launch finds the first's."""

    instance_role: str
    service_role: str
    security_configuration: str
    hop_limit: int


def foundation_names(config: Config, *, keep_alive: bool) -> FoundationNames:
    """The names of roles and security configuration for this bucket, prefix and kind of cluster.

    JupyterHub runs in a container, one hop further from the metadata service than YARN.
    """
    places = places_of(config)
    hop_limit = 2 if keep_alive and "JupyterHub" in config.cluster.applications else 1
    digest = short_digest(f"{places.bucket}/{places.root_prefix}")
    key = f"-{short_digest(config.cluster.kms_key)}" if config.cluster.kms_key else ""
    return FoundationNames(
        instance_role=f"fruits-ec2-{digest}",
        service_role=f"fruits-emr-{digest}",
        security_configuration=f"fruits-imdsv2-hop{hop_limit}{key}",
        hop_limit=hop_limit,
    )


def scope_of(config: Config, identity: Identity, region: str) -> Scope:
    """Where the rights of this bucket's roles hold. Raises ConfigError without a bucket."""
    names, places = foundation_names(config, keep_alive=True), places_of(config)
    return Scope(
        bucket=places.bucket,
        prefix=places.root_prefix,
        region=region,
        account_id=identity.account_id,
        instance_role=names.instance_role,
        service_role=names.service_role,
        partition=identity.partition,
    )


def short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def ensure_bucket(bucket: str, session: Session, *, yes: bool) -> None:
    """Make the bucket unless it is there, once the user agrees. Raises BucketElsewhere."""
    if check_bucket(session.cloud, bucket):
        session.cloud.storage.finish_bucket(bucket)
        return
    region = session.cloud.region
    session.screen.ask(f"Bucket {bucket} does not exist. Make it in {region}, private?", yes=yes)
    session.cloud.storage.create_bucket(bucket)
    session.screen.tell(f"Bucket {bucket} was made in {region}.")


def observe(config: Config, cloud: Cloud, *, keep_alive: bool) -> Observed:
    """The account as the plan needs to know it; changes nothing.

    What AWS does not let us ask about counts as present. Raises BucketElsewhere, ConfigError.
    """
    identity, account = cloud.account.identity(), cloud.account
    types = [group.instance_type for group in node_groups(config.cluster)]
    network = _network(config, cloud)
    scope = scope_of(config, identity, cloud.region)
    missing, outdated = _missing(config, cloud, network, scope, keep_alive=keep_alive)
    return Observed(
        identity=identity,
        region=cloud.region,
        missing=missing,
        outdated=outdated,
        machines=account.machines(types),
        network=network,
        on_demand=account.quota(Market.ON_DEMAND),
        spot=account.quota(Market.SPOT),
        prices=account.prices(types),
    )


def check_bucket(cloud: Cloud, bucket: str) -> bool:
    """Whether the bucket exists; one in another region is refused with BucketElsewhere."""
    region = cloud.storage.bucket_region(bucket)
    if region is not None and region != cloud.region:
        raise BucketElsewhere(
            f"Bucket {bucket} lies in {region}, and the cluster would run in {cloud.region}: "
            "the transfer of every picture would cost money.",
            hint=f"Give --region {region}, or another --bucket.",
        )
    return region is not None


def _network(config: Config, cloud: Cloud) -> Network | None:
    """The network that the cluster will lie in, None where we may not look at it.

    Raises ConfigError where there is none: EMR would refuse the launch, after all has been made.
    """
    try:
        found = cloud.account.network(config.cluster.subnets)
    except AccessDenied:
        return None
    if found is None:
        raise ConfigError(
            f"There is no default VPC in {cloud.region} for the cluster to lie in.",
            hint=f"Give --subnets, or make one: aws ec2 create-default-vpc --region {cloud.region}",
        )
    return found


def _missing(
    config: Config, cloud: Cloud, network: Network | None, scope: Scope, *, keep_alive: bool
) -> tuple[frozenset[Foundation], frozenset[Foundation]]:
    """What the launch has to see to, and what of it is there and only has to be updated."""
    names, rights = foundation_names(config, keep_alive=keep_alive), cloud.rights
    outdated = set()

    def is_up_to_date(what: Foundation, spec: RoleSpec) -> bool:
        if (facts := rights.role(spec)) is None:
            return False
        require_ours(spec.name, facts)
        if is_old := bool(spec.lacks(facts) or spec.differs(facts)):
            outdated.add(what)
        return not is_old

    questions: dict[Foundation, Callable[[], bool]] = {
        Foundation.BUCKET: lambda: check_bucket(cloud, scope.bucket),
        Foundation.CLEANUP_ROLE: lambda: rights.has_linked_role(CLEANUP_ROLE),
        Foundation.SPOT_ROLE: lambda: (
            not uses_spot(config.cluster) or rights.has_linked_role(SPOT_ROLE)
        ),
        Foundation.INSTANCE_ROLE: lambda: is_up_to_date(
            Foundation.INSTANCE_ROLE, instance_role(scope)
        ),
        Foundation.SERVICE_ROLE: lambda: is_up_to_date(
            Foundation.SERVICE_ROLE, service_role(scope)
        ),
        Foundation.SECURITY_CONFIGURATION: lambda: rights.has_security_configuration(
            names.security_configuration
        ),
        Foundation.NETWORK_TAGS: lambda: network is None or not network.untagged,
    }
    missing = (what for what, is_there in questions.items() if not _answered(is_there, what))
    return frozenset(missing), frozenset(outdated)


def _answered(is_there: Callable[[], bool], what: Foundation) -> bool:
    try:
        return is_there()
    except AccessDenied:
        if what is Foundation.BUCKET:
            raise
        return True
