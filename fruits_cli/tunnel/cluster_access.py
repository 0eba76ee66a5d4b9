"""Makes a cluster reachable for the tunnel: waits for it, reads its host keys, opens port 22."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, ip_network

from fruits_cli.cloud.clusters import Primary, SshRule
from fruits_cli.cloud.protocols import Clock, ClusterAccess
from fruits_cli.errors import AccessDenied, CloudError, ClusterNotFound, TunnelError, UsageError
from fruits_cli.tunnel.host_keys import parse_console_fingerprints
from fruits_cli.tunnel.reachable import Network, Reachable, internal_suffix

WAIT_FOR_CLUSTER_S = 30 * 60.0
# The console of an instance appears some minutes after its first boot.
WAIT_FOR_CONSOLE_S = 5 * 60.0
_POLL_S = 15.0
# Wider than any company's range: a slip such as 0.0.0.0/1 is as open as 0.0.0.0/0.
_WIDEST_IPV4, _WIDEST_IPV6 = 8, 16


def wait_for_primary(
    access: ClusterAccess,
    *,
    clock: Clock,
    tell: Callable[[str], None],
    timeout_s: float = WAIT_FOR_CLUSTER_S,
) -> Primary:
    """The primary node, once the cluster is up. Raises TunnelError after `timeout_s`."""
    deadline = clock.monotonic() + timeout_s
    is_told = False
    while (primary := access.primary()) is None:
        if clock.monotonic() >= deadline:
            raise TunnelError(
                f"The cluster is not up after {timeout_s / 60:.0f} minutes.",
                hint="fruits status tells what it is doing.",
            )
        if not is_told:
            tell("The cluster is still starting; waiting for it.")
            is_told = True
        clock.sleep(_POLL_S)
    return primary


def public_host(primary: Primary) -> str:
    """The name to connect to. Raises TunnelError for a primary node in a private subnet."""
    if primary.public_name:
        return primary.public_name
    raise TunnelError(
        f"The cluster {primary.cluster_id} lies in a private subnet: its primary node has no "
        "public name.",
        hint=f"From inside its network: fruits tunnel --host {primary.private_name}\n"
        "From here, with the Session Manager plugin:\n"
        f"{session_manager_command(primary)}\n"
        "and then: fruits tunnel --host localhost --ssh-port 10022",
    )


def session_manager_command(primary: Primary) -> str:
    """The command line that brings port 22 of a private primary node to local port 10022."""
    return (
        f"aws ssm start-session --region {primary.region} --target {primary.instance_id} "
        "--document-name AWS-StartPortForwardingSession "
        "--parameters portNumber=22,localPortNumber=10022"
    )


def expected_fingerprints(
    access: ClusterAccess,
    primary: Primary,
    *,
    clock: Clock,
    tell: Callable[[str], None],
) -> frozenset[str]:
    """The host key's fingerprints from the instance's console; empty if it never shows them."""
    deadline = clock.monotonic() + WAIT_FOR_CONSOLE_S
    tell("Looking for the host key in the console output of the primary node.")
    while True:
        try:
            found = parse_console_fingerprints(access.console_output(primary.instance_id))
        except AccessDenied as error:
            # Without this right the user can still be asked about the key.
            tell(str(error))
            return frozenset()
        if found or clock.monotonic() >= deadline:
            return found
        clock.sleep(_POLL_S)


def parse_source(text: str) -> Network:
    """The address range that port 22 is to be opened to. Raises UsageError, also if too wide."""
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not an address range.", hint="Write --from 203.0.113.7/32."
        ) from error
    widest = _WIDEST_IPV4 if isinstance(network, IPv4Network) else _WIDEST_IPV6
    if network.prefixlen < widest:
        raise UsageError(f"Port 22 is never opened to all the world, and {network} nearly is.")
    return network


class SshPort:
    """Port 22 of a cluster, open to this machine or to `source` until `close`.

    Rules are ours by `note`, those that a killed tunnel left included; others stay as they are.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        source: str | None,
        note: str,
        tell: Callable[[str], None],
    ) -> None:
        self._access, self._source, self._note, self._tell = access, source, note, tell
        self._ours: set[SshRule] = set()

    def open(self) -> None:
        """Let `source`, or without it this machine's current addresses, in. Raises FruitsError."""
        given = [self._source] if self._source else list(self._access.own_addresses())
        if not given:
            raise TunnelError(
                "The public address of this machine is not known.",
                hint="Give --from 203.0.113.7/32.",
            )
        wanted = dict.fromkeys(str(parse_source(text)) for text in given)
        rules = list(self._access.ssh_rules())
        self._ours |= {rule for rule in rules if rule.note == self._note}
        for cidr in wanted.keys() - {rule.cidr for rule in rules}:
            rule = SshRule(cidr, self._note)
            # First, so that an interrupt between the two leaves nothing open.
            self._ours.add(rule)
            self._access.add_ssh_rule(rule)
            self._tell(f"Port 22 of the cluster is now open to {cidr}.")
        for rule in [rule for rule in self._ours if rule.cidr not in wanted]:
            self._access.remove_ssh_rule(rule)
            self._ours.remove(rule)

    def open_again(self) -> None:
        """Before the next attempt to connect: the cluster is live, and lets this machine in.

        Raises ClusterNotFound once it is gone. Where AWS does not answer, connecting is still
        tried: both need the same network.
        """
        try:
            self._access.require_live()
            self.open()
        except ClusterNotFound:
            raise
        except (CloudError, TunnelError):
            return

    def close(self) -> None:
        """Close it again; warns where AWS refuses, or does not answer."""
        for rule in sorted(self._ours, key=lambda rule: rule.cidr):
            try:
                self._access.remove_ssh_rule(rule)
            except ClusterNotFound:
                # Its security group went with it.
                return
            except CloudError as error:
                self._tell(
                    f"Port 22 of the cluster stays open to {rule.cidr}: {error} "
                    "The end of the next fruits tunnel closes it, and so does fruits terminate."
                )


def reachable_of(primary: Primary, *, any_host: bool) -> Reachable:
    """The hosts of this cluster: its primary's names, its region's internal names, its VPC."""
    names = {primary.private_name, primary.private_address, primary.public_name or ""}
    return Reachable(
        names=frozenset(name.lower() for name in names if name),
        suffixes=frozenset({internal_suffix(primary.region)}),
        networks=tuple(ip_network(text) for text in primary.networks),
        any_host=any_host,
    )
