"""The EMR API: policies, tags, releases, security configurations, public access.

Source: EMR API reference, the page of each operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fruits_cli.rehearsal import catalogue
from fruits_cli.rehearsal.admission import invalid, require_idle_timeout, require_open
from fruits_cli.rehearsal.wire import Refused
from fruits_cli.rehearsal.world import ACCOUNT, Cluster, Region

Members = dict[str, Any]
_PAGE = 100


def _cluster(region: Region, cluster_id: str) -> Cluster:
    cluster = region.clusters.get(cluster_id)
    if cluster is None:
        raise Refused("InvalidRequestException", f"Cluster id '{cluster_id}' is not valid.")
    return cluster


def _open_cluster(region: Region, cluster_id: str) -> Cluster:
    cluster = _cluster(region, cluster_id)
    require_open(cluster)
    return cluster


def put_auto_termination(region: Region, request: Members) -> Members:
    """60 to 604800 seconds; 60 minutes where none is given."""
    policy = request.get("AutoTerminationPolicy") or {}
    require_idle_timeout(policy)
    cluster = _open_cluster(region, request["ClusterId"])
    cluster.auto_termination = {"IdleTimeout": policy.get("IdleTimeout", 3600)}
    return {}


def get_auto_termination(region: Region, request: Members) -> Members:
    policy = _cluster(region, request["ClusterId"]).auto_termination
    return {"AutoTerminationPolicy": policy} if policy else {}


def remove_auto_termination(region: Region, request: Members) -> Members:
    _open_cluster(region, request["ClusterId"]).auto_termination = {}
    return {}


def put_managed_scaling(region: Region, request: Members) -> Members:
    """Kept and shown; nothing scales here."""
    limits = request["ManagedScalingPolicy"].get("ComputeLimits", {})
    if limits.get("MinimumCapacityUnits", 0) > limits.get("MaximumCapacityUnits", 0):
        raise invalid("MinimumCapacityUnits must not exceed MaximumCapacityUnits.")
    cluster = _open_cluster(region, request["ClusterId"])
    cluster.managed_scaling = request["ManagedScalingPolicy"]
    return {}


def get_managed_scaling(region: Region, request: Members) -> Members:
    policy = _cluster(region, request["ClusterId"]).managed_scaling
    return {"ManagedScalingPolicy": policy} if policy else {}


def remove_managed_scaling(region: Region, request: Members) -> Members:
    _open_cluster(region, request["ClusterId"]).managed_scaling = {}
    return {}


def set_protection(region: Region, request: Members) -> Members:
    for cluster_id in request["JobFlowIds"]:
        cluster = _open_cluster(region, cluster_id)
        cluster.is_protected = request["TerminationProtected"]
    return {}


def set_keep_alive(region: Region, request: Members) -> Members:
    for cluster_id in request["JobFlowIds"]:
        cluster = _open_cluster(region, cluster_id)
        with cluster.changed:
            cluster.keep_alive = request["KeepJobFlowAliveWhenNoSteps"]
            cluster.changed.notify_all()
    return {}


def set_unhealthy_replacement(region: Region, request: Members) -> Members:
    for cluster_id in request["JobFlowIds"]:
        cluster = _open_cluster(region, cluster_id)
        cluster.replaces_unhealthy = request["UnhealthyNodeReplacement"]
    return {}


def modify_cluster(region: Region, request: Members) -> Members:
    cluster = _open_cluster(region, request["ClusterId"])
    level = request.get("StepConcurrencyLevel", cluster.step_concurrency)
    if not 1 <= level <= 256:
        raise invalid("StepConcurrencyLevel is between 1 and 256.")
    cluster.step_concurrency = level
    return {"StepConcurrencyLevel": level}


def add_tags(region: Region, request: Members) -> Members:
    cluster = _cluster(region, request["ResourceId"])
    with cluster.changed:
        cluster.tags |= {tag["Key"]: tag.get("Value", "") for tag in request["Tags"]}
    return {}


def remove_tags(region: Region, request: Members) -> Members:
    cluster = _cluster(region, request["ResourceId"])
    with cluster.changed:
        gone = set(request["TagKeys"])
        cluster.tags = {key: value for key, value in cluster.tags.items() if key not in gone}
    return {}


def list_release_labels(region: Region, request: Members) -> Members:
    filters = request.get("Filters") or {}
    prefix, application = filters.get("Prefix", ""), filters.get("Application", "")
    wanted = application.partition("@")[0].lower()
    found = [
        label
        for label in catalogue.release_labels(region.name)
        if label.startswith(prefix)
        and (not wanted or wanted in _application_names(label, region.name))
    ]
    return _page("ReleaseLabels", found, request, "NextToken")


def _application_names(label: str, region: str) -> set[str]:
    return {entry["Name"].lower() for entry in catalogue.applications(label, region)}


def describe_release_label(region: Region, request: Members) -> Members:
    """The OS releases offered are a guess: nobody read the list of a real one."""
    label = request.get("ReleaseLabel", "")
    return {
        "ReleaseLabel": label,
        "Applications": catalogue.applications(label, region.name),
        "AvailableOSReleases": [{"Label": "2023.9.20260831.0"}],
    }


def list_supported_types(region: Region, request: Members) -> Members:
    found = catalogue.supported_types(request["ReleaseLabel"], region.name)
    return _page("SupportedInstanceTypes", found, request, "Marker")


def create_security_configuration(region: Region, request: Members) -> Members:
    name = request["Name"]
    if name in region.security_configurations:
        raise Refused(
            "InvalidRequestException", f"SecurityConfiguration with name '{name}' already exists."
        )
    created = round(time.time(), 3)
    region.security_configurations[name] = (request["SecurityConfiguration"], created)
    return {"Name": name, "CreationDateTime": created}


def describe_security_configuration(region: Region, request: Members) -> Members:
    name = request["Name"]
    document, created = _security_configuration(region, name)
    return {"Name": name, "SecurityConfiguration": document, "CreationDateTime": created}


def delete_security_configuration(region: Region, request: Members) -> Members:
    _security_configuration(region, request["Name"])
    del region.security_configurations[request["Name"]]
    return {}


def _security_configuration(region: Region, name: str) -> tuple[str, float]:
    if name not in region.security_configurations:
        raise Refused(
            "InvalidRequestException",
            f"Security configuration with name '{name}' does not exist.",
        )
    return region.security_configurations[name]


def list_security_configurations(region: Region, request: Members) -> Members:
    found = [
        {"Name": name, "CreationDateTime": created}
        for name, (_, created) in region.security_configurations.items()
    ]
    return _page("SecurityConfigurations", found, request, "Marker")


def get_public_access(region: Region, request: Members) -> Members:
    return {
        "BlockPublicAccessConfiguration": {
            "BlockPublicSecurityGroupRules": region.blocks_public_access,
            "PermittedPublicSecurityGroupRuleRanges": region.permitted_ports,
        },
        "BlockPublicAccessConfigurationMetadata": {
            "CreationDateTime": round(region.public_access_set, 3),
            "CreatedByArn": f"arn:aws:iam::{ACCOUNT}:root",
        },
    }


def put_public_access(region: Region, request: Members) -> Members:
    given = request["BlockPublicAccessConfiguration"]
    region.blocks_public_access = given["BlockPublicSecurityGroupRules"]
    region.permitted_ports = [
        {"MinRange": ports["MinRange"], "MaxRange": ports.get("MaxRange", ports["MinRange"])}
        for ports in given.get("PermittedPublicSecurityGroupRuleRanges", [])
    ]
    region.public_access_set = time.time()
    return {}


def _page(name: str, found: list[Any], request: Members, token: str) -> Members:
    try:
        first = int(request.get(token, "0"))
    except ValueError:
        raise Refused("InvalidRequestException", f"The {token} is not valid.") from None
    answer: Members = {name: found[first : first + _PAGE]}
    if first + _PAGE < len(found):
        answer[token] = str(first + _PAGE)
    return answer


SETTINGS: dict[str, Callable[[Region, Members], Members]] = {
    "PutAutoTerminationPolicy": put_auto_termination,
    "GetAutoTerminationPolicy": get_auto_termination,
    "RemoveAutoTerminationPolicy": remove_auto_termination,
    "PutManagedScalingPolicy": put_managed_scaling,
    "GetManagedScalingPolicy": get_managed_scaling,
    "RemoveManagedScalingPolicy": remove_managed_scaling,
    "SetTerminationProtection": set_protection,
    "SetKeepJobFlowAliveWhenNoSteps": set_keep_alive,
    "SetUnhealthyNodeReplacement": set_unhealthy_replacement,
    "ModifyCluster": modify_cluster,
    "AddTags": add_tags,
    "RemoveTags": remove_tags,
    "ListReleaseLabels": list_release_labels,
    "DescribeReleaseLabel": describe_release_label,
    "ListSupportedInstanceTypes": list_supported_types,
    "CreateSecurityConfiguration": create_security_configuration,
    "DescribeSecurityConfiguration": describe_security_configuration,
    "DeleteSecurityConfiguration": delete_security_configuration,
    "ListSecurityConfigurations": list_security_configurations,
    "GetBlockPublicAccessConfiguration": get_public_access,
    "PutBlockPublicAccessConfiguration": put_public_access,
}
