"""Addresses on S3."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fruits_cli.errors import UsageError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_PREFIX = re.compile(r"([A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*)?")


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


def checked_bucket(bucket: str) -> str | None:
    """The configured bucket, None for an empty one. Raises ValueError for a name that is none."""
    if bucket and not is_bucket_name(bucket):
        raise ValueError(
            "must be a valid bucket name: 3 to 63 small letters, digits, dots and hyphens"
        )
    return bucket or None


def checked_prefix(prefix: str) -> str:
    """The configured prefix. Raises ValueError for what is no folder, or several."""
    # It becomes part of addresses, and of an IAM policy, where * and ? stand for anything.
    if not _PREFIX.fullmatch(prefix.strip("/")) or {".", ".."} & {*prefix.split("/")}:
        raise ValueError("may have letters, digits, dots, dashes, underscores and single slashes")
    return prefix


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
