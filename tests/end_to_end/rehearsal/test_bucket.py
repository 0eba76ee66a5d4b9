from __future__ import annotations

import base64
import hashlib
import threading

import pyarrow.fs
import pytest
from botocore.exceptions import ClientError


def test_a_wrong_sha256_is_refused_and_nothing_is_stored(aws, refusal):
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

    code, _ = refusal(
        lambda: aws.s3.put_object(
            Bucket=aws.bucket, Key="wrong", Body=b"body", ChecksumSHA256=wrong
        )
    )

    assert code == "BadDigest"
    assert aws.keys("wrong") == []


def test_a_bucket_of_another_owner_than_expected_is_refused(aws, refusal):
    aws.put("mine", b"figs")

    code, _ = refusal(
        lambda: aws.s3.get_object(Bucket=aws.bucket, Key="mine", ExpectedBucketOwner="999999999999")
    )
    head, _ = refusal(
        lambda: aws.s3.head_bucket(Bucket=aws.bucket, ExpectedBucketOwner="999999999999")
    )

    assert (code, head) == ("AccessDenied", "403")
    assert aws.s3.get_object(Bucket=aws.bucket, Key="mine", ExpectedBucketOwner="123456789012")


def test_a_right_sha256_is_kept_and_shown(aws):
    right = base64.b64encode(hashlib.sha256(b"body").digest()).decode()

    aws.s3.put_object(Bucket=aws.bucket, Key="right", Body=b"body", ChecksumSHA256=right)
    head = aws.s3.head_object(Bucket=aws.bucket, Key="right", ChecksumMode="ENABLED")

    assert head["ChecksumSHA256"] == right


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1"])
def test_other_wrong_checksums_are_refused_too(aws, refusal, algorithm):
    length = 20 if algorithm == "SHA1" else 4
    stated = {f"Checksum{algorithm}": base64.b64encode(bytes(length)).decode()}

    code, _ = refusal(
        lambda: aws.s3.put_object(Bucket=aws.bucket, Key="wrong", Body=b"body", **stated)
    )

    assert code == "BadDigest"


@pytest.mark.parametrize(("algorithm", "length"), [("CRC32C", 4), ("CRC64NVME", 8)])
def test_checksums_that_python_lacks_are_kept_as_stated(aws, algorithm, length):
    stated = {f"Checksum{algorithm}": base64.b64encode(bytes(length)).decode()}

    aws.s3.put_object(Bucket=aws.bucket, Key="stated", Body=b"body", **stated)
    head = aws.s3.head_object(Bucket=aws.bucket, Key="stated", ChecksumMode="ENABLED")

    assert stated.items() <= head.items()


def test_of_many_conditional_puts_at_once_one_wins(aws):
    outcomes, ready = [], threading.Barrier(8)

    def put(number):
        client = aws.client("s3")
        ready.wait()
        try:
            client.put_object(
                Bucket=aws.bucket, Key="lock", Body=str(number).encode(), IfNoneMatch="*"
            )
            outcomes.append("won")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["PreconditionFailed"] * 7 + ["won"]


def test_a_bucket_of_another_region_is_elsewhere(aws):
    aws.client("s3", "us-east-1").create_bucket(Bucket=f"{aws.bucket}-us")
    here = aws.client("s3", "eu-west-3")
    regions = []
    here.meta.events.register(
        "before-parse.s3.HeadBucket",
        lambda response_dict, **_: regions.append(
            (response_dict["status_code"], response_dict["headers"]["x-amz-bucket-region"])
        ),
    )

    # botocore follows the redirection, as it does with Amazon's.
    here.head_bucket(Bucket=f"{aws.bucket}-us")

    assert regions == [(301, "us-east-1"), (200, "us-east-1")]
    assert here.get_bucket_location(Bucket=f"{aws.bucket}-us")["LocationConstraint"] is None


def test_pyarrow_writes_and_reads_several_parts(aws):
    environ = aws.rehearsal.environ
    s3 = pyarrow.fs.S3FileSystem(
        access_key=environ["AWS_ACCESS_KEY_ID"],
        secret_key=environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=aws.rehearsal.endpoint,
        region="eu-west-3",
    )
    content = bytes(range(256)) * 60_000

    with s3.open_output_stream(f"{aws.bucket}/big.bin") as stream:
        stream.write(content)
    with s3.open_input_stream(f"{aws.bucket}/big.bin") as stream:
        read = stream.read()

    assert read == content


def test_boto3_uploads_several_parts(aws, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 60_000)

    aws.s3.upload_file(str(path), aws.bucket, "parts.bin")

    assert aws.s3.head_object(Bucket=aws.bucket, Key="parts.bin")["ContentLength"] == 15_360_000
