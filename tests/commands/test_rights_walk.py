"""A whole life on moto, with every request that it makes held against the caller's document."""

from collections.abc import Iterator
from typing import Any

import botocore.handlers
import pytest
from on_moto import Fruits
from rights import allowed_by, rights_of
from test_caller import POLICY

BUCKET = ("--bucket", "grapes-and-figs")
Call = tuple[str, str]


@pytest.fixture
def calls() -> Iterator[set[Call]]:
    """Service and operation of each request of every session made from now on."""
    seen: set[Call] = set()

    def record(model: Any, **_: Any) -> None:
        seen.add((model.service_model.service_name, model.name))

    handler = ("before-call", record)
    botocore.handlers.BUILTIN_HANDLERS.append(handler)
    yield seen
    botocore.handlers.BUILTIN_HANDLERS.remove(handler)


def test_every_request_of_a_clusters_life_is_allowed(calls: set[Call], fruits: Fruits) -> None:
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
    ]

    for words in life:
        result = fruits(*words)
        assert result.exit_code in (0, 1), f"{words}: {result.stderr}"

    assert {
        ("emr", "RunJobFlow"),
        ("emr", "TerminateJobFlows"),
        ("iam", "DeleteRole"),
        ("ec2", "ImportKeyPair"),
    } <= calls
    refused = {call: rights_of(*call) for call in calls}
    refused = {call: set(r) - allowed_by(POLICY) for call, r in refused.items()}
    assert not {call: left for call, left in refused.items() if left}
