"""What a launch depends on and may be looked at beforehand, in our words; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class RoleFacts:
    """An IAM role: the services that may take it, what it carries, and who is in its profile.

    attached: ARNs of managed policies. inline: names of its own policies. profile: the roles in
    the instance profile of the same name, None where there is no such profile.
    """

    services: frozenset[str]
    attached: frozenset[str] = frozenset()
    inline: frozenset[str] = frozenset()
    profile: tuple[str, ...] | None = None


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

    group_id: str
    group_name: str
    cidr: str
    first: int
    last: int


class Preflight(Protocol):
    """The account before a launch. Every method may raise CloudError; none changes anything."""

    # Known to this installation; nobody is asked.
    def known_regions(self) -> frozenset[str]: ...
    # Seconds that this machine's clock is before AWS's; None where AWS does not tell the time.
    def clock_ahead_s(self) -> float | None: ...
    # Those of the actions that the caller's policies do not allow on the resource.
    def denied(
        self, actions: Sequence[str], resource: str, *, passed_to: str = ""
    ) -> frozenset[str]: ...
    def role(self, name: str) -> RoleFacts | None: ...
    # The fingerprint as EC2 shows it; None where there is no such pair.
    def key_fingerprint(self, key_name: str) -> str | None: ...
    # Those of the ids that exist; without ids the subnets of the default VPC.
    def subnets(self, ids: Sequence[str]) -> tuple[SubnetFacts, ...]: ...
    def vpc(self, vpc_id: str) -> VpcFacts: ...
    def open_rules(self, vpc_id: str) -> tuple[OpenRule, ...]: ...
    def public_access(self) -> PublicAccess: ...
    # The releases of the region, the newest first.
    def releases(self) -> tuple[str, ...]: ...
    def applications(self, release_label: str) -> frozenset[str]: ...
    def supported_types(self, release_label: str) -> frozenset[str]: ...
    # Instance type to the zones of the region that offer it.
    def zones(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]: ...
