"""What AWS lets us see before a launch: the questions that a plan needs answered."""

from __future__ import annotations

from collections.abc import Callable

from fruits_cli.cloud import Cloud
from fruits_cli.cluster import Foundation, Market, Network, Observed
from fruits_cli.config import Config
from fruits_cli.errors import AccessDenied, BucketElsewhere
from fruits_cli.plan import foundation_names, places_of
from fruits_cli.shape import node_groups


def observe(config: Config, cloud: Cloud, *, keep_alive: bool) -> Observed:
    """The account as the plan needs to know it; changes nothing.

    What may not be asked counts as there: the launch itself will tell. Raises BucketElsewhere.
    """
    identity, account = cloud.account.identity(), cloud.account
    types = [group.instance_type for group in node_groups(config.cluster)]
    network = _network(config, cloud)
    return Observed(
        account_id=identity.account_id,
        user=identity.user,
        region=cloud.region,
        missing=_missing(config, cloud, network, keep_alive=keep_alive),
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
            "every picture would be paid for on its way.",
            hint=f"Give --region {region}, or another --bucket.",
        )
    return region is not None


def _network(config: Config, cloud: Cloud) -> Network | None:
    try:
        return cloud.account.network(config.cluster.subnets)
    except AccessDenied:
        return None


def _missing(
    config: Config, cloud: Cloud, network: Network | None, *, keep_alive: bool
) -> frozenset[Foundation]:
    names, rights = foundation_names(config, keep_alive=keep_alive), cloud.rights
    bucket = places_of(config).bucket
    questions: dict[Foundation, Callable[[], bool]] = {
        Foundation.BUCKET: lambda: check_bucket(cloud, bucket),
        Foundation.CLEANUP_ROLE: rights.has_cleanup_role,
        Foundation.INSTANCE_ROLE: lambda: rights.has_instance_role(names.instance_role),
        Foundation.SERVICE_ROLE: lambda: rights.has_service_role(names.service_role),
        Foundation.SECURITY_CONFIGURATION: lambda: rights.has_security_configuration(
            names.security_configuration
        ),
        Foundation.NETWORK_TAGS: lambda: network is None or not network.untagged,
    }
    return frozenset(what for what, is_there in questions.items() if not _answered(is_there, what))


def _answered(is_there: Callable[[], bool], what: Foundation) -> bool:
    try:
        return is_there()
    except AccessDenied:
        if what is Foundation.BUCKET:
            raise
        return True
