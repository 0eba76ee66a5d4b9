"""Stand-ins for AWS and for a clock: they implement the Protocols, and do something."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
    EMR_NAME_PREFIX,
    Cluster,
    ClusterSpec,
    ClusterState,
    ErrorDetail,
    Market,
    Node,
    SparkUi,
    Step,
    StepSpec,
    StepState,
)
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.cloud.policies import RoleSpec
from fruits_cli.cloud.prices import table_prices
from fruits_cli.cloud.protocols import Cloud, Fetched, StoredObject
from fruits_cli.errors import AccessDenied, CloudError, ClusterNotFound, FruitsError, Unanswered
from fruits_cli.s3uri import S3Uri

EPOCH = datetime(2026, 8, 23, 14, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now_s)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class FakeStorage:
    """Buckets in a dictionary; `puts` counts what was written."""

    def __init__(self, clock: FakeClock, region: str = "eu-west-3") -> None:
        self._clock, self._region = clock, region
        self.buckets: dict[str, str] = {}
        self.objects: dict[tuple[str, str], tuple[bytes, datetime]] = {}
        self.puts: list[str] = []
        self.uploads: list[StoredObject] = []
        # S3's own time; None: that of the clock.
        self.served_at: datetime | None = None

    def bucket_region(self, bucket: str) -> str | None:
        return self.buckets.get(bucket)

    def create_bucket(self, bucket: str) -> None:
        self.buckets.setdefault(bucket, self._region)

    def finish_bucket(self, bucket: str) -> None:
        assert bucket in self.buckets

    def put_bytes(self, content: bytes, uri: S3Uri, *, sha256: bytes | None = None) -> None:
        if sha256 is not None and hashlib.sha256(content).digest() != sha256:
            raise CloudError("The digest does not fit.")
        if uri.bucket not in self.buckets:
            raise CloudError(f"There is no bucket {uri.bucket}.")
        self.objects[uri.bucket, uri.key] = content, self._clock.now()
        self.puts.append(uri.key)

    def put_file(self, path: Path, uri: S3Uri, *, sha256: bytes | None = None) -> None:
        self.put_bytes(path.read_bytes(), uri, sha256=sha256)

    def put_if_absent(self, content: bytes, uri: S3Uri) -> bool:
        if (uri.bucket, uri.key) in self.objects:
            return False
        self.put_bytes(content, uri)
        return True

    def replace_if_same(self, content: bytes, uri: S3Uri, *, etag: str) -> bool:
        found = self.fetch_bytes(uri)
        if found is None or found.etag != etag:
            return False
        self.put_bytes(content, uri)
        return True

    def fetch_bytes(self, uri: S3Uri) -> Fetched | None:
        found = self.objects.get((uri.bucket, uri.key))
        if found is None:
            return None
        content, modified_at = found
        etag = hashlib.md5(content).hexdigest()
        return Fetched(content, etag, modified_at, self.served_at or self._clock.now())

    def fetch_file(self, uri: S3Uri, path: Path) -> None:
        found = self.fetch_bytes(uri)
        if found is None:
            raise CloudError(f"There is no object {uri}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.content)

    def stored_sha256(self, uri: S3Uri) -> bytes | None:
        found = self.fetch_bytes(uri)
        return hashlib.sha256(found.content).digest() if found else None

    def list_objects(self, below: S3Uri) -> Iterator[StoredObject]:
        for (bucket, key), (content, modified_at) in sorted(self.objects.items()):
            if bucket == below.bucket and key.startswith(below.key):
                yield StoredObject(S3Uri(bucket, key), len(content), modified_at)

    def list_folders(self, below: S3Uri) -> Iterator[S3Uri]:
        names = {
            one.uri.key[len(below.key) :].partition("/")[0]
            for one in self.list_objects(below)
            if "/" in one.uri.key[len(below.key) :]
        }
        for name in sorted(names):
            yield S3Uri(below.bucket, f"{below.key}{name}/")

    def list_uploads(self, below: S3Uri) -> Iterator[StoredObject]:
        return (one for one in list(self.uploads) if one.uri.key.startswith(below.key))

    def abort_upload(self, upload: StoredObject) -> None:
        self.uploads.remove(upload)

    def delete_object(self, uri: S3Uri) -> None:
        self.objects.pop((uri.bucket, uri.key), None)


@dataclass
class _Life:
    """One cluster of the fake: what was asked, and when."""

    cluster_id: str
    spec: ClusterSpec
    started_s: float
    stopped_s: float | None = None
    steps: list[tuple[str, StepSpec, float]] = field(default_factory=list)
    cancelled: dict[str, float] = field(default_factory=dict)


@dataclass
class Script:
    """How the fake's clusters behave."""

    boot_s: float = 120.0
    step_s: float = 60.0
    end_s: float = 30.0
    step_ends: StepState = StepState.COMPLETED
    # The cluster dies while it boots, with this code.
    boot_error: ErrorDetail | None = None
    # So many RunJobFlow or AddJobFlowSteps answers get lost after the act, or before it.
    lost_after: int = 0
    lost_before: int = 0
    refusals: list[CloudError] = field(default_factory=list)
    # So long after its creation a Spark UI is attached, and its address ready.
    spark_ui_s: float = 10.0
    spark_ui_address_s: float = 20.0
    # EMR shows a cluster that was asked to end as it was for so long.
    end_unseen_s: float = 0.0
    # A new cluster is missing from the list for so long.
    unseen_s: float = 0.0
    on_step_end: Callable[[StepSpec], None] = lambda step: None


class FakeClusters:
    """EMR whose clusters boot, work and end as time passes."""

    def __init__(self, clock: FakeClock, script: Script | None = None) -> None:
        self._clock, self.script = clock, script or Script()
        self._lives: dict[str, _Life] = {}
        self._told: set[str] = set()
        self.starts = 0
        self.cancelled: list[str] = []
        self._spark_uis: dict[str, float] = {}

    def start_cluster(self, spec: ClusterSpec) -> str:
        if self.script.refusals:
            raise self.script.refusals.pop(0)
        self._lose("lost_before")
        self.starts += 1
        cluster_id = f"j-{self.starts:04}"
        life = _Life(cluster_id, spec, self._clock.now_s)
        self._lives[cluster_id] = life
        if spec.step:
            self._add(life, spec.step)
        self._lose("lost_after")
        return cluster_id

    def _lose(self, which: str) -> None:
        left = getattr(self.script, which)
        if left:
            setattr(self.script, which, left - 1)
            raise Unanswered("AWS did not answer.")

    def _add(self, life: _Life, step: StepSpec) -> str:
        step_id = f"s-{life.cluster_id[2:]}-{len(life.steps) + 1}"
        life.steps.append((step_id, step, self._clock.now_s))
        return step_id

    def find_clusters(
        self, *, live: bool, emr_name: str | None = None, since: datetime | None = None
    ) -> list[Cluster]:
        found = [
            self.cluster(life.cluster_id)
            for life in self._lives.values()
            if self._clock.now_s - life.started_s >= self.script.unseen_s
        ]
        return [
            one
            for one in found
            if not (live and one.state.is_final)
            and (one.emr_name == emr_name if emr_name else one.emr_name.startswith(EMR_NAME_PREFIX))
            and (since is None or (one.created_at or since) >= since)
        ]

    def cluster(self, cluster_id: str) -> Cluster:
        life = self._life(cluster_id)
        state = self._state(life)
        dead = state is ClusterState.TERMINATED_WITH_ERRORS
        error = self.script.boot_error if dead else None
        return Cluster(
            cluster_id,
            life.spec.emr_name,
            state,
            tags=life.spec.tags,
            created_at=EPOCH + timedelta(seconds=life.started_s),
            ended_at=self._ended_at(life),
            reason=error.message if error else "",
            errors=(error,) if error else (),
            log_uri=life.spec.log_uri,
            zone="eu-west-3a",
            arn=f"arn:aws:elasticmapreduce:eu-west-3:123456789012:cluster/{cluster_id}",
            key_name=life.spec.key_name,
            security_configuration=life.spec.security_configuration,
            ends_after_steps=not life.spec.keep_alive,
        )

    def _life(self, cluster_id: str) -> _Life:
        if cluster_id not in self._lives:
            raise ClusterNotFound(f"EMR does not know {cluster_id}.")
        return self._lives[cluster_id]

    def _state(self, life: _Life) -> ClusterState:
        stopped_s = self._stopped_s(life)
        if stopped_s is not None:
            if self._clock.now_s < stopped_s + self.script.end_s:
                return ClusterState.TERMINATING
            failed = self.script.boot_error is not None
            return ClusterState.TERMINATED_WITH_ERRORS if failed else ClusterState.TERMINATED
        age_s = self._clock.now_s - life.started_s
        if age_s < self.script.boot_s / 2:
            return ClusterState.STARTING
        if age_s < self.script.boot_s:
            return ClusterState.BOOTSTRAPPING
        busy = any(not step.state.is_final for step in self.steps(life.cluster_id))
        return ClusterState.RUNNING if busy else ClusterState.WAITING

    def _stopped_s(self, life: _Life) -> float | None:
        """When the cluster began to end: asked to, after its last step, or while it booted."""
        moments = [] if life.stopped_s is None else [life.stopped_s]
        if self.script.boot_error:
            moments.append(life.started_s + self.script.boot_s)
        if not life.spec.keep_alive:
            ends = [self._step_end_s(life, number) for number in range(len(life.steps))]
            moments.append(max(ends, default=life.started_s + self.script.boot_s))
        first = min(moments, default=None)
        return first if first is not None and first <= self._clock.now_s else None

    def _ended_at(self, life: _Life) -> datetime | None:
        stopped_s = self._stopped_s(life)
        if stopped_s is None or self._clock.now_s < stopped_s + self.script.end_s:
            return None
        return EPOCH + timedelta(seconds=stopped_s + self.script.end_s)

    def _step_end_s(self, life: _Life, number: int) -> float:
        start_s = life.started_s + self.script.boot_s
        for _, (step_id, _, added_s) in zip(range(number + 1), life.steps, strict=False):
            start_s = max(start_s, added_s) + self.script.step_s
            start_s = min(start_s, life.cancelled.get(step_id, start_s))
        return start_s

    def steps(self, cluster_id: str) -> list[Step]:
        life = self._life(cluster_id)
        steps = [self._step(life, number) for number in range(len(life.steps))]
        return steps[::-1]

    def _step(self, life: _Life, number: int) -> Step:
        step_id, spec, _ = life.steps[number]
        end_s, now_s = self._step_end_s(life, number), self._clock.now_s
        start_s = end_s - self.script.step_s
        state = StepState.PENDING
        if step_id in life.cancelled or self._died_before(life, end_s):
            state = StepState.CANCELLED
        elif now_s >= end_s:
            state = self.script.step_ends
            if step_id not in self._told:
                self._told.add(step_id)
                self.script.on_step_end(spec)
        elif now_s >= start_s:
            state = StepState.RUNNING
        started = state in (StepState.RUNNING, self.script.step_ends)
        started_at = EPOCH + timedelta(seconds=start_s) if started else None
        return Step(step_id, spec.name, state, args=spec.args, started_at=started_at)

    def _died_before(self, life: _Life, step_end_s: float) -> bool:
        if self.script.boot_error:
            return self._clock.now_s >= life.started_s + self.script.boot_s
        return life.stopped_s is not None and life.stopped_s < min(step_end_s, self._clock.now_s)

    def step(self, cluster_id: str, step_id: str) -> Step:
        for step in self.steps(cluster_id):
            if step.step_id == step_id:
                return step
        raise CloudError(f"EMR does not know step {step_id}.")

    def add_step(self, cluster_id: str, step: StepSpec) -> str:
        self._lose("lost_before")
        life = self._life(cluster_id)
        if not self._state(life).is_live:
            raise CloudError("A cluster that ends takes no steps.")
        step_id = self._add(life, step)
        self._lose("lost_after")
        return step_id

    def cancel_step(self, cluster_id: str, step_id: str, *, force: bool = False) -> None:
        self.cancelled.append(step_id)
        self._life(cluster_id).cancelled[step_id] = self._clock.now_s

    def stop_cluster(self, cluster_id: str) -> None:
        life = self._life(cluster_id)
        if life.stopped_s is None:
            life.stopped_s = self._clock.now_s + self.script.end_unseen_s

    def create_spark_ui(self, cluster_arn: str) -> str:
        self._life(cluster_arn.rpartition("/")[2])
        ui_id = f"p-{len(self._spark_uis) + 1}"
        self._spark_uis[ui_id] = self._clock.now_s
        return ui_id

    def spark_ui(self, ui_id: str) -> SparkUi:
        attached = self._clock.now_s - self._spark_uis[ui_id] >= self.script.spark_ui_s
        return SparkUi(ui_id, attached, "ATTACHED" if attached else "ATTACHING")

    def spark_ui_address(self, ui_id: str) -> str | None:
        ready = self._clock.now_s - self._spark_uis[ui_id] >= self.script.spark_ui_address_s
        return f"https://{ui_id}.example.org/?secret" if ready else None

    def nodes(self, cluster_id: str) -> list[Node]:
        life = self._life(cluster_id)
        created_at = EPOCH + timedelta(seconds=life.started_s)
        return [
            Node(
                f"i-{group.role}-{number}",
                group.role,
                group.instance_type,
                group.market,
                created_at,
                self._ended_at(life),
            )
            for group in life.spec.groups
            for number in range(group.count)
        ]


@dataclass
class FakeRights:
    """What exists, by name; `stuck` cannot be removed, `hidden` cannot be looked at."""

    made: set[str] = field(default_factory=set)
    roles: dict[str, RoleFacts] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    hidden: set[Foundation] = field(default_factory=set)
    groups: dict[str, str] = field(default_factory=dict)
    # Fingerprints by the pair's name, as EC2 shows them of Ed25519 keys.
    keys: dict[str, str] = field(default_factory=dict)
    # So many times EC2 answers that a group is still in use.
    in_use: int = 0

    def has_linked_role(self, role: LinkedRole) -> bool:
        return role.name in self.made

    def create_linked_role(self, role: LinkedRole) -> None:
        self.made.add(role.name)

    def role(self, spec: RoleSpec) -> RoleFacts | None:
        return self.roles.get(spec.name)

    def make_role(self, spec: RoleSpec) -> None:
        self.made.add(spec.name)
        attached = frozenset({spec.managed_arn} if spec.managed_arn else ())
        profile = (spec.name,) if spec.has_profile else None
        self.roles[spec.name] = RoleFacts(spec.trust, spec.policy, attached, profile)

    def has_security_configuration(self, name: str) -> bool:
        return name in self.made

    def create_security_configuration(
        self, name: str, *, hop_limit: int, kms_key: str | None
    ) -> None:
        self.made.add(name)

    def create_ssh_group(self, name: str, *, vpc_id: str, tags: Mapping[str, str]) -> str:
        return self.groups.setdefault(name, f"sg-{len(self.groups) + 1}")

    def import_key(self, key_name: str, public: bytes) -> bool:
        if key_name in self.keys:
            return False
        blob = base64.b64decode(public.split()[1])
        self.keys[key_name] = base64.b64encode(hashlib.sha256(blob).digest()).decode()
        return True

    def delete_ssh_group(self, name: str) -> bool:
        if name in self.groups and self.in_use:
            self.in_use -= 1
            return False
        self.groups.pop(name, None)
        return True

    def remnants(self, kind: Foundation, names: Sequence[str]) -> list[Remnant]:
        if kind in self.hidden:
            raise AccessDenied(f"AWS does not let you look for a {kind}.")
        if kind is Foundation.SECURITY_GROUP:
            return [Remnant(kind, name) for name in self.groups]
        if kind is Foundation.KEY_PAIR:
            return [Remnant(kind, name) for name in self.keys]
        return [Remnant(kind, name) for name in names if name in self.made]

    def remove(self, remnant: Remnant) -> None:
        if remnant.name in self.stuck:
            raise AccessDenied(f"AWS does not let you remove {remnant.name}.")
        self.made.discard(remnant.name)
        self.roles.pop(remnant.name, None)
        self.groups.pop(remnant.name, None)
        self.keys.pop(remnant.name, None)


@dataclass
class FakeAccount:
    """An account with room for the default cluster."""

    region: str = "eu-west-3"
    quotas: dict[Market, Quota | None] = field(
        default_factory=lambda: {Market.ON_DEMAND: Quota(64, 0), Market.SPOT: Quota(64, 0)}
    )
    untagged: tuple[str, ...] = ("subnet-a", "vpc-1")
    # The regions of the account; None: the one that is asked.
    enabled: tuple[str, ...] | None = None

    def identity(self) -> Identity:
        return Identity("123456789012", "ada")

    def regions(self) -> list[str]:
        return [self.region] if self.enabled is None else list(self.enabled)

    def machines(self, types: Sequence[str]) -> dict[str, Machine]:
        return {one: MACHINES[one] for one in types if one in MACHINES}

    def quota(self, market: Market) -> Quota | None:
        return self.quotas[market]

    def prices(self, types: Sequence[str]) -> PriceBook:
        return table_prices(types, self.region)

    def network(self, subnets: Sequence[str]) -> Network | None:
        return Network("vpc-1", tuple(subnets) or ("subnet-a",), self.untagged)

    def tag_network(self, ids: Sequence[str]) -> None:
        self.untagged = tuple(one for one in self.untagged if one not in ids)


@dataclass
class FakePreflight:
    """An account in which everything is well, and nothing is made yet.

    refusals: what a method raises, by its name.
    """

    refusals: dict[str, FruitsError] = field(default_factory=dict)
    ahead_s: float | None = 0.0
    forbidden: frozenset[str] = frozenset()
    keys: dict[str, str] = field(default_factory=dict)
    networks: tuple[SubnetFacts, ...] = (
        SubnetFacts("subnet-a", "vpc-1", "eu-west-3a", 4091, has_internet=True),
    )
    dns: VpcFacts = field(
        default_factory=lambda: VpcFacts("vpc-1", has_dns_support=True, has_dns_hostnames=True)
    )
    groups: tuple[GroupFacts, ...] = ()
    access: PublicAccess = field(default_factory=lambda: PublicAccess(True, ((22, 22),)))
    asked: list[str] = field(default_factory=list)

    def _meet(self, method: str) -> None:
        self.asked.append(method)
        if method in self.refusals:
            raise self.refusals[method]

    def known_regions(self) -> frozenset[str]:
        return frozenset({"eu-west-3", "us-east-1"})

    def clock_ahead_s(self) -> float | None:
        self._meet("clock_ahead_s")
        return self.ahead_s

    def denied(
        self, actions: Sequence[str], resource: str, *, passed_to: str = ""
    ) -> frozenset[str]:
        self._meet("denied")
        return self.forbidden & set(actions)

    def key_fingerprint(self, key_name: str) -> str | None:
        self._meet("key_fingerprint")
        return self.keys.get(key_name)

    def subnets(self, ids: Sequence[str]) -> tuple[SubnetFacts, ...]:
        self._meet("subnets")
        return tuple(one for one in self.networks if not ids or one.subnet_id in ids)

    def vpc(self, vpc_id: str) -> VpcFacts:
        self._meet("vpc")
        return self.dns

    def security_groups(self, vpc_id: str) -> tuple[GroupFacts, ...]:
        self._meet("security_groups")
        return self.groups

    def public_access(self) -> PublicAccess:
        self._meet("public_access")
        return self.access

    def releases(self) -> tuple[str, ...]:
        self._meet("releases")
        return ("emr-7.14.0", "emr-7.5.0", "emr-6.15.0")

    def applications(self, release_label: str) -> frozenset[str]:
        self._meet("applications")
        return frozenset({"Hadoop", "Spark", "Livy", "JupyterHub", "TensorFlow"})

    def supported_types(self, release_label: str) -> frozenset[str]:
        self._meet("supported_types")
        return frozenset(MACHINES)

    def zones(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self._meet("zones")
        here = frozenset({"eu-west-3a", "eu-west-3b"})
        return {one: here if one in MACHINES else frozenset() for one in types}


@dataclass
class FakeAws:
    """The five doors with their insides in reach; `cloud` is what the code is given."""

    clock: FakeClock = field(default_factory=FakeClock)
    script: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        self.storage = FakeStorage(self.clock)
        self.clusters = FakeClusters(self.clock, self.script)
        self.rights, self.account = FakeRights(), FakeAccount()
        self.preflight = FakePreflight(keys=self.rights.keys)

    @property
    def cloud(self) -> Cloud:
        return Cloud(self.storage, self.clusters, self.rights, self.account, self.preflight)

    def live_clusters(self) -> list[str]:
        """Names of the clusters that cost money now."""
        return [one.emr_name for one in self.clusters.find_clusters(live=True)]
