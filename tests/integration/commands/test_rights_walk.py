"""A whole life on moto, with every request that it makes held against the caller's document."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.handlers
import pytest

from tests.support.on_moto import Fruits
from tests.support.rights import allowed_by, rights_of
from tests.support.verdicts import allows, context_of, resources_of

BUCKET = ("--bucket", "grapes-and-figs")
ACCOUNT = "123456789012"
Call = tuple[str, str, Mapping[str, Any], str]


@pytest.fixture
def calls() -> Iterator[list[Call]]:
    """Service, operation, arguments and region of each request of sessions made from now on."""
    seen: list[Call] = []

    def record(params: Mapping[str, Any], model: Any, context: Any, **_: Any) -> None:
        region = context["client_region"]
        seen.append((model.service_model.service_name, model.name, dict(params), region))

    handler = ("before-parameter-build", record)
    botocore.handlers.BUILTIN_HANDLERS.append(handler)
    yield seen
    botocore.handlers.BUILTIN_HANDLERS.remove(handler)


def test_every_request_of_a_clusters_life_is_allowed(calls: list[Call], fruits: Fruits) -> None:
    life = [
        ("init", *BUCKET, "--region", "eu-west-3"),
        ("init", "--policies", *BUCKET),
        ("init", "--key"),
        ("create-cluster", *BUCKET, "--yes"),
        ("status", "--all-regions"),
        ("status",),
        ("logs",),
        ("cancel", "--yes"),
        ("terminate", "--purge", *BUCKET, "--yes"),
        ("runs", "--prune", *BUCKET, "--yes"),
    ]

    for words in life:
        result = fruits(*words)
        assert result.exit_code in (0, 1), f"{words}: {result.stderr}"

    told = fruits("init", "--policies", *BUCKET, "--output", "json")
    told_both = json.loads(told.stdout)
    both = [told_both[who]["policy"]["Statement"] for who in ("caller", "administrator")]
    policy = {"Statement": [*both[0], *both[1]]}
    assert {
        ("emr", "RunJobFlow"),
        ("emr", "TerminateJobFlows"),
        ("iam", "DeleteRole"),
        ("ec2", "ImportKeyPair"),
        ("s3", "ListMultipartUploads"),
    } <= {call[:2] for call in calls}
    assert {call[:2]: why for call in calls if (why := _refused(policy, *call))} == {}


def _refused(
    policy: Mapping[str, Any], service: str, operation: str, params: Mapping[str, Any], region: str
) -> list[str]:
    """Rights that the document does not give for this request, and on what."""
    if service == "sts":
        return []
    own, *beside = rights_of(service, operation)
    context = context_of(params)
    about = resources_of(service, operation, params, region=region, account_id=ACCOUNT)
    refused = [f"{own} on {one}" for one in about if not allows(policy, own, one, context)]
    return [*refused, *(one for one in beside if one not in allowed_by(policy))]
