"""The operations of the EMR API that a fruits command calls.

Source: EMR API reference, the page of each operation. A wrong cluster id is an
InvalidRequestException there; its sentence is the one users of the API quote.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fruits_cli.rehearsal import catalogue
from fruits_cli.rehearsal import emr_answers as answers
from fruits_cli.rehearsal.admission import (
    admit_cluster,
    invalid,
    require_open,
    require_room,
    require_shape,
)
from fruits_cli.rehearsal.app_ui import OPERATIONS as APP_UI_OPERATIONS
from fruits_cli.rehearsal.app_ui import AppUis
from fruits_cli.rehearsal.cluster_life import USER_REQUEST, Lifecycle
from fruits_cli.rehearsal.host import Host
from fruits_cli.rehearsal.wire import Answer, Call, Refused, json_answer
from fruits_cli.rehearsal.world import ACCOUNT, Cluster, Fleet, Region, Step, find_cluster

Members = dict[str, Any]
_PAGE = 50
_STEP_STATES_TO_CANCEL = ("PENDING", "RUNNING")


class Emr:
    """Answers EMR's requests; what changes over time is in each cluster's Lifecycle."""

    def __init__(self, host: Host, app_uis: AppUis) -> None:
        self._host, self._app_uis = host, app_uis
        self._lifecycles: dict[str, Lifecycle] = {}

    def answer(self, call: Call, request: Members) -> Answer:
        answered = self._operation(call.action)
        require_shape(call.action, request)
        return json_answer(answered(self._host.world.region(call.region), request))

    def _operation(self, action: str) -> Callable[[Region, Members], Members]:
        if action in OPERATIONS:
            return partial(OPERATIONS[action], self)
        if action in APP_UI_OPERATIONS:
            return partial(APP_UI_OPERATIONS[action], self._app_uis)
        raise Refused("UnknownOperationException", f"The rehearsal has no {action}.")

    def end_all(self) -> None:
        """End every cluster at once and wait until the last process of a step has ended."""
        for lifecycle in self._lifecycles.values():
            lifecycle.ask_to_end(USER_REQUEST, at_once=True)
        for lifecycle in self._lifecycles.values():
            lifecycle.join(15)

    def run_job_flow(self, region: Region, request: Members) -> Members:
        applications = admit_cluster(request, region.name, self._host.clients)
        name = request.get("SecurityConfiguration")
        if name and name not in region.security_configurations:
            raise invalid(f"Security configuration with name '{name}' does not exist.")
        cluster = _new_cluster(region.name, request, applications)
        region.clusters[cluster.cluster_id] = cluster
        self._lifecycles[cluster.cluster_id] = Lifecycle(cluster, self._host)
        self._lifecycles[cluster.cluster_id].start()
        return {"JobFlowId": cluster.cluster_id, "ClusterArn": cluster.arn}

    def add_job_flow_steps(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["JobFlowId"])
        with cluster.changed:
            require_open(cluster)
            require_room(cluster, len(request["Steps"]))
            steps = [_new_step(given) for given in request["Steps"]]
            cluster.steps += steps
            cluster.changed.notify_all()
        return {"StepIds": [step.step_id for step in steps]}

    def cancel_steps(self, region: Region, request: Members) -> Members:
        """Asynchronous and without guarantee. Source: ManagementGuide, emr-cancel-steps."""
        cluster = find_cluster(region, request["ClusterId"])
        option = request.get("StepCancellationOption", "SEND_INTERRUPT")
        with cluster.changed:
            found = {step.step_id: step for step in cluster.steps}
            infos = [_cancel_step(found.get(given), given, option) for given in request["StepIds"]]
            cluster.changed.notify_all()
        return {"CancelStepsInfoList": infos}

    def describe_cluster(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        with cluster.changed:
            return {"Cluster": answers.cluster_details(cluster)}

    def list_clusters(self, region: Region, request: Members) -> Members:
        states = request.get("ClusterStates") or []
        after, before = request.get("CreatedAfter", 0), request.get("CreatedBefore", float("inf"))
        found = [
            answers.cluster_summary(cluster)
            for cluster in sorted(
                list(region.clusters.values()), key=lambda c: c.timeline.created, reverse=True
            )
            if (not states or cluster.state in states) and after < cluster.timeline.created < before
        ]
        return _page("Clusters", found, request)

    def describe_step(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        with cluster.changed:
            for step in cluster.steps:
                if step.step_id == request["StepId"]:
                    return {"Step": answers.step_details(step)}
        raise _bad_request(f"Step id '{request['StepId']}' is not valid.")

    def list_steps(self, region: Region, request: Members) -> Members:
        """Newest first, as the API reference says."""
        cluster = find_cluster(region, request["ClusterId"])
        states, ids = request.get("StepStates") or [], request.get("StepIds") or []
        if states and ids:
            raise invalid("Give either step ids or step states.")
        with cluster.changed:
            found = [
                answers.step_details(step)
                for step in reversed(cluster.steps)
                if (not states or step.state in states) and (not ids or step.step_id in ids)
            ]
        return _page("Steps", found, request)

    def list_instances(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        role, states = request.get("InstanceFleetType"), request.get("InstanceStates")
        with cluster.changed:
            found = [
                answers.node_details(node)
                for node in cluster.nodes
                if role in (None, node.role) and (not states or node.state in states)
            ]
        return _page("Instances", found, request, size=2000)

    def list_release_labels(self, region: Region, request: Members) -> Members:
        labels = catalogue.release_labels(region.name)
        return _page("ReleaseLabels", labels, request, token="NextToken")

    def describe_release_label(self, region: Region, request: Members) -> Members:
        label = request.get("ReleaseLabel", "")
        return {"ReleaseLabel": label, "Applications": catalogue.applications(label, region.name)}

    def list_supported_types(self, region: Region, request: Members) -> Members:
        found = catalogue.supported_types(request["ReleaseLabel"], region.name)
        return _page("SupportedInstanceTypes", found, request, size=100)

    def create_security_configuration(self, region: Region, request: Members) -> Members:
        name, created = request["Name"], round(time.time(), 3)
        if name in region.security_configurations:
            raise _bad_request(f"SecurityConfiguration with name '{name}' already exists.")
        region.security_configurations[name] = request | {"CreationDateTime": created}
        return {"Name": name, "CreationDateTime": created}

    def describe_security_configuration(self, region: Region, request: Members) -> Members:
        return region.security_configurations[_known_configuration(region, request)]

    def delete_security_configuration(self, region: Region, request: Members) -> Members:
        del region.security_configurations[_known_configuration(region, request)]
        return {}

    def get_public_access(self, region: Region, request: Members) -> Members:
        """On, with port 22 excepted. Source: ManagementGuide, emr-block-public-access."""
        return {
            "BlockPublicAccessConfiguration": {
                "BlockPublicSecurityGroupRules": True,
                "PermittedPublicSecurityGroupRuleRanges": [{"MinRange": 22, "MaxRange": 22}],
            },
            "BlockPublicAccessConfigurationMetadata": {
                "CreationDateTime": round(region.created, 3),
                "CreatedByArn": f"arn:aws:iam::{ACCOUNT}:root",
            },
        }

    def terminate_job_flows(self, region: Region, request: Members) -> Members:
        """Asynchronous; a cluster that has ended already is no error."""
        for cluster in [find_cluster(region, given) for given in request["JobFlowIds"]]:
            if not cluster.is_final:
                self._lifecycles[cluster.cluster_id].ask_to_end(USER_REQUEST)
        return {}


OPERATIONS: dict[str, Callable[[Emr, Region, Members], Members]] = {
    "RunJobFlow": Emr.run_job_flow,
    "AddJobFlowSteps": Emr.add_job_flow_steps,
    "CancelSteps": Emr.cancel_steps,
    "DescribeCluster": Emr.describe_cluster,
    "ListClusters": Emr.list_clusters,
    "DescribeStep": Emr.describe_step,
    "ListSteps": Emr.list_steps,
    "ListInstances": Emr.list_instances,
    "TerminateJobFlows": Emr.terminate_job_flows,
    "ListReleaseLabels": Emr.list_release_labels,
    "DescribeReleaseLabel": Emr.describe_release_label,
    "ListSupportedInstanceTypes": Emr.list_supported_types,
    "CreateSecurityConfiguration": Emr.create_security_configuration,
    "DescribeSecurityConfiguration": Emr.describe_security_configuration,
    "DeleteSecurityConfiguration": Emr.delete_security_configuration,
    "GetBlockPublicAccessConfiguration": Emr.get_public_access,
}


def _known_configuration(region: Region, request: Members) -> str:
    name = str(request["Name"])
    if name not in region.security_configurations:
        raise _bad_request(f"Security configuration with name '{name}' does not exist.")
    return name


def _bad_request(message: str) -> Refused:
    return Refused("InvalidRequestException", message)


def _new_cluster(region: str, request: Members, applications: list[dict[str, str]]) -> Cluster:
    instances = request["Instances"]
    return Cluster(
        region=region,
        request=request,
        applications=applications,
        # False unless said otherwise: the cluster ends after its last step.
        keep_alive=instances.get("KeepJobFlowAliveWhenNoSteps", False),
        tags={tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", [])},
        fleets=[Fleet(given["InstanceFleetType"], given) for given in instances["InstanceFleets"]],
        steps=[_new_step(given) for given in request.get("Steps", [])],
        auto_termination=request.get("AutoTerminationPolicy", {}),
    )


def _new_step(given: Members) -> Step:
    jar = given["HadoopJarStep"]
    return Step(
        name=given["Name"],
        action_on_failure=given.get("ActionOnFailure", "CONTINUE"),
        jar=jar["Jar"],
        args=tuple(jar.get("Args", [])),
        main_class=jar.get("MainClass", ""),
        properties={pair["Key"]: pair.get("Value", "") for pair in jar.get("Properties", [])},
    )


def _cancel_step(step: Step | None, step_id: str, option: str) -> dict[str, str]:
    if step is None or step.state not in _STEP_STATES_TO_CANCEL:
        reason = "The step does not exist or cannot be cancelled in its state."
        return {"StepId": step_id, "Status": "FAILED", "Reason": reason}
    if step.state == "PENDING":
        step.state = "CANCELLED"
    else:
        step.state, step.cancellation = "CANCEL_PENDING", option
    return {"StepId": step_id, "Status": "SUBMITTED"}


def _page(
    name: str, found: list[Any], request: Members, size: int = _PAGE, token: str = "Marker"
) -> Members:
    """One page; the marker is the number of entries shown so far."""
    try:
        first = int(request.get(token, "0"))
    except ValueError:
        raise _bad_request("The marker is not valid.") from None
    answer: Members = {name: found[first : first + size]}
    if first + size < len(found):
        answer[token] = str(first + size)
    return answer
