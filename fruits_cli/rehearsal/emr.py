"""The EMR API: clusters, steps, fleets and nodes.

Source: EMR API reference, the page of each operation. A wrong cluster id is an
InvalidRequestException there; its sentence is the one users of the API quote.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fruits_cli.rehearsal import emr_answers as answers
from fruits_cli.rehearsal.admission import (
    admit_cluster,
    admit_steps,
    invalid,
    require_open,
    require_shape,
)
from fruits_cli.rehearsal.app_ui import OPERATIONS as APP_UI_OPERATIONS
from fruits_cli.rehearsal.app_ui import AppUis
from fruits_cli.rehearsal.cluster_life import USER_REQUEST, Life
from fruits_cli.rehearsal.emr_settings import SETTINGS
from fruits_cli.rehearsal.inside import Inside
from fruits_cli.rehearsal.wire import Answer, Call, Refused, json_answer
from fruits_cli.rehearsal.world import Cluster, Fleet, Region, Step, World, new_id

Members = dict[str, Any]
_PAGE = 50
_STEP_STATES_TO_CANCEL = ("PENDING", "RUNNING")


class Emr:
    """Answers EMR's requests; what happens over time happens in a cluster's Life."""

    def __init__(
        self,
        world: World,
        inside: Inside,
        begin: Callable[[Cluster, Region], Life],
        app_uis: AppUis,
    ) -> None:
        self._world, self._inside, self._begin = world, inside, begin
        self._app_uis = app_uis
        self._lives: dict[str, Life] = {}

    def answer(self, call: Call, request: Members) -> Answer:
        answered = self._operation(call.action)
        require_shape(call.action, request)
        return json_answer(answered(self._world.region(call.region), request))

    def _operation(self, action: str) -> Callable[[Region, Members], Members]:
        if action in _OPERATIONS:
            return partial(_OPERATIONS[action], self)
        if action in APP_UI_OPERATIONS:
            return partial(APP_UI_OPERATIONS[action], self._app_uis)
        if action in SETTINGS:
            return SETTINGS[action]
        raise Refused("UnknownOperationException", f"The rehearsal has no {action}.")

    def end_all(self) -> None:
        """End every cluster at once and wait until the last process of a step is gone."""
        for life in self._lives.values():
            life.ask_to_end(USER_REQUEST, at_once=True)
        for life in self._lives.values():
            life.join(15)

    def run_job_flow(self, region: Region, request: Members) -> Members:
        applications = admit_cluster(request, region.name, self._inside)
        name = request.get("SecurityConfiguration")
        if name and name not in region.security_configurations:
            raise invalid(f"Security configuration with name '{name}' does not exist.")
        cluster = _new_cluster(region.name, request, applications)
        region.clusters[cluster.cluster_id] = cluster
        self._lives[cluster.cluster_id] = self._begin(cluster, region)
        return {"JobFlowId": cluster.cluster_id, "ClusterArn": cluster.arn}

    def add_job_flow_steps(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["JobFlowId"])
        with cluster.changed:
            require_open(cluster)
            waiting = sum(not step.is_final for step in cluster.steps)
            admit_steps(request["Steps"], cluster.step_concurrency, waiting=waiting)
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
            infos = [_cancelled(found.get(given), given, option) for given in request["StepIds"]]
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
        raise _unknown(f"Step id '{request['StepId']}' is not valid.")

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

    def list_instance_fleets(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        if not cluster.uses_fleets:
            raise _unknown("Instance fleets and instance groups are mutually exclusive.")
        with cluster.changed:
            found = [answers.fleet_details(cluster, fleet) for fleet in cluster.fleets]
        return _page("InstanceFleets", found, request)

    def list_instance_groups(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        if cluster.uses_fleets:
            raise _unknown("Instance fleets and instance groups are mutually exclusive.")
        with cluster.changed:
            found = [answers.group_details(cluster, fleet) for fleet in cluster.fleets]
        return _page("InstanceGroups", found, request)

    def list_instances(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        kinds = request.get("InstanceGroupTypes") or []
        kinds += [request["InstanceFleetType"]] if "InstanceFleetType" in request else []
        states = request.get("InstanceStates") or []
        place = request.get("InstanceFleetId") or request.get("InstanceGroupId")
        with cluster.changed:
            found = [
                answers.node_details(cluster, node)
                for node in cluster.nodes
                if (not kinds or node.role in kinds)
                and (not states or node.state in states)
                and (not place or node.fleet_id == place)
            ]
        return _page("Instances", found, request, size=2000)

    def list_bootstrap_actions(self, region: Region, request: Members) -> Members:
        cluster = find_cluster(region, request["ClusterId"])
        found = [
            answers.present(
                Name=action["Name"],
                ScriptPath=action["ScriptBootstrapAction"]["Path"],
                Args=action["ScriptBootstrapAction"].get("Args", []),
            )
            for action in cluster.request.get("BootstrapActions", [])
        ]
        return _page("BootstrapActions", found, request)

    def terminate_job_flows(self, region: Region, request: Members) -> Members:
        """Asynchronous; a cluster that is gone already is no error, a protected one is."""
        if len(request["JobFlowIds"]) > 10:
            raise invalid("At most 10 job flows can be terminated at once.")
        clusters = [find_cluster(region, given) for given in request["JobFlowIds"]]
        protected = [cluster for cluster in clusters if cluster.is_protected]
        for cluster in clusters:
            if not cluster.is_protected and not cluster.is_final:
                self._lives[cluster.cluster_id].ask_to_end(USER_REQUEST)
        if protected:
            raise invalid(
                "Could not shut down one or more job flows since they are termination protected."
            )
        return {}


_OPERATIONS: dict[str, Callable[[Emr, Region, Members], Members]] = {
    "RunJobFlow": Emr.run_job_flow,
    "AddJobFlowSteps": Emr.add_job_flow_steps,
    "CancelSteps": Emr.cancel_steps,
    "DescribeCluster": Emr.describe_cluster,
    "ListClusters": Emr.list_clusters,
    "DescribeStep": Emr.describe_step,
    "ListSteps": Emr.list_steps,
    "ListInstanceFleets": Emr.list_instance_fleets,
    "ListInstanceGroups": Emr.list_instance_groups,
    "ListInstances": Emr.list_instances,
    "ListBootstrapActions": Emr.list_bootstrap_actions,
    "TerminateJobFlows": Emr.terminate_job_flows,
}


def find_cluster(region: Region, cluster_id: str) -> Cluster:
    """The cluster of that id. Raises Refused as EMR does."""
    cluster = region.clusters.get(cluster_id)
    if cluster is None:
        raise _unknown(f"Cluster id '{cluster_id}' is not valid.")
    return cluster


def _unknown(message: str) -> Refused:
    return Refused("InvalidRequestException", message)


def _new_cluster(region: str, request: Members, applications: list[dict[str, str]]) -> Cluster:
    instances = request["Instances"]
    return Cluster(
        region=region,
        request=request,
        applications=applications,
        # False unless said otherwise: the cluster ends after its last step.
        keep_alive=instances.get("KeepJobFlowAliveWhenNoSteps", False),
        is_protected=instances.get("TerminationProtected", False),
        tags={tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", [])},
        fleets=[
            Fleet(given["InstanceFleetType"], given, new_id("if-"))
            for given in instances.get("InstanceFleets", [])
        ]
        + [
            Fleet(given["InstanceRole"], given, new_id("ig-"))
            for given in instances.get("InstanceGroups", [])
        ],
        steps=[_new_step(given) for given in request.get("Steps", [])],
        auto_termination=request.get("AutoTerminationPolicy", {}),
        managed_scaling=request.get("ManagedScalingPolicy", {}),
        replaces_unhealthy=instances.get("UnhealthyNodeReplacement", False),
        step_concurrency=request.get("StepConcurrencyLevel", 1),
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


def _cancelled(step: Step | None, step_id: str, option: str) -> dict[str, str]:
    if step is None or step.state not in _STEP_STATES_TO_CANCEL:
        reason = "The step does not exist or cannot be cancelled in its state."
        return {"StepId": step_id, "Status": "FAILED", "Reason": reason}
    if step.state == "PENDING":
        step.state = "CANCELLED"
    else:
        step.state, step.cancellation = "CANCEL_PENDING", option
    return {"StepId": step_id, "Status": "SUBMITTED"}


def _page(name: str, found: list[Members], request: Members, size: int = _PAGE) -> Members:
    """One page; the marker is the number of what was shown (opaque to callers)."""
    try:
        first = int(request.get("Marker", "0"))
    except ValueError:
        raise _unknown("The marker is not valid.") from None
    answer: Members = {name: found[first : first + size]}
    if first + size < len(found):
        answer["Marker"] = str(first + size)
    return answer
