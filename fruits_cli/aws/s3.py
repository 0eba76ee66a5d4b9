"""Objects and buckets on S3."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.aws import arguments as payloads
from fruits_cli.aws.clients import Clients, Service
from fruits_cli.aws.errors import asking, code_of, found
from fruits_cli.cloud.protocols import Fetched, StoredObject
from fruits_cli.errors import AccessDenied, CloudError
from fruits_cli.files import MOST_DOCUMENT_BYTES, replacing
from fruits_cli.s3uri import S3Uri

_ABSENT = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
# 409: another conditional write to the same key is under way.
_LOST_RACE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_DENIED = frozenset({"AccessDenied", "403"})
_PIECE_BYTES = 1 << 20
# Of a new bucket: nothing in it can become public, and S3 encrypts it by itself.
_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_ENCRYPTION = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}


class AwsStorage(Service):
    """S3 as `cloud.Storage` asks for it."""

    def __init__(self, clients: Clients, region: str) -> None:
        super().__init__(clients)
        self._region = region

    def bucket_region(self, bucket: str) -> str | None:
        """The bucket's region, None where there is no such bucket.

        Raises AccessDenied where it belongs to somebody else.
        """
        with asking(f"look at bucket {bucket}"):
            try:
                answer = self._s3.head_bucket(Bucket=bucket)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                answer = self._listed_instead(bucket, error)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region", self._region))

    def _listed_instead(self, bucket: str, refusal: ClientError) -> Any:
        """The answer of a listing instead: HEAD has no body with the reason of a refusal."""
        try:
            return self._s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
        except ClientError as error:
            if code_of(error) not in _DENIED:
                raise
            raise self._denied(bucket) from refusal

    def _denied(self, bucket: str) -> AccessDenied:
        try:
            # Without an owner: a bucket that only then lets us in is another account's.
            self._s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="")
        except ClientError:
            return AccessDenied(
                f"Bucket {bucket} exists, and you may not use it.",
                hint="Another account may own the name (choose another --bucket), or the "
                "right s3:ListBucket is missing.",
            )
        return AccessDenied(
            f"Bucket {bucket} belongs to another account; fruits uses none but your own.",
            hint="Give another --bucket, or the --profile of the account that owns it.",
        )

    def create_bucket(self, bucket: str) -> None:
        """Make a private bucket in our region, encrypted by S3; one of our own may exist."""
        with asking(f"create bucket {bucket}"):
            try:
                self._s3.create_bucket(**payloads.create_bucket_payload(bucket, self._region))
            except ClientError as error:
                if code_of(error) == "BucketAlreadyExists":
                    raise CloudError(
                        f"The bucket name {bucket} is taken by another account.",
                        hint="Bucket names are shared by all of AWS: choose another --bucket.",
                    ) from error
                if code_of(error) != "BucketAlreadyOwnedByYou":
                    raise
            else:
                # Never on an existing bucket: the request replaces all of its rules.
                self._expire_unfinished_uploads(bucket)
            self._s3.put_public_access_block(
                Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(_BLOCKED, True)
            )
            self._s3.put_bucket_encryption(
                Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [_ENCRYPTION]}
            )

    def finish_bucket(self, bucket: str) -> None:
        """Give an empty bucket without rules what `create_bucket` would have given it.

        Whoever made it may have been killed before; a bucket that holds anything is left alone.
        """
        with suppress(AccessDenied), asking(f"look at bucket {bucket}"):
            is_empty = not self._s3.list_objects_v2(Bucket=bucket, MaxKeys=1).get("KeyCount")
            if is_empty and not self._has_rules(bucket):
                self._expire_unfinished_uploads(bucket)

    def _has_rules(self, bucket: str) -> bool:
        rules = found(
            lambda: self._s3.get_bucket_lifecycle_configuration(Bucket=bucket),
            "NoSuchLifecycleConfiguration",
        )
        return rules is not None

    def _expire_unfinished_uploads(self, bucket: str) -> None:
        """Optional: the parts of a killed upload cost money, and no listing shows them."""
        with suppress(AccessDenied), asking(f"set the lifecycle of {bucket}"):
            self._s3.put_bucket_lifecycle_configuration(**payloads.lifecycle_payload(bucket))

    def put_bytes(self, content: bytes, uri: S3Uri, *, sha256: bytes | None = None) -> None:
        with asking(f"write {uri}"):
            self._s3.put_object(Body=content, **payloads.put_object_payload(uri, sha256=sha256))

    def put_file(self, path: Path, uri: S3Uri, *, sha256: bytes | None = None) -> None:
        with path.open("rb") as stream, asking(f"write {uri}"):
            self._s3.put_object(Body=stream, **payloads.put_object_payload(uri, sha256=sha256))

    def put_if_absent(self, content: bytes, uri: S3Uri) -> bool:
        return self._put_if(content, payloads.put_object_payload(uri, if_absent=True), uri)

    def replace_if_same(self, content: bytes, uri: S3Uri, *, etag: str) -> bool:
        return self._put_if(content, payloads.put_object_payload(uri, if_etag=etag), uri)

    def _put_if(self, content: bytes, payload: dict[str, Any], uri: S3Uri) -> bool:
        with asking(f"write {uri}"):
            try:
                self._s3.put_object(Body=content, **payload)
            except ClientError as error:
                if code_of(error) in _LOST_RACE | _ABSENT:
                    return False
                raise
        return True

    def fetch_bytes(self, uri: S3Uri) -> Fetched | None:
        with asking(f"read {uri}"):
            answer = found(lambda: self._s3.get_object(Bucket=uri.bucket, Key=uri.key), *_ABSENT)
            if answer is None:
                return None
            modified_at = answer["LastModified"]
            date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            served_at = parsedate_to_datetime(date) if date else modified_at
            content = _document(answer["Body"], uri)
            return Fetched(content, answer["ETag"], modified_at, served_at)

    def fetch_file(self, uri: S3Uri, path: Path) -> None:
        """Write the object to `path`, which appears whole or not at all."""
        with asking(f"read {uri}"), replacing(path) as scratch:
            body = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"]
            with scratch.open("wb") as stream:
                for piece in body.iter_chunks(_PIECE_BYTES):
                    stream.write(piece)

    def stored_sha256(self, uri: S3Uri) -> bytes | None:
        """The digest that S3 checked when the object was written; None where it keeps none."""
        with asking(f"look at {uri}"):
            answer = found(
                lambda: self._s3.head_object(
                    Bucket=uri.bucket, Key=uri.key, ChecksumMode="ENABLED"
                ),
                *_ABSENT,
            )
        checksum = answer and answer.get("ChecksumSHA256")
        return base64.b64decode(checksum) if checksum else None

    def list_objects(self, below: S3Uri) -> Iterator[StoredObject]:
        pages = self._s3.get_paginator("list_objects_v2")
        with asking(f"list {below}"):
            for page in pages.paginate(Bucket=below.bucket, Prefix=below.key):
                for entry in page.get("Contents", ()):
                    yield StoredObject(
                        S3Uri(below.bucket, entry["Key"]), entry["Size"], entry["LastModified"]
                    )

    def list_folders(self, below: S3Uri) -> Iterator[S3Uri]:
        """The folders directly below; none where there is no bucket yet."""
        pages = self._s3.get_paginator("list_objects_v2")
        with asking(f"list {below}"):
            try:
                for page in pages.paginate(Bucket=below.bucket, Prefix=below.key, Delimiter="/"):
                    for folder in page.get("CommonPrefixes", ()):
                        yield S3Uri(below.bucket, folder["Prefix"])
            except ClientError as error:
                if code_of(error) != "NoSuchBucket":
                    raise

    def delete_object(self, uri: S3Uri) -> None:
        with asking(f"delete {uri}"):
            self._s3.delete_object(Bucket=uri.bucket, Key=uri.key)

    def list_uploads(self, below: S3Uri) -> Iterator[StoredObject]:
        pages = self._s3.get_paginator("list_multipart_uploads")
        with asking(f"list the unfinished uploads of {below}"):
            for page in pages.paginate(Bucket=below.bucket, Prefix=below.key):
                for upload in page.get("Uploads", ()):
                    uri, upload_id = S3Uri(below.bucket, upload["Key"]), upload["UploadId"]
                    size = self._size_of_parts(uri, upload_id)
                    yield StoredObject(uri, size, upload["Initiated"], upload_id)

    def _size_of_parts(self, uri: S3Uri, upload_id: str) -> int:
        pages = self._s3.get_paginator("list_parts")
        parts = pages.paginate(Bucket=uri.bucket, Key=uri.key, UploadId=upload_id).search("Parts")
        return sum(part["Size"] for part in parts if part)

    def abort_upload(self, upload: StoredObject) -> None:
        uri = upload.uri
        with asking(f"abort the upload of {uri}"):
            self._s3.abort_multipart_upload(
                Bucket=uri.bucket, Key=uri.key, UploadId=upload.upload_id
            )


def _document(body: Any, uri: S3Uri) -> bytes:
    """What S3 answers, piece by piece. Raises CloudError before it fills the memory."""
    content = bytearray()
    for piece in body.iter_chunks(_PIECE_BYTES):
        content += piece
        if len(content) > MOST_DOCUMENT_BYTES:
            body.close()
            raise CloudError(
                f"{uri} has more than {MOST_DOCUMENT_BYTES >> 20} MiB: fruits did not write it.",
                hint="Remove it, or move it away.",
            )
    return bytes(content)
