"""Protocols of the AWS services and of the clock that fruits uses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from fruits_cli.cloud.account import (
    Foundation,
    GroupFacts,
    Identity,
    LinkedRole,
    Machine,
    Network,
    PriceBook,
    PublicAccess,
    Quota,
    Remnant,
    RoleFacts,
    SubnetFacts,
    VpcFacts,
)
from fruits_cli.cloud.clusters import (
    Cluster,
    ClusterSpec,
    Market,
    Node,
    Primary,
    SparkUi,
    SshRule,
    Step,
    StepSpec,
)
from fruits_cli.cloud.policies import RoleSpec
from fruits_cli.s3uri import S3Uri


class Preflight(Protocol):
    """The account before a launch. Every method may raise CloudError; none changes anything."""

    # Known to this installation; nobody is asked.
    def known_regions(self) -> frozenset[str]: ...
    # Seconds that this machine's clock is before AWS's; None where AWS does not tell the time.
    def clock_ahead_s(self) -> float | None: ...
    # Those of the actions that the caller's policies do not allow on the resource.
    def denied(
        self, actions: Sequence[str], resource: str, *, passed_to: str = ""
    ) -> frozenset[str]: ...
    # The fingerprint as EC2 shows it; None where there is no such pair.
    def key_fingerprint(self, key_name: str) -> str | None: ...
    # Those of the ids that exist; without ids the subnets of the default VPC.
    def subnets(self, ids: Sequence[str]) -> tuple[SubnetFacts, ...]: ...
    def vpc(self, vpc_id: str) -> VpcFacts: ...
    # Those of fruits and of EMR.
    def security_groups(self, vpc_id: str) -> tuple[GroupFacts, ...]: ...
    def public_access(self) -> PublicAccess: ...
    # The releases of the region, the newest first.
    def releases(self) -> tuple[str, ...]: ...
    def applications(self, release_label: str) -> frozenset[str]: ...
    def supported_types(self, release_label: str) -> frozenset[str]: ...
    # Instance type to the zones of the region that offer it.
    def zones(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]: ...


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

    def public_key(self) -> str:
        """The public half of the cluster's key pair, as in authorized_keys; empty without one."""

    def ssh_rules(self) -> Sequence[SshRule]:
        """The rules for port 22 in the cluster's own security group."""

    def add_ssh_rule(self, rule: SshRule) -> None: ...

    def remove_ssh_rule(self, rule: SshRule) -> None: ...

    def own_addresses(self) -> Sequence[str]:
        """The public addresses of this machine, IPv4 and IPv6; empty where nobody tells."""


class Clock(Protocol):
    """Time as an argument, so that waiting can be tested."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing; with `upload_id` the parts of an upload that was not finished."""

    uri: S3Uri
    size: int
    modified_at: datetime
    upload_id: str = ""


@dataclass(frozen=True)
class Fetched:
    """An object's content, with what a conditional write and a lock's age need.

    served_at: S3's own time of the answer, for our clock may be wrong by hours.
    """

    content: bytes
    etag: str
    modified_at: datetime
    served_at: datetime


class Storage(Protocol):
    """Objects in buckets."""

    def bucket_region(self, bucket: str) -> str | None: ...
    def create_bucket(self, bucket: str) -> None: ...
    # Complete one whose maker was killed before it was done.
    def finish_bucket(self, bucket: str) -> None: ...
    def put_bytes(self, content: bytes, uri: S3Uri, *, sha256: bytes | None = None) -> None: ...
    def put_file(self, path: Path, uri: S3Uri, *, sha256: bytes | None = None) -> None: ...
    # False where the object exists already, or has another etag by now.
    def put_if_absent(self, content: bytes, uri: S3Uri) -> bool: ...
    def replace_if_same(self, content: bytes, uri: S3Uri, *, etag: str) -> bool: ...
    def fetch_bytes(self, uri: S3Uri) -> Fetched | None: ...
    def fetch_file(self, uri: S3Uri, path: Path) -> None: ...
    # The digest that was checked at writing; None where none is kept.
    def stored_sha256(self, uri: S3Uri) -> bytes | None: ...
    def list_objects(self, below: S3Uri) -> Iterator[StoredObject]: ...
    def list_folders(self, below: S3Uri) -> Iterator[S3Uri]: ...
    def delete_object(self, uri: S3Uri) -> None: ...
    # Unfinished ones, which no listing of objects shows, and which cost as much.
    def list_uploads(self, below: S3Uri) -> Iterator[StoredObject]: ...
    def abort_upload(self, upload: StoredObject) -> None: ...


class Clusters(Protocol):
    """EMR clusters and their steps."""

    def start_cluster(self, spec: ClusterSpec) -> str: ...
    # Those whose EMR name has our form, with their tags; all states unless `live`.
    def find_clusters(
        self, *, live: bool, emr_name: str | None = None, since: datetime | None = None
    ) -> list[Cluster]: ...
    def cluster(self, cluster_id: str) -> Cluster: ...
    def nodes(self, cluster_id: str) -> list[Node]: ...
    def steps(self, cluster_id: str) -> list[Step]: ...
    def step(self, cluster_id: str, step_id: str) -> Step: ...
    def add_step(self, cluster_id: str, step: StepSpec) -> str: ...
    def cancel_step(self, cluster_id: str, step_id: str, *, force: bool = False) -> None: ...
    def stop_cluster(self, cluster_id: str) -> None: ...
    # The Spark UI that EMR keeps outside of the cluster, also after the cluster's end.
    def create_spark_ui(self, cluster_arn: str) -> str: ...
    def spark_ui(self, ui_id: str) -> SparkUi: ...
    # None until it is ready. Who has the address needs no other key: it is a secret.
    def spark_ui_address(self, ui_id: str) -> str | None: ...


class Rights(Protocol):
    """Roles, security configurations, groups and key pairs; making one that exists is no error."""

    def has_linked_role(self, role: LinkedRole) -> bool: ...
    def create_linked_role(self, role: LinkedRole) -> None: ...
    def role(self, spec: RoleSpec) -> RoleFacts | None: ...
    # Made, or brought up to date; ConfigError where the name is somebody else's.
    def make_role(self, spec: RoleSpec) -> None: ...
    def has_security_configuration(self, name: str) -> bool: ...
    def create_security_configuration(
        self, name: str, *, hop_limit: int, kms_key: str | None
    ) -> None: ...
    # False where a pair of that name exists; which key it holds is for the preflight to tell.
    def import_key(self, key_name: str, public: bytes) -> bool: ...
    # ConfigError where the name is somebody else's.
    def create_ssh_group(self, name: str, *, vpc_id: str, tags: Mapping[str, str]) -> str: ...
    # False while an instance still uses the group; True once it is gone, or never was.
    def delete_ssh_group(self, name: str) -> bool: ...
    # Of these names only what carries our tags; key pairs and groups are found by the tags alone.
    def remnants(self, kind: Foundation, names: Sequence[str]) -> list[Remnant]: ...
    # One that is gone already is no error.
    def remove(self, remnant: Remnant) -> None: ...


class Account(Protocol):
    """What the account may do, and what it costs."""

    @property
    def region(self) -> str: ...
    def identity(self) -> Identity: ...
    def regions(self) -> list[str]: ...
    def machines(self, types: Sequence[str]) -> dict[str, Machine]: ...
    # None where it may not be asked.
    def quota(self, market: Market) -> Quota | None: ...
    # Prices that AWS does not tell come from the built-in table, and `source` says so.
    def prices(self, types: Sequence[str]) -> PriceBook: ...
    # The given subnets, else those of the default VPC; None where there are none.
    def network(self, subnets: Sequence[str]) -> Network | None: ...
    def tag_network(self, ids: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Cloud:
    """The AWS services that fruits uses; tests pass fakes."""

    storage: Storage
    clusters: Clusters
    rights: Rights
    account: Account
    preflight: Preflight

    @property
    def region(self) -> str:
        return self.account.region
