"""Quotas and rights of the embedded AWS. Everything is allowed: policies of IAM are not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from fruits_cli.cloud.account import ON_DEMAND_QUOTA, SPOT_QUOTA
from fruits_cli.rehearsal.wire import Answer, Call, Refused, json_answer, xml_answer
from fruits_cli.rehearsal.world import ACCOUNT

_QUOTAS = {
    ON_DEMAND_QUOTA: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    SPOT_QUOTA: "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
}


def vcpu_quota(call: Call, request: dict[str, Any], vcpus: int) -> Answer:
    """GetServiceQuota. Source: service quotas API; emr-facts.md, section 8."""
    if call.action != "GetServiceQuota":
        raise Refused("UnknownOperationException", call.action)
    code = request.get("QuotaCode", "")
    if request.get("ServiceCode") != "ec2" or code not in _QUOTAS:
        raise Refused("NoSuchResourceException", "The specified resource does not exist.")
    quota = {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{call.region}:{ACCOUNT}:ec2/{code}",
        "QuotaCode": code,
        "QuotaName": _QUOTAS[code],
        "Value": float(vcpus),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
    return json_answer({"Quota": quota})


Form = Mapping[str, Sequence[str]]
_XMLNS = "https://iam.amazonaws.com/doc/2010-05-08/"


def everything_allowed(form: Form) -> Answer:
    """SimulatePrincipalPolicy: each action on each resource is allowed, in one page.

    Source: IAM API reference, SimulatePrincipalPolicy.
    """
    results = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        "<EvalDecision>allowed</EvalDecision>"
        "<MatchedStatements/><MissingContextValues/></member>"
        for action in _members(form, "ActionNames")
        for resource in _members(form, "ResourceArns") or ["*"]
    )
    return xml_answer(
        f'<SimulatePrincipalPolicyResponse xmlns="{_XMLNS}"><SimulatePrincipalPolicyResult>'
        f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>r</RequestId>"
        "</ResponseMetadata></SimulatePrincipalPolicyResponse>"
    )


def _members(form: Form, name: str) -> list[str]:
    """A list as the query protocol writes it: `Name.member.1`, `Name.member.2`, and so on."""
    found = [key for key in form if key.startswith(f"{name}.member.")]
    return [form[key][0] for key in sorted(found, key=lambda key: int(key.rpartition(".")[2]))]
