from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.cloud.account import (
    GroupFacts,
    Identity,
    OpenRule,
    Quota,
    RoleFacts,
    SubnetFacts,
    VpcFacts,
)
from fruits_cli.cloud.clusters import Market
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.foundations import foundation_names
from fruits_cli.cluster.plan import plan_cluster
from fruits_cli.config import Config
from fruits_cli.doctor.examination import Surroundings, examine, report
from fruits_cli.doctor.findings import Finding, Question, Verdict
from fruits_cli.errors import AccessDenied, CloudError, ConfigError
from tests.support.fakes import FakeAws
from tests.support.worlds import PYTHON, RUN_ID, config, observed

OK, FAILING = Verdict.OK, Verdict.FAILING
UNASKED, NOT_ASKED = Verdict.COULD_NOT_ASK, Verdict.NOT_ASKED
HERE = {
    "Python",
    "packages",
    "Java",
    "weights",
    "disk, working folder",
    "disk, cache",
    "disk, temporary folder",
    "tunnel port",
}
NAMES = foundation_names(config(), keep_alive=True)

Examine = Callable[..., dict[str, Finding]]


def failed(findings: list[Finding]) -> bool:
    return report(findings).exit_code == 1


def clouded(**tables: dict[str, Any]) -> Config:
    return config(job={"weights": "random"}, **tables)


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


@pytest.fixture
def examined(aws: FakeAws, tmp_path: Path) -> Examine:
    """The findings by name."""

    def made(asked: Config | None = None, connect: Callable[[], Cloud] | None = None) -> Any:
        environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        around = Surroundings(environ, tmp_path, connect or (lambda: aws.cloud), aws.clock)
        found = examine(asked or clouded(), around)
        assert len({one.name for one in found}) == len(found)
        return {one.name: one for one in found}

    return made


def test_an_empty_account_is_fine_and_everything_will_be_created(examined: Examine) -> None:
    found = examined()

    verdicts = {name: one.verdict for name, one in found.items() if name not in HERE}
    assert {name for name, verdict in verdicts.items() if verdict is not OK} == {"key pair"}
    assert "will be made" in found["bucket"].said
    assert "will be made" in found["EMR role"].said
    assert "will be set on subnet-a, vpc-1" in found["tags"].said
    assert set(found) > HERE


def test_without_a_bucket_or_a_profile_aws_is_one_line(examined: Examine) -> None:
    def never() -> Cloud:
        raise AssertionError("nobody was to be asked")

    found = examined(Config.model_validate({"job": {"weights": "random"}}), never)

    assert found["AWS"].verdict is NOT_ASKED
    assert "no bucket is configured" in found["AWS"].said
    assert set(found) == {"AWS", *HERE}


def test_a_profile_without_a_bucket_is_asked_about_the_account(examined: Examine) -> None:
    found = examined(Config.model_validate({"aws": {"profile": "p"}, "job": {"weights": "random"}}))

    assert found["bucket"].verdict is NOT_ASKED
    assert found["credentials"].verdict is OK
    assert "EMR role" not in found


def test_an_unknown_profile_is_the_only_finding_about_aws(examined: Examine) -> None:
    def refuse() -> Cloud:
        raise ConfigError("There is no profile figs.", hint="aws configure list-profiles")

    found = examined(connect=refuse)

    assert found["profile and region"].verdict is FAILING
    assert set(found) == {"profile and region", *HERE}


def test_an_unknown_region_is_not_asked_anything(examined: Examine, aws: FakeAws) -> None:
    aws.account.region = "eu-west-33"

    found = examined()

    assert found["profile and region"].fix == "Give --region eu-west-3."
    assert aws.preflight.asked == []


class _Stranger:
    """An account door that does not know us."""

    region = "eu-west-3"

    def __init__(self, error: CloudError) -> None:
        self._error = error

    def identity(self) -> Identity:
        raise self._error


def test_without_credentials_nothing_else_is_asked(examined: Examine, aws: FakeAws) -> None:
    error = CloudError("No AWS credentials were found.", hint="Run aws configure.")
    cloud = replace(aws.cloud, account=_Stranger(error))  # type: ignore[arg-type]

    found = examined(connect=lambda: cloud)

    assert found["credentials"].verdict is UNASKED
    assert found["credentials"].fix == "Run aws configure."
    assert found["subnets"].said == "AWS did not say who you are, see above"
    assert aws.preflight.asked == ["clock_ahead_s"]


RIGHTS = {
    "denied": ("PassRole", "iam:SimulatePrincipalPolicy"),
    "subnets": ("subnets", "ec2:DescribeSubnets"),
    "vpc": ("VPC DNS", "ec2:DescribeVpcAttribute"),
    "security_groups": ("security groups", "ec2:DescribeSecurityGroups"),
    "public_access": ("block public access", "GetBlockPublicAccessConfiguration"),
    "releases": ("release", "elasticmapreduce:ListReleaseLabels"),
    "applications": ("applications", "elasticmapreduce:DescribeReleaseLabel"),
    "supported_types": ("instance types", "elasticmapreduce:ListSupportedInstanceTypes"),
    "zones": ("zones", "ec2:DescribeInstanceTypeOfferings"),
}


@pytest.mark.parametrize("method", RIGHTS)
def test_a_missing_right_closes_its_question_alone(
    examined: Examine, aws: FakeAws, method: str
) -> None:
    name, right = RIGHTS[method]
    aws.preflight.refusals[method] = AccessDenied("AWS does not let you.")

    found = examined()

    assert found[name].verdict is UNASKED
    assert right in found[name].fix
    assert found["credentials"].verdict is found["memory"].verdict is OK
    assert not [one for one in found.values() if one.verdict is FAILING and one.name not in HERE]


def test_the_right_that_aws_names_is_reported(examined: Examine, aws: FakeAws) -> None:
    aws.preflight.refusals["zones"] = AccessDenied("No.", hint="The right that is missing is x:Y.")

    assert examined()["zones"].fix == "The right that is missing is x:Y."


def test_without_simulation_doctor_says_that_rights_could_not_be_checked(
    examined: Examine, aws: FakeAws
) -> None:
    aws.preflight.refusals["denied"] = AccessDenied("AWS does not let you.")

    assert "whether you may create it could not be checked" in examined()["EC2 role"].said


def test_a_folder_that_may_not_be_looked_at_is_a_finding() -> None:
    def refuse() -> Finding:
        raise PermissionError(13, "Permission denied", "/data")

    found = Question("disk, cache", refuse).answer()

    assert (found.verdict, found.said) == (FAILING, "Permission denied: /data.")


def test_a_silent_network_is_not_a_fault(examined: Examine, aws: FakeAws) -> None:
    aws.preflight.refusals["releases"] = CloudError("AWS did not answer.", hint="Try again.")

    found = examined()["release"]

    assert (found.verdict, found.said, found.fix) == (UNASKED, "AWS did not answer.", "Try again.")


class _Meeting:
    """A preflight whose answers to three questions wait for each other."""

    def __init__(self, preflight: Any) -> None:
        self._preflight, self._barrier = preflight, threading.Barrier(3)

    def __getattr__(self, name: str) -> Any:
        if name in ("releases", "zones", "supported_types"):
            self._barrier.wait(timeout=30)
        return getattr(self._preflight, name)


def test_the_questions_are_asked_side_by_side(examined: Examine, aws: FakeAws) -> None:
    cloud = replace(aws.cloud, preflight=_Meeting(aws.preflight))  # type: ignore[arg-type]

    assert examined(connect=lambda: cloud)["zones"].verdict is OK


def test_the_report_has_a_fix_below_its_line_and_counts() -> None:
    findings = [
        Finding(OK, "fine", name="a"),
        Finding(FAILING, "broken", "do this\nthen that", name="bc"),
        Finding(UNASKED, "silence", name="d"),
    ]

    outcome = report(findings)

    assert outcome.lines == [
        "ok             a   fine",
        "failing        bc  broken",
        "                     fix: do this",
        "                     fix: then that",
        "could not ask  d   silence",
        "1 ok, 1 failing, 1 could not ask.",
    ]
    assert outcome.facts["counts"] == {
        "ok": 1,
        "warning": 0,
        "failing": 1,
        "could not ask": 1,
        "not asked": 0,
    }
    assert outcome.facts["findings"][0] == {
        "name": "a",
        "verdict": "ok",
        "said": "fine",
        "fix": "",
    }


def test_only_what_fails_is_a_failure() -> None:
    assert not failed([Finding(one, "") for one in Verdict if one is not FAILING])
    assert failed([Finding(FAILING, "")])


# What a launch would be refused for, or fail on later, is told before it.


def test_a_new_account_lacks_the_service_linked_role(examined: Examine, aws: FakeAws) -> None:
    will_be_made = examined()["service-linked role"]
    aws.preflight.forbidden = frozenset({"iam:CreateServiceLinkedRole"})
    cannot = examined()["service-linked role"]

    assert will_be_made.verdict is OK
    assert (cannot.verdict, "iam:CreateServiceLinkedRole" in cannot.fix) == (FAILING, True)


def test_roles_of_others_or_that_may_not_be_passed(examined: Examine, aws: FakeAws) -> None:
    aws.rights.roles[NAMES.instance_role] = RoleFacts({}, foreign=("role",))
    aws.preflight.forbidden = frozenset({"iam:PassRole"})

    found = examined()

    assert "was not made by fruits" in found["EC2 role"].said
    assert NAMES.instance_role in found["PassRole"].said
    assert {found[name].verdict for name in ("EC2 role", "PassRole")} == {FAILING}


def test_emrs_managed_policy_without_its_tags(examined: Examine, aws: FakeAws) -> None:
    aws.preflight.forbidden = frozenset({"ec2:CreateTags"})

    found = examined()["tags"]

    assert found.verdict is FAILING
    assert "--tags Key=for-use-with-amazon-emr-managed-policies,Value=true" in found.fix


def test_a_network_without_default_vpc_route_or_names(examined: Examine, aws: FakeAws) -> None:
    aws.preflight.networks = ()
    no_vpc = examined()
    aws.preflight.networks = (SubnetFacts("subnet-b", "vpc-1", "eu-west-3a", 9),)
    aws.preflight.dns = VpcFacts("vpc-1", has_dns_support=True, has_dns_hostnames=False)
    shut = examined()

    assert no_vpc["subnets"].said == "There is no default VPC in this region."
    assert no_vpc["routes"].verdict is NOT_ASKED
    assert "no route to an internet gateway" in shut["routes"].said
    assert "--enable-dns-hostnames" in shut["VPC DNS"].fix


def test_a_quota_of_a_new_account(examined: Examine, aws: FakeAws) -> None:
    aws.account.quotas = {Market.ON_DEMAND: Quota(5, 0), Market.SPOT: None}

    found = examined()

    assert found["vCPUs on demand"].said == "12 needed, 5 free (0 of 5 in use)"
    assert "request-service-quota-increase" in found["vCPUs on demand"].fix
    assert found["vCPUs Spot"].verdict is UNASKED


def test_a_type_that_no_zone_of_the_subnets_has(examined: Examine, aws: FakeAws) -> None:
    aws.preflight.networks = (SubnetFacts("subnet-c", "vpc-1", "eu-west-3c", 9, has_internet=True),)
    unknown = examined(clouded(cluster={"core_type": "m9z.xlarge"}))

    assert examined()["zones"].verdict is FAILING
    assert "does not run on m9z.xlarge" in unknown["instance types"].said
    assert "m9z.xlarge is not an instance type of this region" in unknown["memory"].said


def test_a_release_that_the_region_lacks_or_that_is_too_old(
    examined: Examine, aws: FakeAws
) -> None:
    aws.clock.sleep(30 * 24 * 3600)
    lacking = examined(clouded(cluster={"release_label": "emr-7.99.0"}))
    old = examined(clouded(cluster={"release_label": "emr-6.15.0"}))
    apps = examined(clouded(cluster={"applications": ["Spark", "Zeppelin"]}))

    assert lacking["release"].fix == "Give --release-label emr-7.14.0."
    assert "out of support" in old["release"].said
    assert apps["applications"].said == "emr-7.14.0 has no Zeppelin."


def test_an_open_rule_that_the_block_of_public_access_refuses(
    examined: Examine, aws: FakeAws
) -> None:
    rule = OpenRule("0.0.0.0/0", 9443, 9443)
    aws.preflight.groups = (GroupFacts("sg-1", "ElasticMapReduce-primary", True, (rule,)),)

    found = examined()["security groups"]

    assert found.verdict is FAILING
    assert "sg-1" in found.fix


def test_a_root_volume_that_the_bootstrap_would_fill(examined: Examine) -> None:
    found = examined(clouded(cluster={"root_volume_gib": 15}))["root volume"]

    assert (found.verdict, found.fix) == (FAILING, "Give --root-volume-gib 32.")


def test_nodes_too_small_for_a_python_worker(examined: Examine, aws: FakeAws) -> None:
    small = {"core_type": "c5.xlarge", "task_count": 0}
    asked = config(job={"weights": "random", "engine": "tensorflow"}, cluster=small)

    roomy, tight = examined()["memory"], examined(asked)["memory"]

    assert roomy.said == "3 executors of 4 cores, 7168 MiB each, for openvino in f32"
    assert tight.said.startswith("2 executors of 2 cores")


def test_an_invalid_open_or_foreign_key(examined: Examine, aws: FakeAws, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("no key")
    file.chmod(0o644)
    aws.preflight.keys["figs"] = "ab:cd"
    absent = examined(clouded(cluster={"key_name": "pears"}))
    asked = config(
        job={"weights": "random"},
        cluster={"key_name": "figs"},
        tunnel={"key_file": file},
    )
    opened = examined(asked)
    file.chmod(0o600)
    broken = examined(asked)

    assert "EC2 has no key pair pears" in absent["key pair"].said
    assert opened["key file"].fix == f"chmod 600 {file}"
    assert "is not a private key" in broken["key file"].said


def test_a_port_in_use(examined: Examine) -> None:
    from fruits_cli.tunnel.ports import listen_on

    with listen_on(0) as taken:
        port = taken.getsockname()[1]
        found = examined(config(job={"weights": "random"}, tunnel={"port": port}))

    assert found["tunnel port"].said == f"Port {port} of this machine is in use."
    assert found["tunnel port"].verdict is FAILING


def test_a_forgotten_cluster(examined: Examine, aws: FakeAws) -> None:
    spec = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec
    aws.clusters.start_cluster(spec)
    aws.clock.sleep(60 * 60)
    young = examined()["clusters"]
    aws.clock.sleep(13 * 60 * 60)
    old = examined()["clusters"]

    assert young.verdict is OK
    assert "WAITING for 60 minutes, about $" in young.said
    assert (old.verdict, old.fix) == (FAILING, "fruits terminate --cluster j-0001")


def test_a_bucket_of_somebody_else(examined: Examine, aws: FakeAws) -> None:
    class Foreign:
        def bucket_region(self, bucket: str) -> str | None:
            raise AccessDenied(f"Bucket {bucket} exists, and you may not use it.", hint="Choose.")

    found = examined(connect=lambda: replace(aws.cloud, storage=Foreign()))["bucket"]  # type: ignore[arg-type]

    assert (found.verdict, found.fix) == (FAILING, "Choose.")


def test_a_wrong_clock(examined: Examine, aws: FakeAws) -> None:
    aws.preflight.ahead_s = 400.0

    assert examined()["clock"].verdict is FAILING


class _Watched:
    """A door that notes which of its methods are called."""

    def __init__(self, door: object, called: set[str]) -> None:
        self._door, self._called = door, called

    def __getattr__(self, name: str) -> Any:
        self._called.add(name)
        return getattr(self._door, name)


def test_nothing_is_made_changed_or_ended(examined: Examine, aws: FakeAws) -> None:
    spec = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec
    aws.clusters.start_cluster(spec)
    called: set[str] = set()
    doors = [door.name for door in fields(Cloud)]
    watched: Any = {door: _Watched(getattr(aws.cloud, door), called) for door in doors}

    examined(clouded(cluster={"key_name": "figs"}), lambda: Cloud(**watched))

    asked = {
        *("region", "identity", "regions", "machines", "quota", "prices", "bucket_region"),
        *("has_linked_role", "has_security_configuration", "find_clusters", "nodes", "role"),
    }
    assert called - {name for name in dir(aws.preflight) if not name.startswith("_")} == asked
    assert (aws.rights.made, aws.storage.buckets, aws.storage.puts) == (set(), {}, [])
