"""A cluster and a clock that do what a test tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fruits_cli.cloud.clusters import Primary, SshRule
from fruits_cli.cloud.protocols import ClusterAccess
from fruits_cli.errors import AccessDenied, CloudError, ClusterNotFound

PRIMARY = Primary(
    cluster_id="j-1",
    region="eu-west-3",
    instance_id="i-0abc",
    public_name="ec2-203-0-113-7.eu-west-3.compute.amazonaws.com",
    private_name="ip-10-0-1-7.eu-west-3.compute.internal",
    private_address="10.0.1.7",
    networks=("10.0.0.0/16",),
)
FINGERPRINT = "SHA256:" + "a" * 43
CONSOLE = (
    "-----BEGIN SSH HOST KEY FINGERPRINTS-----\n"
    f"256 {FINGERPRINT} root@ip (ED25519)\n-----END SSH HOST KEY FINGERPRINTS-----"
)
MINE, OTHERS = SshRule("203.0.113.9/32", "mine"), SshRule("198.51.100.0/24", "office")


@dataclass
class FakeClock:
    now_s: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class FakeAccess:
    """A cluster that starts at `up_at_s` and talks on its console from `console_at_s`."""

    clock: FakeClock = field(default_factory=FakeClock)
    up_at_s: float = 0.0
    console_at_s: float = 0.0
    is_gone: bool = False
    is_silent: bool = False
    may_read_console: bool = True
    addresses: Sequence[str] = ("203.0.113.9",)
    rules: list[SshRule] = field(default_factory=list)
    cluster_id: str = "j-1"
    found: Primary = PRIMARY
    console: str = CONSOLE
    key_line: str = ""

    def require_live(self) -> None:
        if self.is_silent:
            raise CloudError("AWS did not answer.")
        if self.is_gone:
            raise ClusterNotFound("The cluster j-1 is gone.")

    def primary(self) -> Primary | None:
        self.require_live()
        return self.found if self.clock.now_s >= self.up_at_s else None

    def console_output(self, instance_id: str) -> str:
        if not self.may_read_console:
            raise AccessDenied("AWS does not let you read the console.")
        return self.console if self.clock.now_s >= self.console_at_s else "booting"

    def public_key(self) -> str:
        return self.key_line

    def ssh_rules(self) -> Sequence[SshRule]:
        return list(self.rules)

    def add_ssh_rule(self, rule: SshRule) -> None:
        self.rules.append(rule)

    def remove_ssh_rule(self, rule: SshRule) -> None:
        self.rules.remove(rule)

    def own_addresses(self) -> Sequence[str]:
        return self.addresses


def typed(access: FakeAccess) -> ClusterAccess:
    return access
