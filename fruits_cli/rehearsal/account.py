"""Quotas and rights of the embedded AWS. Everything is allowed: policies of IAM are not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from fruits_cli.cloud.account import ON_DEMAND_QUOTA, SPOT_QUOTA
from fruits_cli.rehearsal.faults import FaultBook
from fruits_cli.rehearsal.wire import Answer, Call, Refused, json_answer, xml_answer

_QUOTAS = {
    ON_DEMAND_QUOTA: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    SPOT_QUOTA: "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
}


class Quotas:
    """The two vCPU quotas. Source: service quotas API, GetServiceQuota; emr-facts.md, section 8."""

    def __init__(self, vcpus: int, faults: FaultBook) -> None:
        self._given, self._faults = vcpus, faults

    @property
    def vcpus(self) -> int:
        """How many vCPUs may run in each market."""
        fault = self._faults.standing("quota")
        return self._given if fault is None else fault.status

    def answer(self, call: Call, request: dict[str, Any]) -> Answer:
        if call.action != "GetServiceQuota":
            raise Refused("UnknownOperationException", call.action)
        code = request.get("QuotaCode", "")
        if request.get("ServiceCode") != "ec2" or code not in _QUOTAS:
            raise Refused("NoSuchResourceException", "The specified resource does not exist.")
        quota = {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{call.region}:123456789012:ec2/{code}",
            "QuotaCode": code,
            "QuotaName": _QUOTAS[code],
            "Value": float(self.vcpus),
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
