"""Values that describe a cluster, as wanted and as AWS reports it; all frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fruits_cli.s3uri import S3Uri

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


def rule_note(user: str, machine: str) -> str:
    """The note on the rules that a user of a machine made, as EC2 keeps it."""
    return _NOT_IN_A_NOTE.sub("_", f"fruits tunnel of {user}@{machine}")[:_NOTE_LENGTH]


# EMR names of our clusters begin with it: ListClusters tells names, but no tags.
EMR_NAME_PREFIX = "fruits-"
NAME_TAG, RUN_ID_TAG = "fruits:name", "fruits:run-id"
# On what outlives clusters: roles and key pairs.
TOOL_TAG = "fruits:tool"
LAUNCH_ID_TAG, OWNER_TAG = "fruits:launch-id", "fruits:owner"
# Without it the managed policy AmazonEMRServicePolicy_v2 lets EMR create nothing.
MANAGED_POLICY_TAG = "for-use-with-amazon-emr-managed-policies"


def ssh_group_name(cluster_name: str) -> str:
    """The security group that opens port 22 of a cluster; `*` in place of a name means all."""
    return f"{EMR_NAME_PREFIX}{cluster_name}-ssh"


class ClusterState(StrEnum):
    """EMR's own names. Source: EMR API reference, ClusterStatus."""

    STARTING = "STARTING"
    BOOTSTRAPPING = "BOOTSTRAPPING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    TERMINATED_WITH_ERRORS = "TERMINATED_WITH_ERRORS"

    @property
    def is_final(self) -> bool:
        return self in (ClusterState.TERMINATED, ClusterState.TERMINATED_WITH_ERRORS)

    @property
    def is_live(self) -> bool:
        """Whether the cluster still takes steps, or soon will."""
        return not (self.is_final or self is ClusterState.TERMINATING)

    @property
    def is_ready(self) -> bool:
        return self in (ClusterState.RUNNING, ClusterState.WAITING)


class StepState(StrEnum):
    """EMR's own names. Source: EMR API reference, StepStatus."""

    PENDING = "PENDING"
    CANCEL_PENDING = "CANCEL_PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"

    @property
    def is_final(self) -> bool:
        return self not in (StepState.PENDING, StepState.CANCEL_PENDING, StepState.RUNNING)


class Role(StrEnum):
    """The role of a node."""

    PRIMARY = "primary"
    CORE = "core"
    TASK = "task"


class Market(StrEnum):
    """How a node is paid for."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


class OnFailure(StrEnum):
    """What EMR does when a step fails. Source: EMR API reference, StepConfig."""

    TERMINATE_CLUSTER = "TERMINATE_CLUSTER"
    CONTINUE = "CONTINUE"


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one role and type; Spot nodes fall back to on demand."""

    role: Role
    instance_type: str
    count: int
    market: Market = Market.ON_DEMAND

    @property
    def facts(self) -> dict[str, str | int]:
        """The group for --output json."""
        kind = {"role": self.role.value, "type": self.instance_type}
        return {**kind, "count": self.count, "market": self.market.value}


@dataclass(frozen=True)
class BootstrapAction:
    """A script that every node runs before it joins."""

    name: str
    script: S3Uri
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepSpec:
    """One spark-submit on the cluster."""

    name: str
    args: tuple[str, ...]
    on_failure: OnFailure


@dataclass(frozen=True)
class ClusterSpec:
    """Everything that RunJobFlow needs."""

    emr_name: str
    release_label: str
    applications: tuple[str, ...]
    groups: tuple[NodeGroup, ...]
    subnets: tuple[str, ...]
    log_uri: S3Uri
    service_role: str
    instance_profile: str
    security_configuration: str
    root_volume_gib: int
    # None: the cluster ends after its last step.
    idle_timeout_s: int | None
    tags: Mapping[str, str]
    key_name: str | None = None
    ssh_group_id: str | None = None
    managed_max: int | None = None
    notebook_bucket: str | None = None
    # The interpreter of notebooks and steps; None: the release's own.
    python: str | None = None
    bootstrap: tuple[BootstrapAction, ...] = ()
    step: StepSpec | None = None

    @property
    def keep_alive(self) -> bool:
        return self.idle_timeout_s is not None

    @property
    def launch_id(self) -> str:
        return self.tags[LAUNCH_ID_TAG]


@dataclass(frozen=True)
class ErrorDetail:
    """One entry of a cluster's ErrorDetails."""

    code: str
    message: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """What EMR says of a cluster; times are UTC."""

    cluster_id: str
    emr_name: str
    state: ClusterState
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    ready_at: datetime | None = None
    ended_at: datetime | None = None
    reason_code: str = ""
    reason: str = ""
    errors: tuple[ErrorDetail, ...] = ()
    log_uri: S3Uri | None = None
    zone: str | None = None
    primary_dns: str | None = None
    release_label: str = ""
    arn: str = ""
    key_name: str | None = None
    security_configuration: str = ""
    # A cluster of `fruits run`: it ends after the steps that it was launched with.
    ends_after_steps: bool = False

    @property
    def is_ours(self) -> bool:
        return LAUNCH_ID_TAG in self.tags or NAME_TAG in self.tags

    @property
    def name(self) -> str:
        return self.tags.get(NAME_TAG) or self.emr_name.removeprefix(EMR_NAME_PREFIX)


@dataclass(frozen=True)
class SparkUi:
    """What EMR says of a persistent Spark UI; `state` and `reason` are its own words."""

    ui_id: str
    is_attached: bool
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """What EMR says of a step."""

    step_id: str
    name: str
    state: StepState
    args: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    log_file: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Node:
    """What EMR says of one instance."""

    instance_id: str
    role: Role
    instance_type: str
    market: Market
    created_at: datetime | None
    ended_at: datetime | None = None
