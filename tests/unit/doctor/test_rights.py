"""doctor, asked by an identity that carries the document of `fruits init --policies`, no more."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.policies import Scope, administrator_policy, caller_policy
from fruits_cli.cluster.foundations import foundation_names
from fruits_cli.doctor.examination import Surroundings, examine
from fruits_cli.doctor.findings import Verdict
from tests.support.fakes import FakeAws, FakePreflight
from tests.support.verdicts import allows, context_of
from tests.support.worlds import config

CONFIG = config(job={"weights": "random"})
NAMES = foundation_names(CONFIG, keep_alive=True)
SCOPE = Scope(
    bucket=places_of(CONFIG).bucket,
    prefix=places_of(CONFIG).root_prefix,
    region="eu-west-3",
    account_id="123456789012",
    instance_role=NAMES.instance_role,
    service_role=NAMES.service_role,
)


class ByDocument(FakePreflight):
    """IAM as it simulates the caller's document."""

    def denied(
        self, actions: Sequence[str], resource: str, *, passed_to: str = ""
    ) -> frozenset[str]:
        tags = [{"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}]
        known = context_of({"Tags": tags, "AWSServiceName": "elasticmapreduce.amazonaws.com"})
        known |= {
            "iam:PolicyARN": "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2",
            "iam:PassedToService": passed_to,
        }
        both = (caller_policy(SCOPE), administrator_policy(SCOPE))
        return frozenset(
            one for one in actions if not any(allows(p, one, resource, known) for p in both)
        )


@pytest.mark.parametrize("name", ["bucket", "EC2 role", "EMR role", "PassRole", "launch"])
def test_the_callers_document_has_every_right_that_doctor_asks_for(
    tmp_path: Path, name: str
) -> None:
    aws = FakeAws()
    aws.preflight = ByDocument()
    environ = {"XDG_CACHE_HOME": str(tmp_path)}

    found = examine(CONFIG, Surroundings(environ, tmp_path, lambda: aws.cloud, aws.clock))

    (told,) = [one for one in found if one.name == name]
    assert told.verdict is Verdict.OK, told.said
