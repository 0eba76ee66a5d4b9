"""EMR's answers as values of ours; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fruits_cli.cloud.clusters import (
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


def parse_cluster(answer: Mapping[str, Any]) -> Cluster:
    """The `Cluster` of DescribeCluster."""
    status = answer.get("Status", {})
    reason, timeline = status.get("StateChangeReason", {}), status.get("Timeline", {})
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
        errors=tuple(_error_detail(one) for one in status.get("ErrorDetails") or ()),
        log_uri=_log_uri(answer.get("LogUri")),
        zone=(answer.get("Ec2InstanceAttributes") or {}).get("Ec2AvailabilityZone"),
        primary_dns=answer.get("MasterPublicDnsName"),
        release_label=answer.get("ReleaseLabel", ""),
        arn=answer.get("ClusterArn", ""),
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
    for one in answer.get("ErrorData") or ():
        facts.update(one)
    return ErrorDetail(answer.get("ErrorCode", ""), answer.get("ErrorMessage", ""), facts)


def _log_uri(text: str | None) -> S3Uri | None:
    """EMR answers with s3n:// where s3:// was asked for, and without the slash at the end."""
    if not text or not is_s3_uri(text):
        return None
    uri = parse_s3_uri(text)
    return S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/")


def _utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment else None
