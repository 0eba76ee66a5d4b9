from __future__ import annotations

from typing import Any

import pytest

from fruits_cli.cloud.account import Identity, OpenRule, PublicAccess, RoleFacts
from fruits_cli.cloud.clusters import Cluster, ClusterState
from fruits_cli.cloud.policies import SERVICE_POLICY_ARN
from fruits_cli.doctor import account
from fruits_cli.doctor.findings import Finding, Verdict

OK, FAILING, NOT_ASKED = Verdict.OK, Verdict.FAILING, Verdict.NOT_ASKED
BLOCKED = PublicAccess(True, ((22, 22),))
NODES = RoleFacts(frozenset({"ec2.amazonaws.com"}), inline=frozenset({"fruits"}), profile=("r",))
SERVICE = RoleFacts(
    frozenset({"elasticmapreduce.amazonaws.com"}),
    attached=frozenset({SERVICE_POLICY_ARN}),
    inline=frozenset({"fruits"}),
)


def told(finding: Finding) -> str:
    return f"{finding.verdict}: {finding.said} {finding.fix}"


def test_credentials_tell_user_and_account() -> None:
    assert account.credentials(Identity("1", "ada")).said == "ada of account 1"


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "said"),
    [
        (0.4, OK, "within 60 s of AWS's"),
        (-59.0, OK, "within 60 s of AWS's"),
        (-120.0, OK, "120 s behind AWS; from 300 s on requests are refused"),
        (301.0, FAILING, "301 s ahead of AWS; requests are refused from 300 s on."),
        (None, NOT_ASKED, "AWS did not tell the time"),
    ],
)
def test_a_clock_is_near_enough_or_not(ahead_s: float | None, verdict: Verdict, said: str) -> None:
    found = account.clock(ahead_s)

    assert (found.verdict, found.said) == (verdict, said)


@pytest.mark.parametrize(
    ("name", "enabled", "verdict", "words"),
    [
        ("eu-west-3", None, OK, "eu-west-3"),
        ("eu-west-3", ["eu-west-3"], OK, "eu-west-3"),
        ("eu-west-33", None, FAILING, "no region of EMR's. Give --region eu-west-3."),
        ("mars-1", None, FAILING, "Give --region eu-west-3."),
        ("ap-east-1", ["eu-west-3"], FAILING, "not enabled for this account"),
    ],
)
def test_a_region_is_known_and_enabled(
    name: str, enabled: list[str] | None, verdict: Verdict, words: str
) -> None:
    found = account.region(name, {"eu-west-3", "us-east-1", "ap-east-1"}, enabled)

    assert found.verdict is verdict
    assert words in told(found)


@pytest.mark.parametrize(
    ("lies_in", "denied", "verdict", "words"),
    [
        ("eu-west-3", (), OK, "figs in eu-west-3"),
        (None, (), OK, "figs in eu-west-3 will be made by the first launch"),
        (None, None, OK, "whether you may could not be asked"),
        (None, {"s3:CreateBucket"}, FAILING, "administers the account for s3:CreateBucket."),
        ("us-east-1", (), FAILING, "Give --region us-east-1, or another --bucket."),
    ],
    ids=["there", "to be made", "unknown", "may not", "elsewhere"],
)
def test_a_bucket_is_here_or_may_be_made(
    lies_in: str | None, denied: Any, verdict: Verdict, words: str
) -> None:
    found = account.bucket("figs", lies_in, "eu-west-3", denied)

    assert found.verdict is verdict
    assert words in told(found)


@pytest.mark.parametrize(
    ("facts", "denied", "verdict", "words"),
    [
        (NODES, (), OK, "r with its instance profile"),
        (None, (), OK, "will be made"),
        (None, {"iam:CreateRole"}, FAILING, "you may not make it"),
        (RoleFacts(frozenset()), (), FAILING, "but ec2.amazonaws.com may not take it"),
        (
            RoleFacts(NODES.services, inline=NODES.inline, profile=("other",)),
            (),
            FAILING,
            "remove-role-from-instance-profile --instance-profile-name r --role-name other",
        ),
        (RoleFacts(NODES.services, inline=NODES.inline), (), OK, "The rest of r"),
        (RoleFacts(NODES.services, inline=NODES.inline, profile=()), (), OK, "The rest of r"),
        (RoleFacts(NODES.services, profile=("r",)), {"iam:PutRolePolicy"}, FAILING, "iam:Put"),
    ],
    ids=["whole", "none", "may not", "trust", "other name", "bare", "empty", "no policy"],
)
def test_the_nodes_role_is_whole_or_may_be_made_so(
    facts: RoleFacts | None, denied: Any, verdict: Verdict, words: str
) -> None:
    found = account.instance_role("r", facts, denied)

    assert found.verdict is verdict
    assert words in told(found)


@pytest.mark.parametrize(
    ("facts", "denied", "verdict", "words"),
    [
        (SERVICE, (), OK, "r with AmazonEMRServicePolicy_v2"),
        (None, (), OK, "will be made"),
        (NODES, (), FAILING, "elasticmapreduce.amazonaws.com may not take it"),
        (RoleFacts(SERVICE.services, inline=SERVICE.inline), (), FAILING, "attach-role-policy"),
        (RoleFacts(SERVICE.services), (), OK, "The rest of r"),
    ],
    ids=["whole", "none", "trust", "not attached", "no policy"],
)
def test_emrs_role_is_whole_or_may_be_made_so(
    facts: RoleFacts | None, denied: Any, verdict: Verdict, words: str
) -> None:
    found = account.service_role("r", facts, "123456789012", denied)

    assert found.verdict is verdict
    assert words in told(found)


def test_roles_that_may_not_be_passed_are_named() -> None:
    both = account.pass_role({"a": {"iam:PassRole"}, "b": {"iam:PassRole"}})
    one = account.pass_role({"a": (), "b": {"iam:PassRole"}})

    assert (both.verdict, both.said) == (FAILING, "You may not pass a and b.")
    assert one.fix == "Ask who administers the account for iam:PassRole on it."
    assert account.pass_role({"a": (), "b": ()}).verdict is OK


@pytest.mark.parametrize(
    ("name", "shown", "prints", "verdict", "words"),
    [
        (None, None, None, NOT_ASKED, "fruits run does not"),
        ("k", None, None, FAILING, "EC2 has no key pair k"),
        ("k", "ab:cd", None, OK, "no key_file is configured"),
        ("k", "ab:cd", {"ab:cd"}, OK, "the key file is its key"),
        ("k", "q83v=", {"q83v"}, OK, "the key file is its key"),
        ("k", "SHA256:q83v", {"q83v"}, OK, "the key file is its key"),
        ("k", "ab:cd", {"ef"}, FAILING, "The key file is not the key of k: EC2 shows ab:cd."),
    ],
    ids=["none", "absent", "no file", "same", "padded", "prefixed", "other"],
)
def test_a_key_pair_exists_and_is_the_files(
    name: str | None, shown: str | None, prints: Any, verdict: Verdict, words: str
) -> None:
    found = account.key_pair(name, shown, prints)

    assert found.verdict is verdict
    assert words in told(found)


def rule(group: str, port: int, cidr: str = "0.0.0.0/0") -> OpenRule:
    return OpenRule("sg-1", group, cidr, port, port)


@pytest.mark.parametrize(
    ("rules", "access", "verdict"),
    [
        ([], BLOCKED, OK),
        ([rule("ElasticMapReduce-primary", 22)], BLOCKED, OK),
        ([rule("ElasticMapReduce-primary", 9443)], BLOCKED, FAILING),
        ([rule("ElasticMapReduce-primary", 9443)], PublicAccess(False), OK),
        ([rule("fruits-figs-ssh", 22)], BLOCKED, FAILING),
        ([rule("fruits-figs-ssh", 22)], PublicAccess(False), FAILING),
        ([OpenRule("sg-1", "ElasticMapReduce-core", "::/0", 0, 65535)], BLOCKED, FAILING),
    ],
)
def test_a_rule_for_the_whole_internet_is_told(
    rules: list[OpenRule], access: PublicAccess, verdict: Verdict
) -> None:
    assert account.security_groups(rules, access).verdict is verdict


def test_the_fix_of_an_open_rule_takes_just_that_rule_away() -> None:
    four = account.security_groups([rule("fruits-a-ssh", 22)], BLOCKED)
    six = account.security_groups([rule("fruits-a-ssh", 22, "::/0")] * 2, BLOCKED)

    assert four.fix.endswith(
        "--group-id sg-1 --ip-permissions "
        "'IpProtocol=tcp,FromPort=22,ToPort=22,IpRanges=[{CidrIp=0.0.0.0/0}]'"
    )
    assert "Ipv6Ranges=[{CidrIpv6=::/0}]" in six.fix
    assert "(1 more)" in six.said


def test_the_block_of_public_access_is_told_with_its_ports() -> None:
    ranges = PublicAccess(True, ((22, 22), (8000, 8080)))

    assert account.public_access(ranges).said.startswith("on but for port 22, 8000-8080; ")
    assert account.public_access(PublicAccess(True)).said.startswith("on; ")
    assert account.public_access(PublicAccess(False)).said.startswith("off; ")


def living(minutes: float, usd: float | None) -> account.Living:
    return account.Living(Cluster("j-1", "fruits-figs", ClusterState.WAITING), minutes, usd)


def test_live_clusters_are_told_with_their_dollars() -> None:
    found = account.clusters([living(45, 0.517)], 720)

    assert found.verdict is OK
    assert found.said == "fruits-figs (j-1) WAITING for 45 minutes, about $0.52 so far"


def test_a_cluster_older_than_any_may_become_is_forgotten() -> None:
    found = account.clusters([living(721, None)], 720)

    assert found.verdict is FAILING
    assert "at an unknown price so far. Older than 720 minutes: j-1." in found.said
    assert found.fix == "fruits terminate --cluster j-1"


def test_what_your_policies_lack_for_a_launch_is_named() -> None:
    found = account.launch_rights({"elasticmapreduce:RunJobFlow"})

    assert found.said == "You may not elasticmapreduce:RunJobFlow."
    assert account.launch_rights(()).verdict is OK
