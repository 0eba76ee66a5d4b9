from __future__ import annotations

import io
import json
from datetime import UTC, datetime

from fruits_cli.aws.trace import trace_line


def test_a_line_holds_request_and_answer_without_secrets() -> None:
    request = {"Name": "fruits", "Body": io.BytesIO(b"pixels"), "SecretAccessKey": "s3cr3t"}
    answer = {
        "Arn": "arn:aws:iam::123456789012:role/x",
        "Created": datetime(2026, 1, 1, tzinfo=UTC),
        "KeyMaterial": "PRIVATE",
        "NextToken": "page",
        "Said": "key AKIAABCDEFGHIJKLMNOP is old",
        "ResponseMetadata": {"RequestId": "r"},
    }

    line = trace_line("iam", "GetRole", request, answer)

    entry = json.loads(line)
    assert entry["request"] == {
        "Name": "fruits",
        "Body": "(left out)",
        "SecretAccessKey": "(left out)",
    }
    assert entry["answer"] == {
        "Arn": "arn:aws:iam::000000000000:role/x",
        "Created": "2026-01-01 00:00:00+00:00",
        "KeyMaterial": "(left out)",
        "NextToken": "page",
        "Said": "key (left out) is old",
    }


def test_an_error_stands_in_the_place_of_the_answer() -> None:
    parsed = {"Error": {"Code": "AccessDenied", "Message": "account 123456789012"}}

    entry = json.loads(trace_line("s3", "GetObject", {}, parsed))

    assert entry["error"] == {"Code": "AccessDenied", "Message": "account 000000000000"}
    assert "answer" not in entry


def test_what_s3_repeats_of_a_refused_signature_is_left_out() -> None:
    refused = {
        "Code": "SignatureDoesNotMatch",
        "AWSAccessKeyId": "AKIAABCDEFGHIJKLMNOP",
        "SignatureProvided": "5bf1d0ad",
        "CanonicalRequest": "PUT\nx-amz-security-token:FwoGZXI=\n",
        "Token-0": "FwoGZXI=",
    }

    line = trace_line("s3", "PutObject", {}, {"Error": refused})

    assert not [word for word in ("AKIA", "5bf1d0ad", "FwoGZXI") if word in line]


def test_an_account_is_not_told_in_other_forms() -> None:
    owner = {"ID": "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a"}
    digest = "a123456789012f"
    answer = {"Uploads": [{"Key": digest, "Owner": owner}], "Bucket": "logs123456789012"}

    entry = json.loads(trace_line("s3", "ListMultipartUploads", {}, answer))

    assert entry["answer"] == {
        "Uploads": [{"Key": digest, "Owner": "(left out)"}],
        "Bucket": "logs000000000000",
    }
