"""Converts answers of EMR and EC2 into our own values; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fruits_cli.cloud.account import SubnetFacts
from fruits_cli.cloud.clusters import (
    MANAGED_POLICY_TAG,
    Cluster,
    ClusterState,
    ErrorDetail,
    Market,
    Node,
    Role,
    SparkUi,
    Step,
    StepState,
)
from fruits_cli.s3uri import S3Uri, is_s3_uri, parse_s3_uri

Answer = Mapping[str, Any]
_ANYWHERE = "0.0.0.0/0"


def parse_cluster(answer: Mapping[str, Any]) -> Cluster:
    """The `Cluster` of DescribeCluster."""
    status = answer.get("Status", {})
    reason, timeline = status.get("StateChangeReason", {}), status.get("Timeline", {})
    instances = answer.get("Ec2InstanceAttributes") or {}
    return Cluster(
        cluster_id=answer["Id"],
        emr_name=answer.get("Name", ""),
        state=ClusterState(status["State"]),
        tags={tag["Key"]: tag.get("Value", "") for tag in answer.get("Tags") or ()},
        created_at=_utc(timeline.get("CreationDateTime")),
        ready_at=_utc(timeline.get("ReadyDateTime")),
        ended_at=_utc(timeline.get("EndDateTime")),
        reason_code=reason.get("Code", ""),
        reason=reason.get("Message", ""),
        errors=tuple(_error_detail(detail) for detail in status.get("ErrorDetails") or ()),
        log_uri=_log_uri(answer.get("LogUri")),
        zone=instances.get("Ec2AvailabilityZone"),
        primary_dns=answer.get("MasterPublicDnsName"),
        release_label=answer.get("ReleaseLabel", ""),
        arn=answer.get("ClusterArn", ""),
        key_name=instances.get("Ec2KeyName"),
        security_configuration=answer.get("SecurityConfiguration", ""),
        ends_after_steps=bool(answer.get("AutoTerminate", False)),
    )


def parse_spark_ui(answer: Mapping[str, Any]) -> SparkUi:
    """The `PersistentAppUI` of DescribePersistentAppUI.

    The API's model names no states; AWS's own notebook extensions wait for ATTACHED.
    """
    state = answer.get("PersistentAppUIStatus", "")
    return SparkUi(
        ui_id=answer.get("PersistentAppUIId", ""),
        is_attached=state == "ATTACHED",
        state=state,
        reason=answer.get("LastStateChangeReason", ""),
    )


def parse_step(answer: Mapping[str, Any]) -> Step:
    """The `Step` of DescribeStep, or one of ListSteps."""
    status = answer["Status"]
    failure, timeline = status.get("FailureDetails") or {}, status.get("Timeline") or {}
    return Step(
        step_id=answer["Id"],
        name=answer.get("Name", ""),
        state=StepState(status["State"]),
        args=tuple((answer.get("Config") or {}).get("Args") or ()),
        reason=failure.get("Reason", ""),
        message=failure.get("Message", "")
        or (status.get("StateChangeReason") or {}).get("Message", ""),
        log_file=failure.get("LogFile", ""),
        created_at=_utc(timeline.get("CreationDateTime")),
        started_at=_utc(timeline.get("StartDateTime")),
        ended_at=_utc(timeline.get("EndDateTime")),
    )


def parse_node(answer: Mapping[str, Any], role: Role) -> Node:
    """One of `Instances` of ListInstances."""
    timeline = (answer.get("Status") or {}).get("Timeline") or {}
    return Node(
        instance_id=answer.get("Ec2InstanceId") or answer["Id"],
        role=role,
        instance_type=answer.get("InstanceType", ""),
        market=Market.SPOT if answer.get("Market") == "SPOT" else Market.ON_DEMAND,
        created_at=_utc(timeline.get("CreationDateTime")),
        ended_at=_utc(timeline.get("EndDateTime")),
    )


def _error_detail(answer: Mapping[str, Any]) -> ErrorDetail:
    facts: dict[str, str] = {}
    for data in answer.get("ErrorData") or ():
        facts.update(data)
    return ErrorDetail(answer.get("ErrorCode", ""), answer.get("ErrorMessage", ""), facts)


def _log_uri(text: str | None) -> S3Uri | None:
    """EMR answers with s3n:// where s3:// was asked for, and without the slash at the end."""
    if not text or not is_s3_uri(text):
        return None
    uri = parse_s3_uri(text)
    return S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/")


def _utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment else None


def has_tag(resource: Answer, key: str) -> bool:
    """True if a resource of EC2 or IAM has a tag of that key."""
    return any(tag["Key"] == key for tag in resource.get("Tags", ()))


def is_for_emr(resource: Answer) -> bool:
    """True if a resource of EC2 has the tag that EMR's managed policy asks for."""
    return {"Key": MANAGED_POLICY_TAG, "Value": "true"} in resource.get("Tags", ())


def address_ranges(permission: Answer) -> Iterator[tuple[str, str]]:
    """The address ranges of a security group's rule, IPv4 and IPv6, each with its description."""
    for ranges, key in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")):
        for entry in permission.get(ranges, ()):
            yield entry[key], entry.get("Description", "")


def is_for_ssh(permission: Answer) -> bool:
    """True if a security group's rule is for exactly port 22."""
    ports = permission["IpProtocol"], permission.get("FromPort"), permission.get("ToPort")
    return ports == ("tcp", 22, 22)


def parse_subnets(
    subnets: Sequence[Answer], tables: Sequence[Answer], endpoints: Sequence[Answer]
) -> Iterator[SubnetFacts]:
    """`Subnets` with what `RouteTables` and `VpcEndpoints` of their VPCs say of them.

    A subnet without a table of its own uses the main one of its VPC. Source: VPC user guide,
    subnet route tables.
    """
    for subnet in subnets:
        table = _table(subnet, tables)
        gateway = _way_out(table)
        yield SubnetFacts(
            subnet["SubnetId"],
            subnet["VpcId"],
            subnet["AvailabilityZone"],
            int(subnet["AvailableIpAddressCount"]),
            is_available=subnet["State"] == "available",
            is_tagged=is_for_emr(subnet),
            has_internet=gateway.startswith("igw-"),
            has_nat=bool(gateway) and not gateway.startswith("igw-"),
            has_s3=any(_leads_to_s3(endpoint, subnet, table) for endpoint in endpoints),
        )


def _table(subnet: Answer, tables: Sequence[Answer]) -> Answer:
    main: Answer = {}
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("SubnetId") == subnet["SubnetId"]:
                return table
            if association.get("Main") and table["VpcId"] == subnet["VpcId"]:
                main = table
    return main


def _way_out(table: Answer) -> str:
    """What the route to everywhere leads to: a gateway, a NAT, an interface; empty without one."""
    targets = ("GatewayId", "NatGatewayId", "TransitGatewayId", "InstanceId", "NetworkInterfaceId")
    for route in table.get("Routes", ()):
        # The target of a blackhole is gone.
        if route.get("DestinationCidrBlock") == _ANYWHERE and route.get("State") == "active":
            return next((str(route[target]) for target in targets if route.get(target)), "")
    return ""


def _leads_to_s3(endpoint: Answer, subnet: Answer, table: Answer) -> bool:
    if not endpoint["ServiceName"].endswith(".s3") or endpoint["VpcId"] != subnet["VpcId"]:
        return False
    if str(endpoint.get("State", "")).lower() != "available":
        return False
    if endpoint.get("VpcEndpointType") == "Interface":
        # Without private names the nodes' requests would not take this way.
        return bool(endpoint.get("PrivateDnsEnabled"))
    return table.get("RouteTableId") in endpoint.get("RouteTableIds", ())


def private_names(endpoints: Sequence[Answer]) -> Iterator[str]:
    """Services whose public names lead to an endpoint inside of the VPC."""
    for endpoint in endpoints:
        if endpoint.get("VpcEndpointType") == "Interface" and endpoint.get("PrivateDnsEnabled"):
            yield endpoint["ServiceName"]
