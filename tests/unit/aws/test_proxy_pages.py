"""What a proxy answers in AWS's place, with status 200."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from fruits_cli.aws.clients import Clients
from fruits_cli.aws.emr import AwsClusters
from fruits_cli.aws.rights import AwsRights
from fruits_cli.aws.s3 import AwsStorage
from fruits_cli.cloud.account import SPOT_ROLE
from fruits_cli.cluster.plan import plan_cluster, plan_run
from fruits_cli.errors import CloudError, Unanswered
from fruits_cli.s3uri import S3Uri
from tests.support.fakes import FakeClock
from tests.support.worlds import PYTHON, RUN_ID, config, job, observed

PAGE = b"<!DOCTYPE html><html><body><p>Please log in.</p></body></html>"
SPEC = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec
STEP = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec.step
URI = S3Uri("figs", "fruits/runs/r/manifest.json")


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


class _Proxied(Clients):
    """Clients behind a proxy that answers each request in the same way."""

    def __init__(self, body: bytes) -> None:
        session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x")
        super().__init__(session, "eu-west-3")
        self._body, self._account_id = body, "123456789012"

    def __call__(self, service: str, *, region: str | None = None, once: bool = False) -> Any:
        client = super().__call__(service, region=region, once=once)
        client.meta.events.register("before-send", self._answer, unique_id="proxy")
        return client

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        raw = cast(Any, _Raw(self._body))
        return AWSResponse(request.url, 200, {"content-type": "text/html"}, raw)


@pytest.mark.parametrize("body", [PAGE, b"[]", b"{}", b""], ids=["page", "list", "empty", "none"])
def test_a_launch_that_something_else_answers_is_not_known_to_have_failed(body: bytes) -> None:
    clusters = AwsClusters(_Proxied(body), FakeClock())

    with pytest.raises(Unanswered, match="is not an answer of AWS"):
        clusters.start_cluster(SPEC)
    assert STEP
    with pytest.raises(Unanswered, match="is not an answer of AWS"):
        clusters.add_step("j-1", STEP)


@pytest.mark.parametrize(
    "ask",
    [
        lambda clients: AwsClusters(clients, FakeClock()).stop_cluster("j-1"),
        lambda clients: AwsClusters(clients, FakeClock()).cluster("j-1"),
        lambda clients: AwsClusters(clients, FakeClock()).steps("j-1"),
        lambda clients: AwsStorage(clients, "eu-west-3").put_bytes(b"", URI),
        lambda clients: AwsStorage(clients, "eu-west-3").fetch_bytes(URI),
        lambda clients: list(AwsStorage(clients, "eu-west-3").list_objects(URI)),
        lambda clients: AwsRights(clients).has_linked_role(SPOT_ROLE),
        lambda clients: AwsRights(clients).delete_ssh_group("figs"),
    ],
    ids=["stop", "cluster", "steps", "put", "get", "list", "iam", "ec2"],
)
def test_the_page_of_a_proxy_is_no_answer(ask: Callable[[Clients], object]) -> None:
    with pytest.raises(CloudError, match="is not an answer of AWS") as refused:
        ask(_Proxied(PAGE))

    assert refused.value.hint == "A proxy may have answered in its place: check HTTPS_PROXY."
