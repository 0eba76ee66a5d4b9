from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.errors import UsageError
from fruits_cli.rehearsal.__main__ import main
from fruits_cli.rehearsal.comparison import compare


def entry(operation: str, *, service: str = "emr", **members: Any) -> str:
    return json.dumps({"service": service, "operation": operation, "request": {}, **members})


def cluster(state: str, **members: Any) -> str:
    answer = {"Cluster": {"Id": f"j-{state}", "Status": {"State": state}, **members}}
    return entry("DescribeCluster", answer=answer)


def test_a_trace_compared_with_itself_shows_no_difference() -> None:
    trace = [
        cluster("STARTING"),
        cluster("TERMINATED", Tags=[{"Key": "a", "Value": "b"}]),
        entry("RunJobFlow", error={"Code": "ValidationException", "Message": "no"}),
        entry("GetObject", service="s3", answer={"ContentLength": 3}),
    ]

    assert compare(trace, trace) == []


def test_ids_times_and_request_ids_are_no_differences() -> None:
    aws = [cluster("STARTING"), entry("ListClusters", answer={"ResponseMetadata": {"a": 1}})]
    ours = [
        entry(
            "DescribeCluster", answer={"Cluster": {"Id": "j-2", "Status": {"State": "STARTING"}}}
        ),
        entry("ListClusters", answer={}),
    ]

    assert compare(aws, ours) == []


@pytest.mark.parametrize(
    ("aws", "ours", "said"),
    [
        (
            cluster("TERMINATING"),
            cluster("STARTING"),
            "emr:DescribeCluster: Cluster.Status.State was TERMINATING, in the rehearsal never.",
        ),
        (
            cluster("STARTING", OSReleaseLabel="2023.9"),
            cluster("STARTING"),
            "emr:DescribeCluster: AWS answered with Cluster.OSReleaseLabel, "
            "the rehearsal leaves it out.",
        ),
        (
            cluster("STARTING"),
            cluster("STARTING", AutoTerminate=True),
            "emr:DescribeCluster: the rehearsal always answers with Cluster.AutoTerminate, "
            "AWS never did.",
        ),
        (
            entry("RunJobFlow", error={"Code": "InternalFailure"}),
            entry("RunJobFlow", error={"Code": "ValidationException"}),
            "emr:RunJobFlow: AWS refused with InternalFailure, the rehearsal never did.",
        ),
        (
            entry("ListSteps", answer={}),
            cluster("STARTING"),
            "emr:ListSteps: the rehearsal was never asked.",
        ),
    ],
    ids=["value", "missing", "surplus", "error", "operation"],
)
def test_a_difference_is_one_sentence(aws: str, ours: str, said: str) -> None:
    assert compare([aws], [ours]) == [said]


@pytest.mark.parametrize("line", ["{", "[]", '{"service": "emr"}', entry("DescribeCluster")[:-9]])
def test_a_line_that_is_no_trace_is_named(line: str) -> None:
    with pytest.raises(UsageError, match="Line 2 is not a line of a trace"):
        compare([cluster("STARTING"), line], [])


def test_an_operation_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match="emr has no DescribeClutter"):
        compare([entry("DescribeClutter", answer={})], [])


def test_a_file_that_is_no_text_is_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "picture.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0")

    assert main(["--compare", str(file), str(file)]) == 2
    assert "are not both traces" in capsys.readouterr().err
