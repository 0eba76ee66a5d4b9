"""Prices, quotas and rights of the embedded AWS: Amazon's shapes, numbers near its own.

Everything is allowed: no policy of IAM is looked at here.

No stored source gives the prices of eu-west-3 (emr-facts.md, section 8), so they are worked out:
a us-east-1 price per vCPU and family, times a factor per region; EMR's part is a quarter of the
us-east-1 price. m5.xlarge in eu-west-3 comes to 0.224 + 0.048, as the original project paid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from fruits_cli.rehearsal.faults import FaultBook
from fruits_cli.rehearsal.wire import Answer, Call, Refused, json_answer, xml_answer

_PER_VCPU = {
    "m4": 0.05, "m5": 0.048, "m5a": 0.043, "m5d": 0.0565, "m6i": 0.048, "m6a": 0.0432,
    "m7i": 0.0504, "m7a": 0.058, "m6g": 0.0385, "m7g": 0.0408,
    "c5": 0.0425, "c5a": 0.0385, "c6i": 0.0425, "c6a": 0.03825, "c7i": 0.0446, "c7g": 0.0363,
    "r5": 0.063, "r5a": 0.0565, "r6i": 0.063, "r7i": 0.0662,
}  # fmt: skip
_PER_VCPU_ELSE = 0.05
_REGIONS = {"us-east-1": 1.0, "us-east-2": 1.0, "us-west-2": 1.0, "eu-west-3": 0.224 / 0.192}
_REGION_ELSE = 1.15
_SPOT_SHARE = 0.070 / 0.224
# Source: emr-facts.md, section 8. Other regions have no end point of the price list.
_PRICE_LIST_REGIONS = ("us-east-1", "eu-central-1", "ap-south-1")
_ON_DEMAND_QUOTA, _SPOT_QUOTA = "L-1216C47A", "L-34B43A08"
_QUOTAS = {
    _ON_DEMAND_QUOTA: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    _SPOT_QUOTA: "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
}

Vcpus = Callable[[str], int]


def on_demand_usd_h(instance_type: str, vcpus: int, region: str) -> float:
    """EC2's price of one hour."""
    return round(_base(instance_type, vcpus) * _REGIONS.get(region, _REGION_ELSE), 4)


def uplift_usd_h(instance_type: str, vcpus: int) -> float:
    """EMR's price of one hour, on top of EC2's and the same on Spot."""
    return round(_base(instance_type, vcpus) / 4, 4)


def spot_usd_h(instance_type: str, vcpus: int, region: str) -> float:
    """EC2's Spot price of one hour."""
    return round(on_demand_usd_h(instance_type, vcpus, region) * _SPOT_SHARE, 4)


def _base(instance_type: str, vcpus: int) -> float:
    return vcpus * _PER_VCPU.get(instance_type.partition(".")[0], _PER_VCPU_ELSE)


class PriceList:
    """GetProducts of the price list service, for one type at a time.

    Source: pricing API reference, GetProducts; emr-facts.md, section 8 for filters and terms.
    """

    def __init__(self, vcpus: Vcpus) -> None:
        self._vcpus = vcpus

    def answer(self, call: Call, request: dict[str, Any]) -> Answer:
        if call.region not in _PRICE_LIST_REGIONS:
            regions = ", ".join(_PRICE_LIST_REGIONS)
            raise Refused("UnknownEndpoint", f"The price list lives in {regions} alone.")
        if call.action != "GetProducts":
            raise Refused("UnknownOperationException", call.action)
        wanted = {entry["Field"]: entry["Value"] for entry in request.get("Filters", [])}
        products = self._products(request.get("ServiceCode", ""), wanted)
        found = [
            product
            for product in products
            if all(_attribute(product, field) == value for field, value in wanted.items())
        ]
        texts = [json.dumps(product) for product in found[: request.get("MaxResults", 100)]]
        return json_answer({"FormatVersion": "aws_v1", "PriceList": texts})

    def _products(self, service: str, wanted: dict[str, str]) -> list[dict[str, Any]]:
        instance_type, region = wanted.get("instanceType", ""), wanted.get("regionCode", "")
        vcpus = self._vcpus(instance_type)
        if not (vcpus and region):
            return []
        if service == "AmazonEC2":
            return [_ec2_product(instance_type, vcpus, region)]
        if service == "ElasticMapReduce":
            return [_emr_product(instance_type, vcpus, region)]
        return []


def _attribute(product: dict[str, Any], field: str) -> str | None:
    described = product["product"]
    if field == "productFamily":
        return str(described["productFamily"])
    value = described["attributes"].get(field)
    return None if value is None else str(value)


def _ec2_product(instance_type: str, vcpus: int, region: str) -> dict[str, Any]:
    attributes = {
        "servicecode": "AmazonEC2",
        "regionCode": region,
        "instanceType": instance_type,
        "vcpu": str(vcpus),
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "licenseModel": "No License required",
        "capacitystatus": "Used",
        "operation": "RunInstances",
    }
    usd = on_demand_usd_h(instance_type, vcpus, region)
    return _product("AmazonEC2", "Compute Instance", attributes, usd)


def _emr_product(instance_type: str, vcpus: int, region: str) -> dict[str, Any]:
    attributes = {
        "servicecode": "ElasticMapReduce",
        "regionCode": region,
        "instanceType": instance_type,
        "softwareType": "EMR",
    }
    usd = uplift_usd_h(instance_type, vcpus)
    return _product("ElasticMapReduce", "Elastic Map Reduce Instance", attributes, usd)


def _product(service: str, family: str, attributes: dict[str, str], usd: float) -> dict[str, Any]:
    sku = "REHEARSAL" + attributes["instanceType"].replace(".", "").upper()
    # JRTCKXETXF is the code of the on-demand term, 6YS6EN2CT7 that of its hourly rate.
    term, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    dimension = {
        "unit": "Hrs",
        "rateCode": rate,
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${usd} per hour (rehearsal)",
        "appliesTo": [],
        "pricePerUnit": {"USD": f"{usd:.10f}"},
    }
    offer = {
        "sku": sku,
        "offerTermCode": "JRTCKXETXF",
        "effectiveDate": "2026-11-01T00:00:00Z",
        "termAttributes": {},
        "priceDimensions": {rate: dimension},
    }
    return {
        "product": {"productFamily": family, "attributes": attributes, "sku": sku},
        "serviceCode": service,
        "terms": {"OnDemand": {term: offer}},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
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
        if call.action not in ("GetServiceQuota", "GetAWSDefaultServiceQuota"):
            raise Refused("UnknownOperationException", call.action)
        code = request.get("QuotaCode", "")
        if request.get("ServiceCode") != "ec2" or code not in _QUOTAS:
            raise Refused("NoSuchResourceException", "The specified resource does not exist.")
        # A new account starts with 5 on-demand vCPUs.
        is_default = call.action == "GetAWSDefaultServiceQuota"
        quota = {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{call.region}:123456789012:ec2/{code}",
            "QuotaCode": code,
            "QuotaName": _QUOTAS[code],
            "Value": 5.0 if is_default else float(self.vcpus),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }
        return json_answer({"Quota": quota})


def spot_history(
    region: str, types: Iterable[str], zones: Iterable[str], vcpus: Vcpus, now: str
) -> Answer:
    """DescribeSpotPriceHistory: one price per type and zone, valid since `now`.

    Source: EC2 API reference, DescribeSpotPriceHistory.
    """
    zones = list(zones)
    items = "".join(
        f"<item><instanceType>{escape(name)}</instanceType>"
        f"<productDescription>Linux/UNIX</productDescription>"
        f"<spotPrice>{spot_usd_h(name, vcpus(name), region):.6f}</spotPrice>"
        f"<timestamp>{now}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
        for name in types
        if vcpus(name)
        for zone in zones
    )
    return xml_answer(
        '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>r</requestId><spotPriceHistorySet>{items}</spotPriceHistorySet>"
        "<nextToken></nextToken></DescribeSpotPriceHistoryResponse>"
    )


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
