"""Clusters, steps and nodes as the EMR API shows them.

Source: EMR API reference, the data types Cluster, ClusterSummary, Step, StepSummary and
Instance. Members without a value are left out, as the service does.
"""

from __future__ import annotations

from typing import Any

from fruits_cli.rehearsal.world import Cluster, Node, Step, Timeline


def without_empty(**members: Any) -> dict[str, Any]:
    """The members that have a value; False and 0 are values."""
    return {name: value for name, value in members.items() if value not in (None, "")}


def timeline(times: Timeline) -> dict[str, float]:
    """CreationDateTime, ReadyDateTime and EndDateTime in seconds since 1970: the bill's source."""
    return _times(
        CreationDateTime=times.created, ReadyDateTime=times.ready, EndDateTime=times.ended
    )


def _times(**seconds: float | None) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items() if value is not None}


def _status(state: str, reason: dict[str, str], times: Timeline) -> dict[str, Any]:
    return {"State": state, "StateChangeReason": reason, "Timeline": timeline(times)}


def cluster_status(cluster: Cluster) -> dict[str, Any]:
    """ClusterStatus; ErrorDetails only where there are some."""
    ending = cluster.ending
    shows_reason = ending is not None and cluster.state.startswith("TERMINAT")
    reason: dict[str, str] = {}
    if ending is not None and shows_reason:
        reason = {"Code": ending.code, "Message": ending.message}
    status = _status(cluster.state, reason, cluster.timeline)
    if ending is not None and shows_reason and ending.details:
        status["ErrorDetails"] = ending.details
    return status


def cluster_summary(cluster: Cluster) -> dict[str, Any]:
    """ClusterSummary: neither tags nor addresses."""
    return {
        "Id": cluster.cluster_id,
        "Name": cluster.request["Name"],
        "Status": cluster_status(cluster),
        "ClusterArn": cluster.arn,
    }


# Members of RunJobFlow's request that DescribeCluster repeats unchanged.
_REPEATED = (
    "LogEncryptionKmsKeyId",
    "ReleaseLabel",
    "ServiceRole",
    "Configurations",
    "SecurityConfiguration",
    "ScaleDownBehavior",
    "CustomAmiId",
    "EbsRootVolumeSize",
    "EbsRootVolumeIops",
    "EbsRootVolumeThroughput",
    "OSReleaseLabel",
    "MonitoringConfiguration",
    "RepoUpgradeOnBoot",
)


def cluster_details(cluster: Cluster) -> dict[str, Any]:
    """Cluster, as DescribeCluster shows it."""
    request, primary = cluster.request, cluster.primary
    return cluster_summary(cluster) | without_empty(
        **{name: request[name] for name in _REPEATED if name in request},
        Ec2InstanceAttributes=_attributes(cluster),
        InstanceCollectionType="INSTANCE_FLEET",
        # The API answers with the connector's old scheme (seen in AWS samples).
        LogUri=request.get("LogUri", "").replace("s3://", "s3n://", 1),
        AutoTerminate=not cluster.keep_alive,
        TerminationProtected=False,
        UnhealthyNodeReplacement=request["Instances"].get("UnhealthyNodeReplacement", False),
        VisibleToAllUsers=True,
        Applications=cluster.applications,
        Tags=[{"Key": key, "Value": value} for key, value in cluster.tags.items()],
        MasterPublicDnsName=primary and (primary.public_dns or primary.private_dns),
        StepConcurrencyLevel=request.get("StepConcurrencyLevel", 1),
    )


def _attributes(cluster: Cluster) -> dict[str, Any]:
    instances = cluster.request["Instances"]
    return without_empty(
        Ec2KeyName=instances.get("Ec2KeyName"),
        Ec2SubnetId=cluster.subnet_id,
        RequestedEc2SubnetIds=instances.get("Ec2SubnetIds", []),
        Ec2AvailabilityZone=cluster.zone,
        RequestedEc2AvailabilityZones=[],
        IamInstanceProfile=cluster.request.get("JobFlowRole"),
        AdditionalMasterSecurityGroups=instances.get("AdditionalMasterSecurityGroups"),
        AdditionalSlaveSecurityGroups=instances.get("AdditionalSlaveSecurityGroups"),
        **cluster.security_groups,
    )


def step_details(step: Step) -> dict[str, Any]:
    """Step, which is StepSummary too where no runtime role was given.

    StateChangeReason.Code is always NONE; what failed is in FailureDetails.
    """
    status: dict[str, Any] = {
        "State": step.state,
        "StateChangeReason": without_empty(Message=step.message),
        "Timeline": _times(
            CreationDateTime=step.created, StartDateTime=step.started, EndDateTime=step.ended
        ),
    }
    if step.failure:
        status["FailureDetails"] = step.failure
    details = {
        "Id": step.step_id,
        "Name": step.name,
        "Config": without_empty(
            Jar=step.jar,
            Properties=step.properties,
            MainClass=step.main_class,
            Args=list(step.args),
        ),
        "ActionOnFailure": step.action_on_failure,
        "Status": status,
    }
    if step.application_id:
        details["AdditionalInfo"] = {
            "ResourceManager": "YARN",
            "ResourceManagerApplicationIds": [step.application_id],
        }
    return details


def node_details(node: Node) -> dict[str, Any]:
    """Instance."""
    return without_empty(
        InstanceFleetId=node.fleet_id,
        Id=node.node_id,
        Ec2InstanceId=node.instance_id,
        PublicDnsName=node.public_dns,
        PublicIpAddress=node.public_ip,
        PrivateDnsName=node.private_dns,
        PrivateIpAddress=node.private_ip,
        Status=_status(node.state, node.reason, node.timeline),
        Market=node.market,
        InstanceType=node.instance_type,
        EbsVolumes=list(node.volumes),
    )
