"""The state that moto lacks: clusters, fleets, nodes and steps."""

from __future__ import annotations

import secrets
import string
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from fruits_cli.rehearsal.wire import Refused

ACCOUNT = "123456789012"
FINAL_STEPS = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")
FINAL_CLUSTERS = ("TERMINATED", "TERMINATED_WITH_ERRORS")


def new_id(prefix: str, length: int = 13) -> str:
    """An id such as j-2AXXXXXXGAPLF."""
    return prefix + "".join(
        secrets.choice(string.ascii_uppercase + string.digits) for _ in range(length)
    )


@dataclass
class Timeline:
    """Seconds since 1970; None while it has not happened."""

    created: float = field(default_factory=time.time)
    ready: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Ending:
    """Why a cluster ends, as ClusterStateChangeReason and ErrorDetails say it."""

    code: str
    message: str
    with_errors: bool = False
    error_code: str = ""
    error_data: tuple[dict[str, str], ...] = ()

    @property
    def details(self) -> list[dict[str, Any]]:
        if not self.error_code:
            return []
        return [
            {
                "ErrorCode": self.error_code,
                "ErrorData": list(self.error_data),
                "ErrorMessage": self.message,
            }
        ]


class ClusterEnds(Exception):
    """Raised where a cluster cannot go on; `ending` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


@dataclass
class Node:
    """One instance of a cluster."""

    instance_id: str
    fleet_id: str
    role: str
    market: str
    instance_type: str
    private_dns: str = ""
    private_ip: str = ""
    public_dns: str = ""
    public_ip: str = ""
    volumes: tuple[dict[str, str], ...] = ()
    state: str = "PROVISIONING"
    reason: dict[str, str] = field(default_factory=dict)
    node_id: str = field(default_factory=lambda: new_id("ci-"))
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def is_gone(self) -> bool:
        return self.state == "TERMINATED"


@dataclass
class Fleet:
    """An instance fleet."""

    role: str
    request: dict[str, Any]
    fleet_id: str = field(default_factory=lambda: new_id("if-"))


@dataclass
class Step:
    """One step; `failure` is FailureDetails."""

    name: str
    action_on_failure: str
    jar: str
    args: tuple[str, ...]
    main_class: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    state: str = "PENDING"
    message: str = ""
    failure: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    application_id: str = ""
    # SEND_INTERRUPT or TERMINATE_PROCESS once CancelSteps asked for the end of a running step.
    cancellation: str = ""
    step_id: str = field(default_factory=lambda: new_id("s-"))

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STEPS


@dataclass
class Cluster:
    """One cluster; `changed` guards every member and wakes the thread that runs it."""

    region: str
    request: dict[str, Any]
    applications: list[dict[str, str]]
    keep_alive: bool
    tags: dict[str, str]
    fleets: list[Fleet]
    steps: list[Step]
    cluster_id: str = field(default_factory=lambda: new_id("j-"))
    state: str = "STARTING"
    ending: Ending | None = None
    timeline: Timeline = field(default_factory=Timeline)
    nodes: list[Node] = field(default_factory=list)
    auto_termination: dict[str, Any] = field(default_factory=dict)
    subnet_id: str = ""
    zone: str = ""
    security_groups: dict[str, str] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def arn(self) -> str:
        return f"arn:aws:elasticmapreduce:{self.region}:{ACCOUNT}:cluster/{self.cluster_id}"

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_CLUSTERS

    @property
    def primary(self) -> Node | None:
        return next((node for node in self.nodes if node.role == "MASTER"), None)

    def live_nodes(self) -> list[Node]:
        return [node for node in self.nodes if not node.is_gone]


@dataclass
class AppUi:
    """A persistent application UI. Source: EMR API reference, PersistentAppUI."""

    target_arn: str
    tags: list[dict[str, str]]
    created: float = field(default_factory=time.time)
    ui_id: str = field(default_factory=lambda: new_id("p-", 16).lower())


@dataclass
class Region:
    """All EMR state of one region."""

    name: str
    clusters: dict[str, Cluster] = field(default_factory=dict)
    security_configurations: dict[str, dict[str, Any]] = field(default_factory=dict)
    app_uis: dict[str, AppUi] = field(default_factory=dict)
    created: float = field(default_factory=time.time)


def find_cluster(region: Region, cluster_id: str) -> Cluster:
    """The cluster of that id. Raises Refused as EMR does."""
    if cluster_id not in region.clusters:
        raise Refused("InvalidRequestException", f"Cluster id '{cluster_id}' is not valid.")
    return region.clusters[cluster_id]


class World:
    """The regions, made when first used."""

    def __init__(self) -> None:
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def region(self, name: str) -> Region:
        with self._lock:
            return self._regions.setdefault(name, Region(name))

    def clusters(self) -> list[Cluster]:
        with self._lock:
            return [c for region in self._regions.values() for c in region.clusters.values()]
