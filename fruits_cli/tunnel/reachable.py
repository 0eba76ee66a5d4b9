"""Which hosts the tunnel may reach; pure."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LIVY_PORT = 8998
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
# Where an instance serves its credentials and its time, over both families.
_NEVER = tuple(
    ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "0.0.0.0/8")
)
_NAT64 = ip_network("64:ff9b::/96")
_NUMERIC = re.compile(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)){0,3}")
_INSTANCE_NAME = re.compile(r"(?:ip-(\d+)-(\d+)-(\d+)-(\d+)|i-[0-9a-f]{8,17})\.(.+)")
_EC2_PUBLIC_NAME = re.compile(
    r"ec2-\d+-\d+-\d+-\d+\.(?:([a-z0-9-]+)\.compute|compute-1)\.amazonaws\.com(?:\.cn)?"
)
_PRIVATE = tuple(ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


@dataclass(frozen=True)
class Reachable:
    """The hosts of one cluster: exact names, names of instances below a suffix, address ranges."""

    names: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = field(default=_PRIVATE)
    any_host: bool = False

    def allows(self, host: str, port: int) -> bool:
        """Whether a connection may go there; never to a link-local address.

        Livy runs any code that it is sent, so it needs any_host too.
        """
        place = canonical_host(host)
        if is_never_allowed(place):
            return False
        return self.any_host or (port != LIVY_PORT and self.is_own(place))

    def is_own(self, place: str | Address) -> bool:
        """Whether this canonical name or address belongs to the cluster."""
        if not isinstance(place, str):
            listed = place.compressed in self.names
            return listed or place.is_loopback or _is_in(place, self.networks if self.names else ())
        return place in _LOOPBACK_NAMES or place in self.names or self._is_instance_name(place)

    def is_own_name(self, host: str) -> bool:
        """Whether a host, as an address of a page spells it, belongs to the cluster."""
        return self.is_own(canonical_host(host))

    def _is_instance_name(self, name: str) -> bool:
        match = _INSTANCE_NAME.fullmatch(name)
        if match is None or match[5] not in self.suffixes:
            return False
        if match[1] is None:
            return True
        address = canonical_host(".".join(match.group(1, 2, 3, 4)))
        return not isinstance(address, str) and _is_in(address, self.networks)


def canonical_host(host: str) -> str | Address:
    """`host` as the address it means, however written, else its name in lower case without dot.

    Resolvers read 0xA9FEA9FE, 2852039166 and ::ffff:169.254.169.254 as addresses; so do we.
    """
    text = host.strip("[]").lower().rstrip(".").partition("%")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return IPv4Address(socket.inet_aton(text)) if _is_legacy_address(text) else text
    return _inner_ipv4(address) if isinstance(address, IPv6Address) else address


def is_never_allowed(place: str | Address) -> bool:
    """Whether this canonical name or address leads to the credentials of the instance."""
    if not isinstance(place, str):
        return _is_in(place, _NEVER)
    if (match := _INSTANCE_NAME.fullmatch(place)) and match[1]:
        return is_never_allowed(canonical_host(".".join(match.group(1, 2, 3, 4))))
    return not place or place.partition(".")[0] == "instance-data"


def internal_suffix(region: str) -> str:
    """What the private DNS names of a region's instances end in.

    Source: Amazon VPC User Guide, DNS attributes for your VPC.
    """
    return "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"


def region_of_public_name(name: str) -> str | None:
    """The region in the public DNS name of an EC2 instance, None for any other name."""
    match = _EC2_PUBLIC_NAME.fullmatch(name.lower().rstrip("."))
    return None if match is None else match[1] or "us-east-1"


def reachable_from_host(host: str, *, any_host: bool) -> Reachable:
    """What a host that fruits did not make lets us reach: itself, and its neighbours in EC2."""
    place = canonical_host(host)
    region = region_of_public_name(place) if isinstance(place, str) else None
    suffix = region and internal_suffix(region)
    if isinstance(place, str) and (match := _INSTANCE_NAME.fullmatch(place)):
        suffix = match[5]
    return Reachable(
        names=frozenset({str(place)}),
        suffixes=frozenset({suffix} if suffix else ()),
        networks=_PRIVATE if suffix else (),
        any_host=any_host,
    )


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _is_legacy_address(text: str) -> bool:
    if not _NUMERIC.fullmatch(text):
        return False
    try:
        socket.inet_aton(text)
    except OSError:
        return False
    return True


def _inner_ipv4(address: IPv6Address) -> Address:
    """The IPv4 address that an IPv6 address carries in one of the forms that routers unwrap."""
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in _NAT64 or (0xFFFF < int(address) < 1 << 32)):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
