from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import fruits_cli.tunnel.keys
from fruits_cli.cloud import policies
from fruits_cli.cloud.account import GroupFacts, Identity, OpenRule, PublicAccess, RoleFacts
from fruits_cli.cluster.foundations import foundation_names, scope_of
from fruits_cli.cluster.plan import plan_cluster
from fruits_cli.doctor import account
from fruits_cli.doctor.ask import Ask
from fruits_cli.doctor.findings import Finding, Question, Verdict
from fruits_cli.errors import AccessDenied
from fruits_cli.files import write_private
from tests.support.fakes import FakeAws
from tests.support.questions import ask_of, told
from tests.support.worlds import PYTHON, RUN_ID, config, observed

OK, FAILING, NOT_ASKED = Verdict.OK, Verdict.FAILING, Verdict.NOT_ASKED
BLOCKED = PublicAccess(True, ((22, 22),))
NAMES = foundation_names(config(), keep_alive=True)
ROLE = NAMES.instance_role
SCOPE = scope_of(config(), Identity("123456789012", ""), "eu-west-3")
NODES, SERVICE = policies.instance_role(SCOPE), policies.service_role(SCOPE)


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


def forbid(aws: FakeAws, denied: set[str] | None) -> None:
    """These actions may not be done; None: whether they may, may not be asked."""
    if denied is None:
        aws.preflight.refusals["denied"] = AccessDenied("no")
    aws.preflight.forbidden = frozenset(denied or ())


def test_credentials_tell_user_and_account(aws: FakeAws) -> None:
    assert account.credentials(ask_of(aws)).said == "ada of account 123456789012"


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "said"),
    [
        (0.4, OK, "within 60 s of AWS's"),
        (-59.0, OK, "within 60 s of AWS's"),
        (-120.0, OK, "120 s behind AWS; AWS refuses requests from 300 s on"),
        (301.0, FAILING, "301 s ahead of AWS; AWS refuses requests from 300 s on."),
        (None, NOT_ASKED, "AWS did not tell the time"),
    ],
)
def test_a_clock_is_near_enough_or_not(
    aws: FakeAws, ahead_s: float | None, verdict: Verdict, said: str
) -> None:
    aws.preflight.ahead_s = ahead_s

    found = account.clock(ask_of(aws))

    assert (found.verdict, found.said) == (verdict, said)


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("eu-west-3", OK, "eu-west-3 (Paris, EU)"),
        ("eu-west-33", FAILING, "EMR has no region eu-west-33. Give --region eu-west-3."),
        ("mars-1", FAILING, "Give --region eu-west-3."),
    ],
)
def test_a_region_is_known_or_a_near_one_is_named(
    aws: FakeAws, name: str, verdict: Verdict, words: str
) -> None:
    aws.account.region = name

    found = account.known_region(ask_of(aws))

    assert found.verdict is verdict
    assert words in told(found)


def test_a_region_lies_somewhere_and_is_enabled(aws: FakeAws) -> None:
    enabled = account.region(ask_of(aws))
    aws.account.enabled = ("us-east-1",)
    closed = account.region(ask_of(aws))

    assert (enabled.verdict, enabled.said) == (OK, "eu-west-3 (Paris, EU)")
    assert closed.verdict is FAILING
    assert "--region-name eu-west-3" in closed.fix


@pytest.mark.parametrize(
    ("lies_in", "denied", "verdict", "words"),
    [
        ("eu-west-3", set(), OK, "grapes-and-figs in eu-west-3"),
        (None, set(), OK, "grapes-and-figs in eu-west-3 will be made by the first launch"),
        (None, None, OK, "whether you may create it could not be checked"),
        (None, {"s3:CreateBucket"}, FAILING, "Ask an administrator for s3:CreateBucket."),
        ("us-east-1", set(), FAILING, "Give --region us-east-1, or another --bucket."),
    ],
    ids=["there", "to be made", "unknown", "may not", "elsewhere"],
)
def test_a_bucket_is_here_or_may_be_made(
    aws: FakeAws, lies_in: str | None, denied: set[str] | None, verdict: Verdict, words: str
) -> None:
    if lies_in:
        aws.storage.buckets["grapes-and-figs"] = lies_in
    forbid(aws, denied)

    found = account.bucket(ask_of(aws))

    assert found.verdict is verdict
    assert words in told(found)


def whole(spec: policies.RoleSpec) -> RoleFacts:
    attached = frozenset({spec.managed_arn} if spec.managed_arn else ())
    return RoleFacts(spec.trust, spec.policy, attached, (spec.name,) if spec.has_profile else None)


OTHER = policies.document({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})


@pytest.mark.parametrize(
    ("changes", "denied", "verdict", "words"),
    [
        ({}, (), OK, f"{ROLE} with its instance profile"),
        (None, (), OK, f"{ROLE} with its instance profile will be made by the first launch"),
        (None, {"iam:CreateRole"}, FAILING, "you may not create it"),
        ({"trust": {}}, (), OK, "the trust policy of"),
        ({"trust": {}}, {"iam:UpdateAssumeRolePolicy"}, FAILING, "iam:UpdateAssumeRolePolicy"),
        ({"profile": ("other",)}, (), OK, "the instance profile of"),
        ({"profile": None, "policy": None}, (), OK, "the own policy and instance profile of"),
        ({"policy": OTHER}, (), OK, f"the own policy of {ROLE} will be brought up to date"),
        ({"policy": OTHER}, None, OK, "whether you may change it could not be checked"),
        ({"policy": OTHER}, {"iam:PutRolePolicy"}, Verdict.WARNING, "you may not change it"),
        ({"foreign": ("role",)}, (), FAILING, f"The role {ROLE} was not made by fruits"),
        ({"foreign": ("instance profile",)}, (), FAILING, "aws iam tag-instance-profile"),
    ],
)
def test_the_nodes_role_is_ours_and_up_to_date_or_will_be(
    aws: FakeAws, changes: dict[str, Any] | None, denied: Any, verdict: Verdict, words: str
) -> None:
    if changes is not None:
        aws.rights.roles[ROLE] = replace(whole(NODES), **changes)
    forbid(aws, denied if denied is None else set(denied))

    found = Question("EC2 role", partial(account.instance_role, ask_of(aws))).answer()

    assert found.verdict is verdict
    assert words in told(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, SERVICE.name),
        (None, f"{SERVICE.name} will be made by the first launch"),
        ({"trust": NODES.trust}, "the trust policy of"),
        ({"attached": frozenset()}, "the managed policy of"),
    ],
)
def test_emrs_role_is_ours_and_up_to_date_or_will_be(
    aws: FakeAws, changes: dict[str, Any] | None, words: str
) -> None:
    if changes is not None:
        aws.rights.roles[SERVICE.name] = replace(whole(SERVICE), **changes)

    found = account.service_role(ask_of(aws))

    assert found.verdict is OK
    assert words in found.said


def test_roles_that_may_not_be_passed_are_named(aws: FakeAws) -> None:
    before = account.pass_role(ask_of(aws))
    forbid(aws, {"iam:PassRole"})
    both = account.pass_role(ask_of(aws))

    assert before.verdict is OK
    assert (both.verdict, both.said) == (
        FAILING,
        f"You may not pass {NAMES.service_role} and {ROLE}.",
    )


def test_a_key_pair_exists_and_is_the_files(aws: FakeAws, tmp_path: Any) -> None:
    file = tmp_path / "key.pem"
    write_private(file, fruits_cli.tunnel.keys.new_private_key())
    (own,) = fruits_cli.tunnel.keys.load_fingerprints(file)
    aws.preflight.keys |= {"mine": f"SHA256:{own}=", "others": "ab:cd"}

    def found(name: str | None, key_file: Any = None) -> Finding:
        given = {"key_name": name} if name else {}
        tunnel = {"key_file": key_file} if key_file else {}
        return account.key_pair(ask_of(aws, cluster=given, tunnel=tunnel))

    assert found(None).verdict is NOT_ASKED
    assert found("none").said == "EC2 has no key pair none in this region."
    assert found("mine").said == "mine; no key_file is configured to compare it with"
    assert found("mine", file).said == "mine, and the key file is its key"
    assert found("others", file).said == ("The key file is not the key of others: EC2 shows ab:cd.")


def group(name: str, *rules: OpenRule, is_tagged: bool = True) -> GroupFacts:
    return GroupFacts("sg-1", name, is_tagged, rules)


def rule(port: int, cidr: str = "0.0.0.0/0") -> OpenRule:
    return OpenRule(cidr, port, port)


@pytest.mark.parametrize(
    ("groups", "access", "verdict"),
    [
        ([], BLOCKED, OK),
        ([group("ElasticMapReduce-primary", rule(22))], BLOCKED, OK),
        ([group("ElasticMapReduce-primary", rule(9443))], BLOCKED, FAILING),
        ([group("ElasticMapReduce-primary", rule(9443))], PublicAccess(False), OK),
        ([group("fruits-figs-ssh", rule(22))], BLOCKED, FAILING),
        ([group("fruits-figs-ssh", rule(22))], PublicAccess(False), FAILING),
        ([group("ElasticMapReduce-core", OpenRule("::/0", 0, 65535))], BLOCKED, FAILING),
    ],
)
def test_a_rule_for_the_whole_internet_is_told(
    aws: FakeAws, groups: list[GroupFacts], access: PublicAccess, verdict: Verdict
) -> None:
    aws.preflight.groups, aws.preflight.access = tuple(groups), access

    assert account.security_groups(ask_of(aws)).verdict is verdict


def test_the_fix_of_an_open_rule_takes_just_that_rule_away(aws: FakeAws) -> None:
    aws.preflight.groups = (group("fruits-a-ssh", rule(22)),)
    four = account.security_groups(ask_of(aws))
    aws.preflight.groups = (group("fruits-a-ssh", rule(22, "::/0"), rule(23)),)
    six = account.security_groups(ask_of(aws))

    assert four.fix.endswith(
        "--group-id sg-1 --ip-permissions "
        "'IpProtocol=tcp,FromPort=22,ToPort=22,IpRanges=[{CidrIp=0.0.0.0/0}]'"
    )
    assert "Ipv6Ranges=[{CidrIpv6=::/0}]" in six.fix
    assert "(1 more)" in six.said


def test_old_groups_of_emr_without_the_tag_are_told_with_the_command(aws: FakeAws) -> None:
    before = account.emr_groups(ask_of(aws))
    aws.preflight.groups = (group("ElasticMapReduce-core"), group("fruits-a-ssh", is_tagged=False))
    tagged = account.emr_groups(ask_of(aws))
    aws.preflight.groups = (group("ElasticMapReduce-core", is_tagged=False),)
    old = account.emr_groups(ask_of(aws))

    assert (before.verdict, tagged.verdict, old.verdict) == (OK, OK, FAILING)
    assert "ElasticMapReduce-core (sg-1)" in old.said
    assert old.fix.startswith("aws ec2 create-tags --resources sg-1 --tags Key=for-use-with-")


@pytest.mark.parametrize(
    ("access", "start"),
    [
        (PublicAccess(True, ((22, 22), (8000, 8080))), "on but for port 22, 8000-8080; "),
        (PublicAccess(True), "on; "),
        (PublicAccess(False), "off; "),
    ],
)
def test_the_block_of_public_access_is_told_with_its_ports(
    aws: FakeAws, access: PublicAccess, start: str
) -> None:
    aws.preflight.access = access

    assert account.public_access(ask_of(aws)).said.startswith(start)


def test_live_clusters_are_told_with_their_dollars_until_they_are_forgotten(aws: FakeAws) -> None:
    def ask() -> Ask:
        return ask_of(aws, cluster={"max_lifetime_min": 60})

    spec = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec

    none = account.clusters(ask())
    aws.clusters.start_cluster(spec)
    aws.clock.sleep(45 * 60)
    young = account.clusters(ask())
    aws.clock.sleep(16 * 60)
    old = account.clusters(ask())

    assert none.said == "no cluster of fruits is live"
    assert young.verdict is OK
    assert young.said.startswith("fruits-fruits (j-0001) WAITING for 45 minutes, about $")
    assert old.verdict is FAILING
    assert "so far. Older than 60 minutes: j-0001." in old.said
    assert old.fix == "fruits terminate --cluster j-0001"


def test_what_your_policies_lack_for_a_launch_is_named(aws: FakeAws) -> None:
    before = account.launch(ask_of(aws))
    forbid(aws, {"elasticmapreduce:RunJobFlow"})

    assert before.verdict is OK
    assert account.launch(ask_of(aws)).said == "You lack elasticmapreduce:RunJobFlow."
