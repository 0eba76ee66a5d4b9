"""What `fruits doctor` asks AWS: each question alone, whatever becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from fruits_cli.cloud.account import (
    CLEANUP_ROLE,
    SPOT_ROLE,
    LinkedRole,
    Machine,
    SubnetFacts,
    VpcFacts,
)
from fruits_cli.cloud.clusters import Market
from fruits_cli.cloud.protocols import Clock, Cloud
from fruits_cli.cluster.foundations import FoundationNames, foundation_names
from fruits_cli.cluster.life import bill_of
from fruits_cli.cluster.nodes import node_groups, uses_spot
from fruits_cli.cluster.plan import lifetime_min
from fruits_cli.config import Config
from fruits_cli.doctor import account, capacity, network
from fruits_cli.doctor.findings import Finding, failing, not_asked, of_error
from fruits_cli.errors import AccessDenied, CloudError, FruitsError

_T = TypeVar("_T")
_EC2, _EMR = "ec2.amazonaws.com", "elasticmapreduce.amazonaws.com"
_NO_BUCKET = "no bucket is configured"
# What making each thing takes; what a launch does with it is in aws/rights.py and aws/storage.py.
_MAKE_BUCKET = (
    "s3:CreateBucket",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutEncryptionConfiguration",
)
_MAKE_LINKED_ROLE = ("iam:CreateServiceLinkedRole",)
_MAKE_ROLE = ("iam:CreateRole", "iam:TagRole", "iam:PutRolePolicy")
_MAKE_SERVICE_ROLE = (*_MAKE_ROLE, "iam:AttachRolePolicy")
_MAKE_PROFILE = (
    "iam:CreateInstanceProfile",
    "iam:TagInstanceProfile",
    "iam:AddRoleToInstanceProfile",
)
_MAKE_CONFIGURATION = ("elasticmapreduce:CreateSecurityConfiguration",)
_LAUNCH = ("elasticmapreduce:RunJobFlow", "elasticmapreduce:ListClusters")
# A policy may allow these on clusters alone, so they are asked about on one.
_ON_CLUSTER = (
    "elasticmapreduce:AddJobFlowSteps",
    "elasticmapreduce:AddTags",
    "elasticmapreduce:DescribeCluster",
    "elasticmapreduce:DescribeStep",
    "elasticmapreduce:ListInstances",
    "elasticmapreduce:ListSteps",
    "elasticmapreduce:TerminateJobFlows",
)


class _Moot(FruitsError):
    """There is nothing to ask about; why is told by another question."""


@dataclass(frozen=True)
class Question:
    """A question by name; `rights` are what asking it needs."""

    name: str
    ask: Callable[[], Finding]
    rights: tuple[str, ...] = ()

    def answer(self) -> Finding:
        """The finding, also where asking failed."""
        try:
            return self.ask()
        except _Moot as error:
            return not_asked(self.name, str(error))
        except FruitsError as error:
            return of_error(self.name, error, self.rights)
        except OSError as error:
            # A file of this machine that even looking at is denied.
            return failing(
                self.name, f"{error.strerror}: {error.filename}.", "Give yourself access."
            )


class _Once(Generic[_T]):
    """An observation that several questions share: asked once, by whoever comes first."""

    def __init__(self, ask: Callable[[], _T]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._seen: Future[_T] = Future()

    def __call__(self) -> _T:
        with self._lock:
            if not self._seen.done():
                try:
                    self._seen.set_result(self._ask())
                except FruitsError as error:
                    self._seen.set_exception(error)
        return self._seen.result()


class CloudQuestions:
    """The questions of one configuration to one cloud."""

    def __init__(
        self,
        config: Config,
        cloud: Cloud,
        clock: Clock,
        *,
        load_prints: Callable[[Path], frozenset[str]],
    ) -> None:
        self._config, self._cloud, self._clock = config, cloud, clock
        self._load_prints = load_prints
        self._groups = node_groups(config.cluster)
        self._identity = _Once(cloud.account.identity)
        self._subnets = _Once(lambda: cloud.preflight.subnets(config.cluster.subnets))
        self._vpc = _Once(self._ask_vpc)
        self._machines = _Once(self._ask_machines)

    def gates(self) -> list[Question]:
        """Those on which all others depend: without credentials nothing else is to be had."""
        return [
            Question("credentials", lambda: account.credentials(self._identity())),
            Question("clock", self._clock_),
        ]

    def region(self) -> Finding:
        """Whether there is such a region; nobody is asked."""
        return account.region(self._cloud.region, self._cloud.preflight.known_regions(), None)

    def others(self) -> list[Question]:
        """All that can be asked side by side, in the order in which they are told."""
        ec2, emr = "ec2:Describe", "elasticmapreduce:"
        return [
            Question("region", self._region, ("ec2:DescribeRegions",)),
            *(self._foundation() if self._config.storage.bucket else [_unasked("bucket")]),
            Question("launch", self._launch, ("iam:SimulatePrincipalPolicy",)),
            Question("key pair", self._key_pair, (f"{ec2}KeyPairs",)),
            Question("subnets", self._subnets_, (f"{ec2}Subnets", f"{ec2}RouteTables")),
            Question("routes", self._routes, (f"{ec2}RouteTables", f"{ec2}VpcEndpoints")),
            Question("VPC DNS", lambda: network.dns(self._vpc()), (f"{ec2}VpcAttribute",)),
            Question("tags", self._tags, (f"{ec2}Vpcs",)),
            Question("idle end", self._idle_end, (f"{ec2}VpcEndpoints",)),
            Question("security groups", self._security_groups, (f"{ec2}SecurityGroups",)),
            Question(
                "block public access",
                lambda: account.public_access(self._cloud.preflight.public_access()),
                (f"{emr}GetBlockPublicAccessConfiguration",),
            ),
            Question("release", self._release, (f"{emr}ListReleaseLabels",)),
            Question("applications", self._applications, (f"{emr}DescribeReleaseLabel",)),
            Question("instance types", self._types, (f"{emr}ListSupportedInstanceTypes",)),
            Question("root volume", lambda: capacity.root_volume(self._config.cluster)),
            Question("memory", self._memory, (f"{ec2}InstanceTypes",)),
            Question("zones", self._zones, (f"{ec2}InstanceTypeOfferings",)),
            *(
                Question(name, partial(self._vcpus, market))
                for market, name in capacity.QUOTA_NAMES.items()
            ),
            Question("clusters", self._clusters, (f"{emr}ListClusters", f"{emr}DescribeCluster")),
        ]

    def _foundation(self) -> list[Question]:
        iam = ("iam:GetRole", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies")
        return [
            Question("bucket", self._bucket, ("s3:ListBucket",)),
            Question(
                "service-linked role",
                partial(self._linked_role, "service-linked role", CLEANUP_ROLE),
                ("iam:GetRole",),
            ),
            Question("Spot role", self._spot_role, ("iam:GetRole",)),
            Question("EC2 role", self._instance_role, (*iam, "iam:GetInstanceProfile")),
            Question("EMR role", self._service_role, iam),
            Question("PassRole", self._pass_role, ("iam:SimulatePrincipalPolicy",)),
            Question(
                "security configuration",
                self._security_configuration,
                ("elasticmapreduce:DescribeSecurityConfiguration",),
            ),
        ]

    @property
    def _names(self) -> FoundationNames:
        return foundation_names(self._config, keep_alive=True)

    def _arn(self, service: str, name: str) -> str:
        identity = self._identity()
        return f"arn:{identity.partition}:{service}::{identity.account_id}:{name}"

    def _denied(self, actions: Sequence[str], resource: str) -> frozenset[str] | None:
        """Those we may not do; None where nobody lets us ask."""
        with suppress(CloudError):
            return self._cloud.preflight.denied(actions, resource)
        return None

    def _denied_role(
        self, name: str, actions: Sequence[str], *, with_profile: bool = False
    ) -> frozenset[str] | None:
        denied = self._denied(actions, self._arn("iam", f"role/{name}"))
        if denied is None or not with_profile:
            return denied
        more = self._denied(_MAKE_PROFILE, self._arn("iam", f"instance-profile/{name}"))
        return None if more is None else denied | more

    def _clock_(self) -> Finding:
        return account.clock(self._cloud.preflight.clock_ahead_s())

    def _region(self) -> Finding:
        known = self._cloud.preflight.known_regions()
        return account.region(self._cloud.region, known, self._cloud.account.regions())

    def _bucket(self) -> Finding:
        name = str(self._config.storage.bucket)
        try:
            lies_in = self._cloud.storage.bucket_region(name)
        except AccessDenied as error:
            return account.foreign_bucket(error)
        arn = f"arn:{self._identity().partition}:s3:::{name}"
        denied = self._denied(_MAKE_BUCKET, arn) if lies_in is None else ()
        return account.bucket(name, lies_in, self._cloud.region, denied)

    def _linked_role(self, question: str, role: LinkedRole) -> Finding:
        exists = self._cloud.rights.has_linked_role(role)
        denied = () if exists else self._denied_role(role.path, _MAKE_LINKED_ROLE)
        return account.linked_role(question, role, exists, denied)

    def _spot_role(self) -> Finding:
        if not uses_spot(self._config.cluster):
            return not_asked("Spot role", "no node is asked for on Spot")
        return self._linked_role("Spot role", SPOT_ROLE)

    def _instance_role(self) -> Finding:
        name = self._names.instance_role
        facts = self._cloud.preflight.role(name)
        denied = self._denied_role(name, _MAKE_ROLE, with_profile=True)
        return account.instance_role(name, facts, denied)

    def _service_role(self) -> Finding:
        name = self._names.service_role
        facts = self._cloud.preflight.role(name)
        denied = self._denied_role(name, _MAKE_SERVICE_ROLE)
        return account.service_role(name, facts, self._identity().account_id, denied)

    def _pass_role(self) -> Finding:
        takers = {self._names.service_role: _EMR, self._names.instance_role: _EC2}
        denied = {
            role: self._cloud.preflight.denied(
                ("iam:PassRole",), self._arn("iam", f"role/{role}"), passed_to=taker
            )
            for role, taker in takers.items()
        }
        return account.pass_role(denied)

    def _security_configuration(self) -> Finding:
        name = self._names.security_configuration
        exists = self._cloud.rights.has_security_configuration(name)
        denied = () if exists else self._denied(_MAKE_CONFIGURATION, "*")
        return account.security_configuration(name, exists, denied)

    def _launch(self) -> Finding:
        identity, preflight = self._identity(), self._cloud.preflight
        home = f"{self._cloud.region}:{identity.account_id}"
        one = f"arn:{identity.partition}:elasticmapreduce:{home}:cluster/j-1"
        denied = preflight.denied(_LAUNCH, "*") | preflight.denied(_ON_CLUSTER, one)
        return account.launch_rights(denied)

    def _key_pair(self) -> Finding:
        name, file = self._config.cluster.key_name, self._config.tunnel.key_file
        shown = self._cloud.preflight.key_fingerprint(name) if name else None
        prints = None
        with suppress(FruitsError):
            # What is wrong with the file is told by the question for the file.
            prints = self._load_prints(file) if name and file else None
        return account.key_pair(name, shown, prints)

    def _found(self) -> tuple[SubnetFacts, ...]:
        """The subnets, where there are any: without them there is no network to look at."""
        if not (found := self._subnets()):
            raise _Moot("there is no subnet to look at")
        return found

    def _ask_vpc(self) -> VpcFacts:
        return self._cloud.preflight.vpc(self._found()[0].vpc_id)

    def _subnets_(self) -> Finding:
        nodes = sum(group.count for group in self._groups)
        return network.subnets(self._config.cluster.subnets, self._subnets(), nodes)

    def _routes(self) -> Finding:
        return network.routes(self._found(), self._cloud.region)

    def _tags(self) -> Finding:
        found, vpc = self._found(), self._vpc()
        identity, where = self._identity(), f"{self._cloud.region}:{self._identity().account_id}"
        arn = f"arn:{identity.partition}:ec2:{where}:subnet/{found[0].subnet_id}"
        return network.tags(found, vpc, self._denied(("ec2:CreateTags",), arn))

    def _idle_end(self) -> Finding:
        return network.idle_end(self._vpc(), self._cloud.region)

    def _security_groups(self) -> Finding:
        rules = self._cloud.preflight.open_rules(self._found()[0].vpc_id)
        return account.security_groups(rules, self._cloud.preflight.public_access())

    def _release(self) -> Finding:
        offered = self._cloud.preflight.releases()
        today = self._clock.now().date()
        return capacity.release(self._config.cluster.release_label, offered, today=today)

    def _applications(self) -> Finding:
        label, wanted = self._config.cluster.release_label, self._config.cluster.applications
        return capacity.applications(label, wanted, self._cloud.preflight.applications(label))

    def _types(self) -> Finding:
        label = self._config.cluster.release_label
        supported = self._cloud.preflight.supported_types(label)
        return capacity.types(self._groups, label, supported)

    def _ask_machines(self) -> dict[str, Machine]:
        return self._cloud.account.machines([group.instance_type for group in self._groups])

    def _memory(self) -> Finding:
        return capacity.processors(self._groups, self._machines(), self._config.job)

    def _zones(self) -> Finding:
        types = sorted({group.instance_type for group in self._groups})
        return capacity.zones(self._groups, self._cloud.preflight.zones(types), self._found())

    def _vcpus(self, market: Market) -> Finding:
        quota = self._cloud.account.quota(market)
        machines, region = self._machines(), self._cloud.region
        return capacity.vcpus(self._config.cluster, market, quota, machines, region)

    def _clusters(self) -> Finding:
        living = []
        for cluster in self._cloud.clusters.find_clusters(live=True):
            bill, _ = bill_of(cluster, self._cloud, self._clock)
            age = self._clock.now() - (cluster.created_at or self._clock.now())
            usd = bill.usd if bill else None
            living.append(account.Living(cluster, age.total_seconds() / 60, usd))
        limit_min = lifetime_min(self._config.cluster, transient=False)
        return account.clusters(living, limit_min)


def _unasked(name: str) -> Question:
    return Question(name, lambda: not_asked(name, _NO_BUCKET))
