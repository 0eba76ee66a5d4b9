from __future__ import annotations

import pytest

from fruits_cli.rehearsal.spark_submit import (
    command_line,
    files_to_fetch,
    local_options,
    parse_submission,
    with_local_files,
)
from fruits_cli.rehearsal.steps import step_environ
from fruits_cli.rehearsal.wire import Refused, s3_action

ARGS = (
    "spark-submit",
    "--deploy-mode",
    "cluster",
    "--conf",
    "spark.executor.cores=4",
    "--py-files",
    "s3://b/code.zip",
    "s3://b/main.py",
    "--images",
    "s3://b/images/",
    "--model",
    "s3://b/model/",
    "--output",
    "s3://b/runs/",
)


def test_only_main_zip_and_model_are_fetched_and_replaced():
    submission = parse_submission(ARGS)
    local = {"s3://b/code.zip": "/w/code.zip", "s3://b/main.py": "/w/main.py"}
    local["s3://b/model/"] = "/w/model"

    changed = with_local_files(submission, local)

    assert [what for what, _ in files_to_fetch(submission)] == ["main", "--py-files", "--model"]
    assert changed.main == "/w/main.py"
    assert changed.options == (*ARGS[1:5], "--py-files", "/w/code.zip")
    assert changed.job_args == (*ARGS[8:10], "--model", "/w/model", *ARGS[12:])


def test_arguments_written_with_an_equals_sign_are_understood():
    submission = parse_submission(
        (
            "spark-submit",
            "--py-files=s3://b/a.zip,s3://b/b.zip",
            "--verbose",
            "main.py",
            "--model=s3://b/m",
        )
    )

    changed = with_local_files(submission, {"s3://b/b.zip": "/b.zip", "s3://b/m": "/m"})

    assert changed.options == ("--py-files=s3://b/a.zip,/b.zip", "--verbose")
    assert changed.job_args == ("--model=/m",)


def test_the_last_option_wins_so_ours_come_last():
    argv = command_line(
        "/s/spark-submit", parse_submission(ARGS), local_options(2, "/py", "/tmp", "/ev")
    )

    assert argv.index("local[2]") > argv.index("cluster")
    assert argv.index("local[2]") < argv.index("s3://b/main.py")
    assert "spark.pyspark.python=/py" in argv


@pytest.mark.parametrize(
    ("options", "is_cluster"),
    [
        (("--deploy-mode", "cluster"), True),
        (("--deploy-mode=cluster",), True),
        (("--conf", "spark.submit.deployMode=cluster"), True),
        (("--deploy-mode", "client"), False),
        ((), False),
    ],
)
def test_the_deploy_mode_is_read(options, is_cluster):
    assert parse_submission(("spark-submit", *options, "m.py")).in_cluster_mode is is_cluster


@pytest.mark.parametrize("args", [(), ("bash", "-c", "rm"), ("spark-submit", "--name", "x")])
def test_nothing_but_a_spark_submit_with_a_main_is_run(args):
    with pytest.raises(Refused):
        parse_submission(args)


@pytest.mark.parametrize(
    ("method", "path", "query", "action"),
    [
        ("GET", "/", "", "ListBuckets"),
        ("HEAD", "/b", "", "HeadBucket"),
        ("GET", "/b", "list-type=2&prefix=x", "ListObjectsV2"),
        ("GET", "/b", "location", "GetBucketLocation"),
        ("PUT", "/b/k", "", "PutObject"),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k", "uploads=", "CreateMultipartUpload"),
        ("POST", "/b", "delete", "DeleteObjects"),
    ],
)
def test_s3_requests_are_told_apart(method, path, query, action):
    assert s3_action(method, path, query) == action


def test_a_step_sees_nothing_of_the_user_but_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")

    environ = step_environ(work=tmp_path, endpoint="http://127.0.0.1:1", region="r", access_key="k")

    assert not {"AWS_PROFILE", "HTTPS_PROXY", "USER"} & set(environ)
    assert environ["HOME"] == str(tmp_path)
    assert environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
