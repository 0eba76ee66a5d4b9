"""Every request to S3 that can name the bucket's owner names our account, and no other does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.handlers
import pytest

from fruits_cli.aws import connect
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.config import AwsConfig
from fruits_cli.s3uri import S3Uri

URI = S3Uri("grapes-and-figs", "fruits/x")


@pytest.fixture
def owners() -> Iterator[list[tuple[str, str | None]]]:
    """Operation and expected owner of each S3 request of sessions made from now on."""
    seen: list[tuple[str, str | None]] = []

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.service_model.service_name == "s3":
            seen.append((model.name, params.get("ExpectedBucketOwner")))

    handler = ("before-parameter-build", record)
    botocore.handlers.BUILTIN_HANDLERS.append(handler)
    yield seen
    botocore.handlers.BUILTIN_HANDLERS.remove(handler)


def test_all_s3_requests_except_create_bucket_name_the_owner(
    aws: Cloud, owners: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    storage: Any = connect(AwsConfig(profile=None, region="eu-west-3")).storage
    file = tmp_path / "file"
    file.write_bytes(b"figs")
    storage.create_bucket(URI.bucket)
    storage.bucket_region(URI.bucket)
    storage.put_file(file, URI)
    storage.put_if_absent(b"", URI)
    storage.fetch_bytes(URI)
    storage.fetch_file(URI, tmp_path / "again")
    storage.stored_sha256(URI)
    list(storage.list_objects(URI))
    list(storage.list_folders(URI))
    storage.delete_object(URI)
    storage._s3.create_multipart_upload(Bucket=URI.bucket, Key=URI.key)
    for upload in list(storage.list_uploads(URI)):
        storage.abort_upload(upload)

    assert {one for one in owners if one[1] != "123456789012"} == {("CreateBucket", None)}
    assert {operation for operation, _ in owners} >= {
        "HeadBucket",
        "PutObject",
        "GetObject",
        "HeadObject",
        "ListObjectsV2",
        "DeleteObject",
        "ListMultipartUploads",
        "ListParts",
        "AbortMultipartUpload",
        "PutPublicAccessBlock",
        "PutBucketEncryption",
        "PutBucketLifecycleConfiguration",
    }


def test_an_empty_owner_means_any_owner(aws: Cloud, owners: list[tuple[str, str | None]]) -> None:
    storage: Any = connect(AwsConfig(profile=None, region="eu-west-3")).storage
    storage.create_bucket(URI.bucket)
    owners.clear()

    storage._s3.head_bucket(Bucket=URI.bucket, ExpectedBucketOwner="")

    assert owners == [("HeadBucket", None)]
