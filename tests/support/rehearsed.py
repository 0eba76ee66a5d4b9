"""An embedded AWS over HTTP and an account in it; every JSON answer meets botocore's model."""

from __future__ import annotations

import gzip
import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import pytest
from botocore.exceptions import ClientError

from fruits_cli import rehearsal
from fruits_cli.rehearsal import Rehearsal
from tests.support.faults import SERVER, add_fault, clear_faults

PATIENCE_S = 60.0
_KINDS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "timestamp": (int, float),
}


def check_shape(value: Any, shape: Any, path: str) -> None:
    """Fail on members the model does not know, on missing required ones, wrong kinds and enums."""
    if shape.type_name == "structure":
        assert isinstance(value, dict), path
        unknown = set(value) - set(shape.members)
        assert not unknown, f"{path}: {unknown}"
        assert set(shape.required_members) <= set(value), path
        for name, inner in value.items():
            check_shape(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        assert isinstance(value, list), path
        for index, inner in enumerate(value):
            check_shape(inner, shape.member, f"{path}[{index}]")
    elif shape.type_name == "map":
        assert isinstance(value, dict), path
        for name, inner in value.items():
            check_shape(inner, shape.value, f"{path}.{name}")
    else:
        _check_scalar(value, shape, path)


def _check_scalar(value: Any, shape: Any, path: str) -> None:
    assert isinstance(value, _KINDS[shape.type_name]), f"{path}: {value!r}"
    assert shape.type_name == "boolean" or not isinstance(value, bool), f"{path}: {value!r}"
    allowed = getattr(shape, "enum", None)
    assert not allowed or value in allowed, f"{path}: {value!r}"


def _check_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] >= 300 or operation_model.output_shape is None:
        return
    answer = json.loads(response_dict["body"])
    check_shape(answer, operation_model.output_shape, operation_model.name)


class Account:
    """What tests do with the embedded AWS."""

    def __init__(self, found: Rehearsal) -> None:
        self.rehearsal = found
        self.emr, self.s3 = self.client("emr"), self.client("s3")
        self.ec2, self.iam = self.client("ec2"), self.client("iam")
        self.bucket = f"fruits-{uuid.uuid4().hex[:12]}"

    def client(self, service: str, region: str = "eu-west-3", **options: Any) -> Any:
        environ = self.rehearsal.environ
        # The stubs know each service by a literal; here its name is a variable.
        session: Any = boto3.session.Session(
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            region_name=region,
        )
        client = session.client(
            service,
            endpoint_url=self.rehearsal.endpoint,
            config=botocore.config.Config(
                proxies={}, **({"retries": {"total_max_attempts": 1}} | options)
            ),
        )
        if client.meta.service_model.metadata["protocol"] == "json":
            client.meta.events.register("before-parse", _check_answer)
        return client

    def found(self) -> None:
        """Bucket, roles and profile, as an account has them before its first cluster."""
        self.s3.create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
        )
        self.iam.create_service_linked_role(AWSServiceName="elasticmapreduce.amazonaws.com")
        for name in ("emr-service", "emr-node"):
            self.iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        self.iam.create_instance_profile(InstanceProfileName="emr-node")
        self.iam.add_role_to_instance_profile(InstanceProfileName="emr-node", RoleName="emr-node")

    def put(self, key: str, body: str | bytes) -> str:
        body = body.encode() if isinstance(body, str) else body
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def put_zip(self, key: str, **modules: str) -> str:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, source in modules.items():
                archive.writestr(f"{name}.py", source)
        return self.put(key, packed.getvalue())

    def request(self, *, keep_alive: bool = False, **members: Any) -> dict[str, Any]:
        """A request for a small cluster; `members` replace or add."""
        request: dict[str, Any] = {
            "Name": f"t-{uuid.uuid4().hex[:8]}",
            "ReleaseLabel": "emr-7.14.0",
            "Applications": [{"Name": "Hadoop"}, {"Name": "Spark"}],
            "LogUri": f"s3://{self.bucket}/logs/",
            "ServiceRole": "emr-service",
            "JobFlowRole": "emr-node",
            "Instances": {
                "InstanceFleets": [fleet("MASTER"), fleet("CORE")],
                "KeepJobFlowAliveWhenNoSteps": keep_alive,
            },
        }
        return request | members

    def launch(self, **members: Any) -> str:
        return str(self.emr.run_job_flow(**self.request(**members))["JobFlowId"])

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]
        return found

    def state(self, cluster_id: str) -> str:
        return str(self.cluster(cluster_id)["Status"]["State"])

    def step(self, cluster_id: str, step_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
        return found

    def steps(self, cluster_id: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found = self.emr.list_steps(ClusterId=cluster_id)["Steps"]
        return list(reversed(found))

    def await_state(self, cluster_id: str, *states: str) -> dict[str, Any]:
        until(lambda: self.state(cluster_id) in states)
        return self.cluster(cluster_id)

    def await_end(self, cluster_id: str) -> dict[str, Any]:
        return self.await_state(cluster_id, "TERMINATED", "TERMINATED_WITH_ERRORS")

    def await_step(self, cluster_id: str, step_id: str, *states: str) -> dict[str, Any]:
        until(lambda: self.step(cluster_id, step_id)["Status"]["State"] in states)
        return self.step(cluster_id, step_id)

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def log(self, key: str) -> str:
        body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return gzip.decompress(body).decode()

    def fault(self, **members: Any) -> None:
        add_fault(self.rehearsal, **members)


def fleet(role: str, on_demand: int = 1, spot: int = 0, **members: Any) -> dict[str, Any]:
    return {
        "Name": role.lower(),
        "InstanceFleetType": role,
        "TargetOnDemandCapacity": on_demand,
        "TargetSpotCapacity": spot,
        "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge"}],
        **members,
    }


def spark_step(*args: str, on_failure: str = "CONTINUE", name: str = "job") -> dict[str, Any]:
    return {
        "Name": name,
        "ActionOnFailure": on_failure,
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", *args]},
    }


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def shared_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("aws")
    found = rehearsal.start(
        folder,
        minutes_per_second=600,
        timer_minutes_per_second=600,
        quota_vcpus=100_000,
        module=SERVER,
    )
    try:
        account = Account(found)
        account.found()
        yield account
    finally:
        rehearsal.stop(folder)


@pytest.fixture
def aws(shared_aws: Account) -> Iterator[Account]:
    """The shared server, without faults of an earlier test."""
    yield shared_aws
    clear_faults(shared_aws.rehearsal)


@pytest.fixture
def make_fleet() -> Callable[..., dict[str, Any]]:
    return fleet


@pytest.fixture
def make_step() -> Callable[..., dict[str, Any]]:
    return spark_step


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    return until


@pytest.fixture
def account_at() -> Iterator[Callable[..., Account]]:
    """Servers of a test's own, ended after it."""
    folders: list[Path] = []

    def made(folder: Path, **pace: float) -> Account:
        folders.append(folder)
        account = Account(rehearsal.start(folder, **pace))  # type: ignore[arg-type]
        account.found()
        return account

    yield made
    for folder in folders:
        rehearsal.stop(folder)


@pytest.fixture
def refusal() -> Callable[[Callable[[], Any]], tuple[str, str]]:
    """Code and message of the error that a call meets."""

    def met(call: Callable[[], Any]) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call()
        error = caught.value.response["Error"]
        return str(error["Code"]), str(error["Message"])

    return met
