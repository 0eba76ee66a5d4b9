import json
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.on_moto import Fruits
from tests.support.scenes import pictures

BUCKET = ("--bucket", "grapes-and-figs")


def test_upload_makes_a_private_bucket_and_prints_where_the_dataset_is(
    fruits: Fruits, tmp_path: Path
) -> None:
    pictures(tmp_path / "Test")

    result = fruits("upload", "Test", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == "s3://grapes-and-figs/fruits/datasets/Test/"
    s3 = boto3.client("s3")
    assert all(
        s3.get_public_access_block(Bucket=BUCKET[1])["PublicAccessBlockConfiguration"].values()
    )
    (rule,) = s3.get_bucket_encryption(Bucket=BUCKET[1])["ServerSideEncryptionConfiguration"][
        "Rules"
    ]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET[1])["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_uploading_again_sends_nothing_and_json_says_so(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")
    fruits("upload", "Test", *BUCKET, "--yes")

    result = fruits("upload", "Test", *BUCKET, "--output", "json")

    facts = json.loads(result.stdout)
    assert facts["files_sent"] == 0
    assert facts["pictures"] == 6


def test_raw_keeps_one_object_a_picture(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")

    result = fruits("upload", "Test", *BUCKET, "--yes", "--raw")

    assert result.exit_code == 0, result.stderr
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET[1])["Contents"]
    assert "fruits/images/Test/fig/1.png" in [one["Key"] for one in listed]


def test_a_bucket_is_not_made_without_consent(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")

    result = fruits("upload", "Test", *BUCKET)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Bucket grapes-and-figs does not exist" in result.stderr
    assert "Hint: Give --yes." in result.stderr


def test_a_bucket_in_another_region_is_refused(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET[1])

    result = fruits("upload", "Test", *BUCKET)

    assert result.exit_code == 1
    assert "lies in us-east-1" in result.stderr


def test_a_folder_that_is_not_there_is_exit_2(fruits: Fruits) -> None:
    result = fruits("upload", "Test", *BUCKET)

    assert result.exit_code == 2
    assert result.stderr == "Error: The images folder Test does not exist.\n"


def test_without_a_bucket_the_way_to_one_is_named(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")

    result = fruits("upload", "Test")

    assert result.exit_code == 2
    assert "No bucket is configured." in result.stderr
    assert "--bucket NAME" in result.stderr


def test_a_dry_run_sends_nothing_and_makes_no_bucket(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")

    result = fruits("upload", "Test", *BUCKET, "--dry-run")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Would send ")
    assert "s3://grapes-and-figs/fruits/datasets/Test/" in result.stdout
    assert boto3.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize("flags", [(), ("--raw",)], ids=["packed", "raw"])
def test_an_empty_folder_is_refused_before_a_bucket_is_made(
    fruits: Fruits, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "Test").mkdir()

    result = fruits("upload", "Test", *BUCKET, *flags, "--yes")

    assert result.exit_code == 2
    assert "There are no pictures in" in result.stderr
    assert boto3.client("s3").list_buckets()["Buckets"] == []


@pytest.fixture
def bare() -> None:
    """A bucket as whoever was killed right after CreateBucket leaves it."""
    place = {"LocationConstraint": "eu-west-3"}
    s3 = boto3.client("s3", region_name="eu-west-3")
    s3.create_bucket(Bucket=BUCKET[1], CreateBucketConfiguration=place)


def test_a_bucket_whose_maker_was_killed_gets_its_rule_from_the_next_command(
    fruits: Fruits, tmp_path: Path, bare: None
) -> None:
    pictures(tmp_path / "Test")

    result = fruits("upload", "Test", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    (rule,) = boto3.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET[1])["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_a_bucket_that_holds_anything_gets_no_rule(
    fruits: Fruits, tmp_path: Path, bare: None
) -> None:
    pictures(tmp_path / "Test")
    s3 = boto3.client("s3")
    s3.put_object(Bucket=BUCKET[1], Key="mine", Body=b"")

    result = fruits("upload", "Test", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=BUCKET[1])


def test_lifecycle_rules_of_an_existing_bucket_are_kept(fruits: Fruits, tmp_path: Path) -> None:
    pictures(tmp_path / "Test")
    s3 = boto3.client("s3", region_name="eu-west-3")
    place = {"LocationConstraint": "eu-west-3"}
    s3.create_bucket(Bucket=BUCKET[1], CreateBucketConfiguration=place)
    rule = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "a"}, "Expiration": {"Days": 9}}
    s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET[1], LifecycleConfiguration={"Rules": [rule]}
    )

    result = fruits("upload", "Test", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    (kept,) = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET[1])["Rules"]
    assert kept["ID"] == "mine"
