from __future__ import annotations

import pytest

from fruits_cli.cloud.clusters import Primary, SshRule, rule_note
from fruits_cli.errors import CloudError, ClusterNotFound, TunnelError, UsageError
from fruits_cli.tunnel.cluster_access import (
    SshPort,
    expected_fingerprints,
    parse_source,
    public_host,
    reachable_of,
    wait_for_primary,
)
from tests.support.fake_cluster import FINGERPRINT, MINE, OTHERS, PRIMARY, FakeAccess, typed


def test_a_starting_cluster_is_waited_for_and_that_is_said_once() -> None:
    access, said = FakeAccess(up_at_s=100), list[str]()

    primary = wait_for_primary(typed(access), clock=access.clock, tell=said.append)

    assert primary == PRIMARY
    assert said == ["The cluster is still starting; waiting for it."]


def test_the_wait_for_a_cluster_has_an_end() -> None:
    access = FakeAccess(up_at_s=10_000)

    with pytest.raises(TunnelError, match="not up after 1 minutes"):
        wait_for_primary(typed(access), clock=access.clock, tell=lambda line: None, timeout_s=60)

    assert access.clock.now_s == 60


def test_a_cluster_that_is_gone_is_not_waited_for() -> None:
    access = FakeAccess(is_gone=True)

    with pytest.raises(ClusterNotFound):
        wait_for_primary(typed(access), clock=access.clock, tell=lambda line: None)


def test_fingerprints_come_from_the_console_once_it_talks() -> None:
    access = FakeAccess(console_at_s=50)

    found = expected_fingerprints(
        typed(access), PRIMARY, clock=access.clock, tell=lambda line: None
    )

    assert found == {FINGERPRINT}


def test_a_silent_console_leaves_the_question_to_the_user() -> None:
    access = FakeAccess(console_at_s=10_000)

    assert not expected_fingerprints(
        typed(access), PRIMARY, clock=access.clock, tell=lambda line: None
    )


def port_of(
    access: FakeAccess, said: list[str] | None = None, source: str | None = None
) -> SshPort:
    tell = (said if said is not None else []).append
    return SshPort(typed(access), source=source, note="mine", tell=tell)


def test_the_rule_follows_this_machine_and_leaves_others_alone() -> None:
    access = FakeAccess(rules=[MINE, OTHERS], addresses=("203.0.113.10", "2001:db8::1"))

    port_of(access).open()

    assert sorted(rule.cidr for rule in access.rules) == [
        "198.51.100.0/24",
        "2001:db8::1/128",
        "203.0.113.10/32",
    ]


def test_the_end_closes_what_was_opened_and_nothing_else() -> None:
    access = FakeAccess(rules=[OTHERS], addresses=("203.0.113.10", "2001:db8::1"))
    port = port_of(access)
    port.open()
    assert len(access.rules) == 3

    port.close()

    assert access.rules == [OTHERS]


def test_what_a_killed_tunnel_left_open_is_closed_by_the_next() -> None:
    access, said = FakeAccess(rules=[MINE, OTHERS]), list[str]()
    port = port_of(access, said)
    port.open()
    assert (access.rules, said) == ([MINE, OTHERS], [])

    port.close()

    assert access.rules == [OTHERS]


def test_a_range_that_somebody_opened_is_neither_opened_twice_nor_closed() -> None:
    access = FakeAccess(rules=[OTHERS])
    port = port_of(access, source="198.51.100.0/24")
    port.open()
    port.close()

    assert access.rules == [OTHERS]


def test_an_address_opened_by_a_reconnection_is_closed_at_the_end() -> None:
    access, said = FakeAccess(rules=[OTHERS]), list[str]()
    port = port_of(access, said)
    port.open()
    access.addresses = ("203.0.113.10",)

    port.open_again()

    assert access.rules == [OTHERS, SshRule("203.0.113.10/32", "mine")]
    assert said[-1] == "Port 22 of the cluster is now open to 203.0.113.10/32."
    port.close()
    assert access.rules == [OTHERS]


def test_an_interrupt_while_aws_opens_the_port_leaves_nothing_open() -> None:
    class Interrupted(FakeAccess):
        def add_ssh_rule(self, rule: SshRule) -> None:
            super().add_ssh_rule(rule)
            raise KeyboardInterrupt

    access = Interrupted()
    port = port_of(access)
    with pytest.raises(KeyboardInterrupt):
        port.open()

    port.close()

    assert access.rules == []


def test_a_port_that_aws_does_not_close_is_said() -> None:
    class Mute(FakeAccess):
        def remove_ssh_rule(self, rule: SshRule) -> None:
            raise CloudError("AWS did not answer.")

    said: list[str] = []
    port = port_of(Mute(), said)
    port.open()

    port.close()

    assert said[-1].startswith(
        "Port 22 of the cluster stays open to 203.0.113.9/32: AWS did not answer. The end of the"
    )


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/2", "2000::/3"])
def test_port_22_is_never_opened_to_the_world(text: str) -> None:
    with pytest.raises(UsageError, match="never opened to all the world"):
        parse_source(text)


@pytest.mark.parametrize("text", ["me", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_what_is_no_address_range_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not an address range"):
        parse_source(text)


def test_an_unknown_own_address_names_the_flag() -> None:
    with pytest.raises(TunnelError) as unknown:
        port_of(FakeAccess(addresses=())).open()

    assert "--from" in unknown.value.hint


def test_a_note_holds_only_what_ec2_keeps() -> None:
    assert rule_note("ada", "laptop-1.local") == "fruits tunnel of ada@laptop-1.local"
    assert rule_note("CORP\\ada", "l\N{LATIN SMALL LETTER A WITH DIAERESIS}ptop") == (
        "fruits tunnel of CORP_ada@l_ptop"
    )
    assert len(rule_note("ada", "x" * 300)) == 255


def test_a_console_that_may_not_be_read_leaves_the_question_to_the_user() -> None:
    access, said = FakeAccess(may_read_console=False), list[str]()

    found = expected_fingerprints(typed(access), PRIMARY, clock=access.clock, tell=said.append)

    assert not found
    assert said[-1] == "AWS does not let you read the console."
    assert access.clock.now_s == 0


def test_before_the_next_attempt_a_cluster_that_is_gone_ends_it() -> None:
    with pytest.raises(ClusterNotFound, match="is gone"):
        port_of(FakeAccess(is_gone=True)).open_again()


@pytest.mark.parametrize("access", [FakeAccess(is_silent=True), FakeAccess(addresses=())])
def test_before_the_next_attempt_an_aws_that_is_silent_changes_nothing(access: FakeAccess) -> None:
    access.rules = [MINE]

    port_of(access).open_again()

    assert access.rules == [MINE]


def test_a_private_primary_names_the_session_manager() -> None:
    private = Primary("j-1", "eu-west-3", "i-0abc", None, "ip-10-0-1-7", "10.0.1.7", ())

    with pytest.raises(TunnelError, match="private subnet") as refused:
        public_host(private)

    assert "aws ssm start-session --region eu-west-3 --target i-0abc" in refused.value.hint
    assert public_host(PRIMARY) == PRIMARY.public_name


def test_the_clusters_names_and_ranges_are_reachable() -> None:
    own = reachable_of(PRIMARY, any_host=False)

    assert own.allows(PRIMARY.private_name, 8042)
    assert own.allows("10.0.99.1", 8042)
    assert not own.allows("10.1.0.1", 8042)
