"""Values that describe an AWS account; all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Identity:
    """The caller's AWS identity."""

    account_id: str
    user: str
    # The first part of every ARN of this account: aws, aws-cn, aws-us-gov.
    partition: str = "aws"


# Codes of Service Quotas: running vCPUs of standard instances.
ON_DEMAND_QUOTA, SPOT_QUOTA = "L-1216C47A", "L-34B43A08"


@dataclass(frozen=True)
class LinkedRole:
    """A role that a service of AWS makes for itself, once for each account."""

    service: str
    name: str

    @property
    def path(self) -> str:
        """What its ARN ends in, after `role/`."""
        return f"aws-service-role/{self.service}/{self.name}"


CLEANUP_ROLE = LinkedRole("elasticmapreduce.amazonaws.com", "AWSServiceRoleForEMRCleanup")
# EMR's managed policy may not make it: in a new account the first Spot node is refused.
SPOT_ROLE = LinkedRole("spot.amazonaws.com", "AWSServiceRoleForEC2Spot")


class Foundation(StrEnum):
    """What a launch needs and makes; found again by name and tag."""

    BUCKET = "bucket"
    CLEANUP_ROLE = "service-linked role"
    SPOT_ROLE = "service-linked role for Spot"
    NETWORK_TAGS = "tags on subnets and VPC"
    INSTANCE_ROLE = "EC2 role and instance profile"
    SERVICE_ROLE = "EMR service role"
    SECURITY_CONFIGURATION = "security configuration"
    KEY_PAIR = "key pair"
    SECURITY_GROUP = "security group"


# What `terminate --purge` removes, in this order.
REMOVABLE = (
    Foundation.INSTANCE_ROLE,
    Foundation.SERVICE_ROLE,
    Foundation.SECURITY_CONFIGURATION,
    Foundation.KEY_PAIR,
    Foundation.SECURITY_GROUP,
)


@dataclass(frozen=True)
class Remnant:
    """One thing that `terminate --purge` removes."""

    kind: Foundation
    name: str


@dataclass(frozen=True)
class Machine:
    """An instance type: vCPUs, MiB of memory and whether it is an Arm processor."""

    vcpus: int
    memory_mib: int
    is_arm: bool = False


@dataclass(frozen=True)
class Quota:
    """Running vCPUs of standard instances: how many the account may have and has."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class Network:
    """Subnets of one VPC, and which of these ids lack the tag of EMR's managed policy."""

    vpc_id: str
    subnets: tuple[str, ...]
    untagged: tuple[str, ...] = ()


@dataclass(frozen=True)
class PriceBook:
    """Dollars an hour by instance type, `spot` by type and zone; `source` is for the reader."""

    on_demand: Mapping[str, float]
    emr: Mapping[str, float]
    spot: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Observed:
    """The account as far as we may see it; None where it could not be asked.

    outdated: what of `missing` is there, and will be brought up to date.
    """

    identity: Identity
    region: str
    missing: frozenset[Foundation]
    machines: Mapping[str, Machine]
    network: Network | None
    on_demand: Quota | None
    spot: Quota | None
    prices: PriceBook
    outdated: frozenset[Foundation] = frozenset()


@dataclass(frozen=True)
class RoleFacts:
    """An IAM role as it is.

    policy: the one that fruits writes, None without it. attached: ARNs of managed policies.
    profile: the roles in the instance profile of the same name, None where there is none.
    foreign: what lacks fruits' tag, "role" or "instance profile".
    """

    trust: Mapping[str, Any]
    policy: Mapping[str, Any] | None = None
    attached: frozenset[str] = frozenset()
    profile: tuple[str, ...] | None = None
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubnetFacts:
    """A subnet, and how its instances get out: to the internet, through NAT, to S3 alone."""

    subnet_id: str
    vpc_id: str
    zone: str
    free_addresses: int
    is_available: bool = True
    is_tagged: bool = False
    has_internet: bool = False
    has_nat: bool = False
    has_s3: bool = False


@dataclass(frozen=True)
class VpcFacts:
    """A VPC: its DNS switches, and the endpoints that answer in place of public names."""

    vpc_id: str
    has_dns_support: bool
    has_dns_hostnames: bool
    is_tagged: bool = False
    # Service names such as com.amazonaws.eu-west-3.execute-api.
    private_names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PublicAccess:
    """EMR's block of public access: whether it is on, and the ports it lets be open."""

    is_blocked: bool
    permitted: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class OpenRule:
    """A rule of a security group that lets in the whole internet; ports from first to last."""

    cidr: str
    first: int
    last: int


@dataclass(frozen=True)
class GroupFacts:
    """A security group of fruits or of EMR; is_tagged: EMR's managed policy may use it."""

    group_id: str
    name: str
    is_tagged: bool = False
    open_rules: tuple[OpenRule, ...] = ()
