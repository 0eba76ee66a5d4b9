"""Asks all questions of `fruits doctor` in parallel; changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from fruits_cli.cloud.clusters import Market
from fruits_cli.cloud.protocols import Clock, Cloud, SystemClock
from fruits_cli.config import Config
from fruits_cli.doctor import account, capacity, machine, network
from fruits_cli.doctor.ask import Ask
from fruits_cli.doctor.findings import Finding, Question, Verdict, not_asked
from fruits_cli.screen import Outcome, Table

_AT_ONCE = 16
_NO_CLOUD = "no bucket is configured, so nothing runs on AWS (fruits run stays on this machine)"
_UNKNOWN_TO_AWS = "AWS did not say who you are, see above"

# Name, function, and the rights that asking needs; in the order of the table.
Row = tuple[str, Callable[[Ask], Finding], tuple[str, ...]]
# Without credentials nothing else can be asked.
_FIRST: tuple[Row, ...] = (
    ("credentials", account.credentials, ()),
    ("clock", account.clock, ()),
)
_REGION: Row = ("region", account.region, ("ec2:DescribeRegions",))
_ROLE = ("iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies")
_WITH_BUCKET: tuple[Row, ...] = (
    ("bucket", account.bucket, ("s3:ListBucket",)),
    ("service-linked role", account.cleanup_role, ("iam:GetRole",)),
    ("Spot role", account.spot_role, ("iam:GetRole",)),
    ("EC2 role", account.instance_role, (*_ROLE, "iam:GetInstanceProfile")),
    ("EMR role", account.service_role, _ROLE),
    ("PassRole", account.pass_role, ("iam:SimulatePrincipalPolicy",)),
    (
        "security configuration",
        account.security_configuration,
        ("elasticmapreduce:DescribeSecurityConfiguration",),
    ),
)
_NO_BUCKET: Row = ("bucket", lambda _: not_asked("no bucket is configured"), ())
_OTHERS: tuple[Row, ...] = (
    ("launch", account.launch, ("iam:SimulatePrincipalPolicy",)),
    ("key pair", account.key_pair, ("ec2:DescribeKeyPairs",)),
    ("subnets", network.subnets, ("ec2:DescribeSubnets", "ec2:DescribeRouteTables")),
    ("routes", network.routes, ("ec2:DescribeRouteTables", "ec2:DescribeVpcEndpoints")),
    ("VPC DNS", network.dns, ("ec2:DescribeVpcAttribute",)),
    ("tags", network.tags, ("ec2:DescribeVpcs",)),
    ("idle end", network.idle_end, ("ec2:DescribeVpcEndpoints",)),
    ("security groups", account.security_groups, ("ec2:DescribeSecurityGroups",)),
    ("EMR's groups", account.emr_groups, ("ec2:DescribeSecurityGroups",)),
    (
        "block public access",
        account.public_access,
        ("elasticmapreduce:GetBlockPublicAccessConfiguration",),
    ),
    ("release", capacity.release, ("elasticmapreduce:ListReleaseLabels",)),
    ("applications", capacity.applications, ("elasticmapreduce:DescribeReleaseLabel",)),
    ("instance types", capacity.instance_types, ("elasticmapreduce:ListSupportedInstanceTypes",)),
    ("root volume", capacity.root_volume, ()),
    ("memory", capacity.memory, ("ec2:DescribeInstanceTypes",)),
    ("zones", capacity.zones, ("ec2:DescribeInstanceTypeOfferings",)),
    ("vCPUs on demand", partial(capacity.vcpus, market=Market.ON_DEMAND), ()),
    ("vCPUs Spot", partial(capacity.vcpus, market=Market.SPOT), ()),
    (
        "clusters",
        account.clusters,
        ("elasticmapreduce:ListClusters", "elasticmapreduce:DescribeCluster"),
    ),
)


@dataclass(frozen=True)
class Surroundings:
    """This machine's environment and folder, and how to connect to AWS."""

    environ: Mapping[str, str]
    folder: Path
    # Raises ConfigError where profile or region are not there.
    connect: Callable[[], Cloud]
    clock: Clock = field(default_factory=SystemClock)


def examine(config: Config, around: Surroundings) -> list[Finding]:
    """All findings, in the order of the table; takes a few seconds."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # Asked before AWS is waited for.
        here = [pool.submit(question.answer) for question in _here(config, around)]
        there = _examine_cloud(config, around, pool)
        return [*there, *(answer.result() for answer in here)]


def _examine_cloud(config: Config, around: Surroundings, pool: ThreadPoolExecutor) -> list[Finding]:
    if not (config.storage.bucket or config.aws.profile):
        return [Question("AWS", lambda: not_asked(_NO_CLOUD)).answer()]
    clouds: list[Cloud] = []

    def region() -> Finding:
        clouds.append(around.connect())
        return account.known_region(Ask(config, clouds[0], around.clock))

    if (found := Question("profile and region", region).answer()).verdict is not Verdict.OK:
        return [found]
    ask = Ask(config, clouds[0], around.clock)
    rest = (_REGION, *(_WITH_BUCKET if config.storage.bucket else (_NO_BUCKET,)), *_OTHERS)
    first = list(pool.map(Question.answer, _questions(ask, _FIRST)))
    if any(finding.verdict is Verdict.COULD_NOT_ASK for finding in first):
        # Each would wait for the same silence.
        return [
            *first,
            *(Finding(Verdict.COULD_NOT_ASK, _UNKNOWN_TO_AWS, "", row[0]) for row in rest),
        ]
    return [*first, *pool.map(Question.answer, _questions(ask, rest))]


def _questions(ask: Ask, rows: Iterable[Row]) -> list[Question]:
    return [Question(name, partial(find, ask), rights) for name, find, rights in rows]


def _here(config: Config, around: Surroundings) -> list[Question]:
    """The questions about this machine."""
    environ, key = around.environ, config.tunnel.key_file
    questions = [
        Question("Python", machine.python),
        Question("packages", machine.packages),
        Question("Java", partial(machine.java, environ)),
        Question("weights", partial(machine.weights, config.job.weights, environ)),
        *(
            Question(f"disk, {what}", partial(machine.disk, where))
            for what, where in machine.folders(environ, around.folder).items()
        ),
        Question("tunnel port", partial(machine.port, config.tunnel.port)),
    ]
    return [*questions, Question("key file", partial(machine.key_file, key))] if key else questions


def report(findings: Sequence[Finding]) -> Outcome:
    """The table, the fixes below their lines, and how many of each verdict there are."""
    rows: list[Sequence[object]] = []
    for finding in findings:
        rows.append((finding.verdict.value, finding.name, finding.said))
        rows += [("", "", f"  fix: {line}") for line in finding.fix.splitlines()]
    counts = Counter(finding.verdict for finding in findings)
    summary = ", ".join(
        f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]
    )
    facts = {
        "findings": [asdict(finding) for finding in findings],
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
    }
    # Neither a warning nor an unanswered question is a failure.
    code = 1 if counts[Verdict.FAILING] else 0
    return Outcome([Table(rows, has_head=False), f"{summary}."], facts, code)
