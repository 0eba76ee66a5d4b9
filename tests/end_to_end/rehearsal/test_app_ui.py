from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fruits_cli import rehearsal


def state_of_ui(aws, ui):
    shown = aws.emr.describe_persistent_app_ui(PersistentAppUIId=ui)["PersistentAppUI"]
    return shown["PersistentAppUIStatus"]


def page_at(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.headers, answer.read().decode()


def test_a_persistent_ui_takes_a_while_and_outlives_its_cluster(aws, wait_until, make_step):
    main = aws.put("m.py", "print('figs')\n")
    cluster_id = aws.launch(Steps=[make_step("--deploy-mode", "cluster", main)])
    arn = aws.cluster(cluster_id)["ClusterArn"]
    aws.await_end(cluster_id)

    ui = aws.emr.create_persistent_app_ui(TargetResourceArn=arn)["PersistentAppUIId"]
    wait_until(lambda: state_of_ui(aws, ui) == "ATTACHED")
    ask = aws.emr.get_persistent_app_ui_presigned_url
    wait_until(lambda: ask(PersistentAppUIId=ui)["PresignedURLReady"])
    headers, page = page_at(ask(PersistentAppUIId=ui)["PresignedURL"])

    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert page.startswith(f"Rehearsal: EMR would show the Spark History Server of {cluster_id}")
    assert " job: COMPLETED\n== containers/application_" in page
    assert "\nfigs\n" in page


def test_an_ui_is_attached_first_and_has_its_address_later(tmp_path, account_at):
    aws = account_at(tmp_path, minutes_per_second=0.01)
    arn = aws.cluster(aws.launch())["ClusterArn"]

    ui = aws.emr.create_persistent_app_ui(TargetResourceArn=arn)["PersistentAppUIId"]

    assert state_of_ui(aws, ui) == "ATTACHING"
    assert aws.emr.get_persistent_app_ui_presigned_url(PersistentAppUIId=ui) | {
        "ResponseMetadata": {}
    } == {"PresignedURLReady": False, "ResponseMetadata": {}}


def test_only_addresses_that_were_given_out_are_answered(aws, wait_until, refusal):
    cluster_id = aws.launch(keep_alive=True)
    arn = aws.cluster(cluster_id)["ClusterArn"]
    ui = aws.emr.create_persistent_app_ui(TargetResourceArn=arn)["PersistentAppUIId"]
    ask = aws.emr.get_persistent_app_ui_presigned_url
    wait_until(lambda: ask(PersistentAppUIId=ui)["PresignedURLReady"])
    given = ask(PersistentAppUIId=ui)["PresignedURL"]

    assert cluster_id in page_at(given)[1]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        page_at(f"{given}x")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        page_at(given.rpartition("/")[0] + "/")
    unknown = "arn:aws:elasticmapreduce:eu-west-3:123456789012:cluster/j-NOSUCH"
    assert refusal(lambda: aws.emr.create_persistent_app_ui(TargetResourceArn=unknown)) == (
        "InvalidRequestException",
        "Cluster id 'j-NOSUCH' is not valid.",
    )
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command_prints_the_address_and_keeps_it_nowhere(aws, make_step, tmp_path, form):
    cluster_id = aws.launch(Steps=[make_step(aws.put("m.py", "print('figs')\n"))])
    aws.await_end(cluster_id)
    words = ["logs", "--ui", "--cluster", cluster_id, "--output", form, "--verbose"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    told = subprocess.run(
        [Path(sys.executable).with_name("fruits"), *words],
        env=rehearsal.environ_beside(aws.rehearsal, environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    address = told.stdout.strip() if form == "text" else json.loads(told.stdout)["url"]
    assert "\nfigs\n" in page_at(address)[1]
    assert told.stderr.splitlines()[-1] == (
        "It opens without any login, for a short while: treat it as a password."
    )
    assert address not in told.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files if address.encode() in file.read_bytes()]
