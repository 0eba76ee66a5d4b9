"""The caller's identity, the account's quotas and network, and prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fruits_cli.aws import arguments as payloads
from fruits_cli.aws.answers import is_for_emr
from fruits_cli.aws.clients import Clients, Service
from fruits_cli.aws.errors import asking, found
from fruits_cli.cloud.account import (
    ON_DEMAND_QUOTA,
    SPOT_QUOTA,
    Identity,
    Machine,
    Network,
    PriceBook,
    Quota,
)
from fruits_cli.cloud.clusters import MANAGED_POLICY_TAG, Market
from fruits_cli.cloud.machines import MACHINES, is_standard_type
from fruits_cli.cloud.prices import parse_price, table_prices
from fruits_cli.cloud.protocols import Clock
from fruits_cli.errors import CloudError, ConfigError

# The Pricing API has endpoints in these regions alone; each tells the prices of all.
_PRICING_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}
_PRICING_REGION = "us-east-1"
_QUOTA_CODES = {Market.ON_DEMAND: ON_DEMAND_QUOTA, Market.SPOT: SPOT_QUOTA}


class AwsAccount(Service):
    """STS, EC2, Service Quotas and Pricing as `cloud.Account` asks for them."""

    def __init__(self, clients: Clients, region: str, clock: Clock) -> None:
        super().__init__(clients)
        self._region, self._clock = region, clock
        self._prices: dict[tuple[str, ...], PriceBook] = {}

    @property
    def region(self) -> str:
        return self._region

    def identity(self) -> Identity:
        with asking("tell who you are"):
            answer = self._clients("sts").get_caller_identity()
        arn = str(answer["Arn"])
        return Identity(str(answer["Account"]), arn.rpartition("/")[2], arn.split(":")[1])

    def regions(self) -> list[str]:
        with asking("list the regions"):
            answer = self._ec2.describe_regions()
        return sorted(region["RegionName"] for region in answer["Regions"])

    def machines(self, types: Sequence[str]) -> dict[str, Machine]:
        """vCPUs and memory of the types; one that the region does not know is left out."""
        found = {kind: MACHINES[kind] for kind in types if kind in MACHINES}
        for kind in dict.fromkeys(types):
            if kind not in found and (machine := self._machine(kind)):
                found[kind] = machine
        return found

    def _machine(self, instance_type: str) -> Machine | None:
        with asking(f"look at instance type {instance_type}"):
            answer = found(
                lambda: self._ec2.describe_instance_types(InstanceTypes=[instance_type]),
                "InvalidInstanceType",
                "InvalidParameterValue",
            )
        for details in answer["InstanceTypes"] if answer else ():
            architectures = details["ProcessorInfo"]["SupportedArchitectures"]
            return Machine(
                vcpus=details["VCpuInfo"]["DefaultVCpus"],
                memory_mib=details["MemoryInfo"]["SizeInMiB"],
                is_arm="x86_64" not in architectures,
            )
        return None

    def quota(self, market: Market) -> Quota | None:
        try:
            with asking("read the vCPU quota"):
                answer = self._clients("service-quotas").get_service_quota(
                    ServiceCode="ec2", QuotaCode=_QUOTA_CODES[market]
                )
            return Quota(int(answer["Quota"]["Value"]), self._running_vcpus(market))
        except CloudError:
            # A launch does not need this right; the plan says that it could not be asked.
            return None

    def _running_vcpus(self, market: Market) -> int:
        states = payloads.filters_payload({"instance-state-name": ("pending", "running")})
        with asking("list the running instances"):
            pages = self._ec2.get_paginator("describe_instances").paginate(Filters=states)
            return sum(
                _vcpus(instance)
                for page in pages
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
                if (instance.get("InstanceLifecycle") == "spot") == (market is Market.SPOT)
                and is_standard_type(instance["InstanceType"])
            )

    def prices(self, types: Sequence[str]) -> PriceBook:
        key = tuple(sorted(set(types)))
        if key not in self._prices:
            self._prices[key] = self._ask_prices(key)
        return self._prices[key]

    def _ask_prices(self, types: tuple[str, ...]) -> PriceBook:
        table = table_prices(types, self._region)
        try:
            on_demand = self._priced(types, payloads.ec2_price_payload)
            emr = self._priced(types, payloads.emr_price_payload)
        except CloudError:
            return PriceBook(table.on_demand, table.emr, self._spot_prices(types), table.source)
        told = {kind for kind in types if kind in on_demand and kind in emr}
        source = f"AWS Pricing API, {self._clock.now():%Y-%m-%d}"
        if missing := [kind for kind in types if kind not in told and kind in table.on_demand]:
            source += f"; {', '.join(missing)}: {table.source}"
        return PriceBook(
            on_demand={**table.on_demand, **on_demand},
            emr={**table.emr, **emr},
            spot=self._spot_prices(types),
            source=source,
        )

    def _priced(self, types: Iterable[str], payload: Any) -> dict[str, float]:
        region = _PRICING_REGIONS.get(self._region.partition("-")[0], _PRICING_REGION)
        pricing = self._clients("pricing", region=region)
        found = {}
        for kind in types:
            with asking(f"read the price of {kind}"):
                answer = pricing.get_products(**payload(kind, self._region))
            if (price := parse_price(answer["PriceList"])) is not None:
                found[kind] = price
        return found

    def _spot_prices(self, types: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        found: dict[str, dict[str, float]] = {}
        if not types:
            # An empty filter would be all types there are.
            return found
        try:
            with asking("read the Spot prices"):
                # Asked once: a price that is missing can be assumed. StartTime is now: EC2
                # answers with the current price of each zone.
                answer = self._clients("ec2", once=True).describe_spot_price_history(
                    InstanceTypes=list(types),
                    ProductDescriptions=["Linux/UNIX"],
                    StartTime=self._clock.now(),
                )
        except CloudError:
            return {}
        for price in answer["SpotPriceHistory"]:
            by_zone = found.setdefault(price["InstanceType"], {})
            by_zone.setdefault(price["AvailabilityZone"], float(price["SpotPrice"]))
        return found

    def network(self, subnets: Sequence[str]) -> Network | None:
        """Raises ConfigError where the subnets lie in more than one VPC."""
        question: dict[str, Any] = (
            {"SubnetIds": list(subnets)}
            if subnets
            else {"Filters": payloads.filters_payload({"default-for-az": "true"})}
        )
        with asking("look at the subnets"):
            found = self._ec2.describe_subnets(**question)["Subnets"]
        if not found:
            return None
        vpcs = sorted({subnet["VpcId"] for subnet in found})
        if len(vpcs) > 1:
            raise ConfigError(
                f"The subnets lie in more than one VPC: {', '.join(vpcs)}.",
                hint="Give --subnets of one VPC, all public or all private.",
            )
        with asking(f"look at {vpcs[0]}"):
            vpc = self._ec2.describe_vpcs(VpcIds=vpcs)["Vpcs"]
        untagged = [subnet["SubnetId"] for subnet in found if not is_for_emr(subnet)]
        untagged += [resource["VpcId"] for resource in vpc if not is_for_emr(resource)]
        ids = tuple(sorted(subnet["SubnetId"] for subnet in found))
        return Network(vpcs[0], ids, tuple(untagged))

    def tag_network(self, ids: Sequence[str]) -> None:
        with asking(f"tag {', '.join(ids)}"):
            self._ec2.create_tags(
                Resources=list(ids), Tags=payloads.tags_payload({MANAGED_POLICY_TAG: "true"})
            )


def _vcpus(instance: Mapping[str, Any]) -> int:
    options = instance.get("CpuOptions") or {}
    return int(options.get("CoreCount", 1)) * int(options.get("ThreadsPerCore", 1))
