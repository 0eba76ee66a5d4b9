"""The values that rooms hand to each other; all frozen."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fruits_cli.errors import UsageError

_RUN_ID = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Engine(StrEnum):
    """What computes the features on a worker."""

    OPENVINO = "openvino"
    TENSORFLOW = "tensorflow"


class Precision(StrEnum):
    """The number format that the model computes in."""

    F32 = "f32"
    BF16 = "bf16"


class Target(StrEnum):
    """Where the job runs."""

    LOCAL = "local"
    EMR = "emr"


@dataclass(frozen=True)
class S3Uri:
    """`s3://bucket/key`; a prefix is a key that ends in `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, below: str) -> S3Uri:
        return S3Uri(self.bucket, f"{self.key.rstrip('/')}/{below}".lstrip("/"))


def is_bucket_name(text: str) -> bool:
    """Whether S3 allows a bucket of that name. Source: S3 User Guide, bucket naming rules."""
    return _BUCKET.fullmatch(text) is not None


def is_s3_uri(text: str) -> bool:
    """Whether `text` names a place on S3 rather than on disk."""
    return text.startswith(("s3://", "s3a://", "s3n://"))


def parse_s3_uri(text: str) -> S3Uri:
    """The bucket and key of `s3://bucket/key`, s3a:// and s3n:// included (EMR answers with both).

    Raises UsageError where the bucket's name is not one that S3 allows.
    """
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in ("s3", "s3a", "s3n") or not is_bucket_name(bucket):
        raise UsageError(f"{text!r} is not an S3 address.", hint="Write it as s3://bucket/prefix/.")
    return S3Uri(bucket, key)


def new_run_id(now: datetime | None = None) -> str:
    """A sortable id such as 20260823-141502-k3f9: UTC time and four random characters."""
    alphabet = string.ascii_lowercase + string.digits
    suffix = "".join(secrets.choice(alphabet) for _ in range(4))
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{suffix}"


def is_run_id(text: str) -> bool:
    """Whether `text` has the form of a whole run id."""
    return _RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Progress:
    """How far a stage is; `done` and `total` count pictures, `rate` is per second."""

    stage: str
    done: int
    total: int
    rate: float
    # Said after the figures, such as the bytes of an upload.
    note: str = ""


class RunPhase(StrEnum):
    """How far a run, or the launch of a cluster, has come."""

    # Written before AWS is asked: what a crash leaves then can still be found by its launch id.
    PLANNED = "planned"
    LAUNCHED = "launched"
    SUBMITTED = "submitted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RunPhase.DONE, RunPhase.FAILED, RunPhase.CANCELLED)


@dataclass(frozen=True)
class RunRecord:
    """One line of the ledger: what was meant, and how far it came; times are ISO 8601 in UTC.

    A cluster made by create-cluster is a record without `images`. `extra` holds the fields that a
    newer fruits wrote, so that an older one does not lose them.
    """

    run_id: str
    target: Target
    phase: RunPhase = RunPhase.PLANNED
    created_at: str = ""
    updated_at: str = ""
    images: str = ""
    output: str = ""
    folder: str = ""
    region: str = ""
    cluster_name: str = ""
    launch_id: str = ""
    cluster_id: str = ""
    step_id: str = ""
    cluster_ended: bool = False
    job: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
