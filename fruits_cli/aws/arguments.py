"""Builds the arguments of boto3 calls; pure.

Sources: the API references of EMR, S3, EC2 and IAM, as botocore's models hold them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from fruits_cli.cloud.clusters import (
    MANAGED_POLICY_TAG,
    BootstrapAction,
    ClusterSpec,
    Market,
    NodeGroup,
    Role,
    StepSpec,
)
from fruits_cli.s3uri import S3Uri

FLEETS = {Role.PRIMARY: "MASTER", Role.CORE: "CORE", Role.TASK: "TASK"}
_SPOT_TIMEOUT_MIN = 10
_NOTEBOOKS = "JupyterHub"


def run_job_flow_payload(spec: ClusterSpec) -> dict[str, Any]:
    """Arguments for `emr.run_job_flow`.

    IdleTimeout: 60 to 604800 s. Source: EMR API reference, RunJobFlow.
    """
    payload: dict[str, Any] = {
        "Name": spec.emr_name,
        "ReleaseLabel": spec.release_label,
        "Applications": [{"Name": name} for name in spec.applications],
        "LogUri": str(spec.log_uri),
        "ServiceRole": spec.service_role,
        "JobFlowRole": spec.instance_profile,
        "SecurityConfiguration": spec.security_configuration,
        "Instances": _instances(spec),
        "Configurations": _configurations(spec),
        "BootstrapActions": [_bootstrap_action(action) for action in spec.bootstrap],
        "EbsRootVolumeSize": spec.root_volume_gib,
        "ScaleDownBehavior": "TERMINATE_AT_TASK_COMPLETION",
        # CANCEL_AND_WAIT and TERMINATE_CLUSTER are refused where steps run side by side.
        "StepConcurrencyLevel": 1,
        "Tags": tags_payload({**spec.tags, MANAGED_POLICY_TAG: "true"}),
    }
    if spec.step:
        payload["Steps"] = [step_payload(spec.step)]
    if spec.idle_timeout_s is not None:
        payload["AutoTerminationPolicy"] = {"IdleTimeout": spec.idle_timeout_s}
    if spec.managed_max is not None:
        payload["ManagedScalingPolicy"] = _managed_scaling(spec)
    return payload


def _instances(spec: ClusterSpec) -> dict[str, Any]:
    instances: dict[str, Any] = {
        "InstanceFleets": [_fleet(group) for group in spec.groups if group.count],
        "KeepJobFlowAliveWhenNoSteps": spec.keep_alive,
        "TerminationProtected": False,
        "UnhealthyNodeReplacement": True,
    }
    if spec.subnets:
        instances["Ec2SubnetIds"] = list(spec.subnets)
    if spec.key_name:
        instances["Ec2KeyName"] = spec.key_name
    if spec.ssh_group_id:
        instances["AdditionalMasterSecurityGroups"] = [spec.ssh_group_id]
    return instances


def _fleet(group: NodeGroup) -> dict[str, Any]:
    spot = group.market is Market.SPOT
    fleet: dict[str, Any] = {
        "Name": group.role.value,
        "InstanceFleetType": FLEETS[group.role],
        "TargetSpotCapacity" if spot else "TargetOnDemandCapacity": group.count,
        "InstanceTypeConfigs": [{"InstanceType": group.instance_type}],
    }
    # EMR refuses a weight for the primary node, whose capacity is always 1.
    if group.role is not Role.PRIMARY:
        fleet["InstanceTypeConfigs"][0]["WeightedCapacity"] = 1
    specifications: dict[str, Any] = {
        "OnDemandSpecification": {"AllocationStrategy": "lowest-price"}
    }
    if spot:
        fleet["InstanceTypeConfigs"][0]["BidPriceAsPercentageOfOnDemandPrice"] = 100.0
        specifications["SpotSpecification"] = {
            "TimeoutDurationMinutes": _SPOT_TIMEOUT_MIN,
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            "AllocationStrategy": "price-capacity-optimized",
        }
    return {**fleet, "LaunchSpecifications": specifications}


def _configurations(spec: ClusterSpec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    has_spot = any(group.market is Market.SPOT for group in spec.groups)
    if has_spot and _can_label_nodes(spec.release_label):
        # A Spot node that is taken away would end the job with its application master. Source:
        # EMR best practices, managed scaling: AM exclusivity to On-Demand nodes.
        labels = {
            "yarn.node-labels.enabled": "true",
            "yarn.node-labels.am.default-node-label-expression": "ON_DEMAND",
        }
        found.append(_classified("yarn-site", labels))
    if spec.python:
        # Both, so that steps and Livy's sessions find the same interpreter.
        found.append(_classified("spark-defaults", {"spark.pyspark.python": spec.python}))
        export = _classified("export", {"PYSPARK_PYTHON": spec.python})
        found.append(_classified("spark-env", {}) | {"Configurations": [export]})
    if spec.notebook_bucket and _NOTEBOOKS in spec.applications:
        persistence = {
            "s3.persistence.enabled": "true",
            "s3.persistence.bucket": spec.notebook_bucket,
        }
        found.append(_classified("jupyter-s3-conf", persistence))
    if "Livy" in spec.applications:
        sessions = {
            "livy.server.session.timeout": "2h",
            "livy.server.yarn.app-lookup-timeout": "120s",
        }
        found.append(_classified("livy-conf", sessions))
    return found


def _classified(name: str, properties: dict[str, str]) -> dict[str, Any]:
    return {"Classification": name, "Properties": properties}


def _can_label_nodes(release_label: str) -> bool:
    """EMR labels nodes by their market from 7.2 on."""
    found = re.match(r"emr-7\.(\d+)\.", release_label)
    return found is not None and int(found[1]) >= 2


def _bootstrap_action(action: BootstrapAction) -> dict[str, Any]:
    script = {"Path": str(action.script), "Args": list(action.args)}
    return {"Name": action.name, "ScriptBootstrapAction": script}


def _managed_scaling(spec: ClusterSpec) -> dict[str, Any]:
    """Limits that EMR takes: none above the maximum, and room to grow into.

    Source: EMR API reference, ComputeLimits.
    """
    core = sum(group.count for group in spec.groups if group.role is Role.CORE)
    task = [group for group in spec.groups if group.role is Role.TASK]
    most = max(spec.managed_max or 0, core)
    grows_on_spot = any(group.market is Market.SPOT for group in task)
    return {
        "ComputeLimits": {
            "UnitType": "InstanceFleetUnits",
            "MinimumCapacityUnits": core,
            "MaximumCapacityUnits": most,
            "MaximumOnDemandCapacityUnits": core if grows_on_spot else most,
            # Without a task fleet only the core fleet can grow.
            "MaximumCoreCapacityUnits": core if task else most,
        }
    }


def step_payload(step: StepSpec) -> dict[str, Any]:
    """One StepConfig of `emr.add_job_flow_steps` and `emr.run_job_flow`."""
    return {
        "Name": step.name,
        "ActionOnFailure": step.on_failure.value,
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": list(step.args)},
    }


def cancel_step_payload(cluster_id: str, step_id: str, *, force: bool) -> dict[str, Any]:
    """Arguments for `emr.cancel_steps`."""
    option = "TERMINATE_PROCESS" if force else "SEND_INTERRUPT"
    return {"ClusterId": cluster_id, "StepIds": [step_id], "StepCancellationOption": option}


def put_object_payload(
    uri: S3Uri, *, sha256: bytes | None = None, if_absent: bool = False, if_etag: str | None = None
) -> dict[str, Any]:
    """Arguments for `s3.put_object`, less the body.

    With `sha256` (32 bytes) S3 refuses a body that has another digest.
    """
    payload: dict[str, Any] = {"Bucket": uri.bucket, "Key": uri.key}
    if sha256 is not None:
        payload["ChecksumAlgorithm"] = "SHA256"
        payload["ChecksumSHA256"] = base64.b64encode(sha256).decode()
    if if_absent:
        payload["IfNoneMatch"] = "*"
    if if_etag is not None:
        payload["IfMatch"] = if_etag
    return payload


def create_bucket_payload(bucket: str, region: str) -> dict[str, Any]:
    """Arguments for `s3.create_bucket`: us-east-1 is the one region that may not be named."""
    payload: dict[str, Any] = {"Bucket": bucket, "ObjectOwnership": "BucketOwnerEnforced"}
    if region != "us-east-1":
        payload["CreateBucketConfiguration"] = {"LocationConstraint": region}
    return payload


def lifecycle_payload(bucket: str) -> dict[str, Any]:
    """Arguments for `s3.put_bucket_lifecycle_configuration`: unfinished uploads go after a week.

    Source: S3 User Guide, configuring a lifecycle to delete incomplete multipart uploads.
    """
    rule = {
        "ID": "fruits: unfinished uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    return {"Bucket": bucket, "LifecycleConfiguration": {"Rules": [rule]}}


def security_configuration_payload(
    name: str, *, hop_limit: int, kms_key: str | None
) -> dict[str, Any]:
    """Arguments for `emr.create_security_configuration`: IMDSv2 alone, EBS encrypted with a key.

    Source: EMR Management Guide, create a security configuration.
    """
    document: dict[str, Any] = {
        "InstanceMetadataServiceConfiguration": {
            "MinimumInstanceMetadataServiceVersion": 2,
            "HttpPutResponseHopLimit": hop_limit,
        }
    }
    if kms_key:
        disks = {
            "EncryptionKeyProviderType": "AwsKms",
            "AwsKmsKey": kms_key,
            "EnableEbsEncryption": True,
        }
        document["EncryptionConfiguration"] = {
            "EnableInTransitEncryption": False,
            "EnableAtRestEncryption": True,
            "AtRestEncryptionConfiguration": {"LocalDiskEncryptionConfiguration": disks},
        }
    return {"Name": name, "SecurityConfiguration": json.dumps(document)}


def ssh_group_payload(group_name: str, vpc_id: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for `ec2.create_security_group`: a group without any inbound rule."""
    return {
        "GroupName": group_name,
        "Description": "SSH to the primary node of a fruits cluster",
        "VpcId": vpc_id,
        "TagSpecifications": [
            {
                "ResourceType": "security-group",
                "Tags": tags_payload({**tags, MANAGED_POLICY_TAG: "true"}),
            }
        ],
    }


def ssh_ingress_payload(group_id: str, cidr: str, *, note: str | None = None) -> dict[str, Any]:
    """Arguments for `ec2.authorize_security_group_ingress`, without a note for `revoke_...`.

    Port 22 for one address range, IPv4 or IPv6. Raises ValueError for all the world's.
    """
    network = ip_network(cidr)
    if network.prefixlen == 0:
        raise ValueError(f"Port 22 is never opened to {cidr}.")
    ranges, key = ("IpRanges", "CidrIp") if network.version == 4 else ("Ipv6Ranges", "CidrIpv6")
    described = {key: cidr} if note is None else {key: cidr, "Description": note}
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, ranges: [described]}
    return {"GroupId": group_id, "IpPermissions": [permission]}


def import_key_pair_payload(
    key_name: str, public: bytes, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Arguments for `ec2.import_key_pair`; public: a line in OpenSSH's format, RSA or Ed25519."""
    return {
        "KeyName": key_name,
        "PublicKeyMaterial": public,
        "TagSpecifications": [{"ResourceType": "key-pair", "Tags": tags_payload(tags)}],
    }


def primary_instances_payload(cluster_id: str, *, fleets: bool) -> dict[str, Any]:
    """Arguments for `emr.list_instances`: the primary node that runs now."""
    which: dict[str, Any] = (
        {"InstanceFleetType": "MASTER"} if fleets else {"InstanceGroupTypes": ["MASTER"]}
    )
    return {"ClusterId": cluster_id, "InstanceStates": ["RUNNING"], **which}


def role_payload(name: str, trust: Mapping[str, Any], *, tags: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for `iam.create_role`."""
    return {
        "RoleName": name,
        "AssumeRolePolicyDocument": json.dumps(trust),
        "Description": "Made by fruits for its clusters",
        "Tags": tags_payload(tags),
    }


def ec2_price_payload(instance_type: str, region: str) -> dict[str, Any]:
    """Arguments for `pricing.get_products`: Linux on demand, shared tenancy."""
    return _price_payload(
        "AmazonEC2",
        {
            "regionCode": region,
            "instanceType": instance_type,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        },
    )


def emr_price_payload(instance_type: str, region: str) -> dict[str, Any]:
    """Arguments for `pricing.get_products`: what EMR adds on EC2."""
    return _price_payload(
        "ElasticMapReduce",
        {
            "regionCode": region,
            "instanceType": instance_type,
            "productFamily": "Elastic Map Reduce Instance",
            "softwareType": "EMR",
        },
    )


def _price_payload(service: str, fields: Mapping[str, str]) -> dict[str, Any]:
    filters = [
        {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()
    ]
    return {"ServiceCode": service, "Filters": filters, "FormatVersion": "aws_v1"}


def filters_payload(wanted: Mapping[str, str | Sequence[str]]) -> list[dict[str, Any]]:
    """Filters of EC2's describe calls: name to a value, or to several of which one is enough."""
    return [
        {"Name": name, "Values": [value] if isinstance(value, str) else list(value)}
        for name, value in wanted.items()
    ]


def tags_payload(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as EMR, EC2 and IAM spell them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
