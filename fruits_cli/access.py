"""What the tunnel needs to see and to change of one cluster, in our words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# What EC2 takes in the description of a rule. Source: EC2 API reference, IpRange.
_NOT_IN_A_NOTE = re.compile(r"[^A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]")
_NOTE_LENGTH = 255


@dataclass(frozen=True)
class Primary:
    """The primary node of a live cluster; `networks` are the address ranges of its VPC."""

    cluster_id: str
    region: str
    instance_id: str
    public_name: str | None
    private_name: str
    private_address: str
    networks: tuple[str, ...]


@dataclass(frozen=True)
class SshRule:
    """Port 22 open to one address range; `note` tells whose rule it is."""

    cidr: str
    note: str


class ClusterAccess(Protocol):
    """One cluster, as the tunnel sees it. Every method may raise CloudError."""

    @property
    def cluster_id(self) -> str: ...

    def primary(self) -> Primary | None:
        """None while the cluster starts; ClusterNotFound once it is gone."""

    def require_live(self) -> None:
        """ClusterNotFound once the cluster is gone. AWS is asked once, and not for long."""

    def console_output(self, instance_id: str) -> str:
        """What the instance printed at boot; empty while there is nothing."""

    def ssh_rules(self) -> Sequence[SshRule]:
        """The rules for port 22 in the cluster's own security group."""

    def add_ssh_rule(self, rule: SshRule) -> None: ...

    def remove_ssh_rule(self, rule: SshRule) -> None: ...

    def own_addresses(self) -> Sequence[str]:
        """The public addresses of this machine, IPv4 and IPv6; empty where nobody tells."""


def rule_note(user: str, machine: str) -> str:
    """The note on the rules that a user of a machine made, as EC2 keeps it."""
    return _NOT_IN_A_NOTE.sub("_", f"fruits tunnel of {user}@{machine}")[:_NOTE_LENGTH]
