"""Clusters and steps on EMR."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from fruits_cli.aws import arguments as payloads
from fruits_cli.aws.answers import parse_cluster, parse_node, parse_spark_ui, parse_step
from fruits_cli.aws.clients import Clients, Service
from fruits_cli.aws.errors import asking, is_throttle
from fruits_cli.cloud.clusters import (
    EMR_NAME_PREFIX,
    Cluster,
    ClusterSpec,
    ClusterState,
    Node,
    SparkUi,
    Step,
    StepSpec,
)
from fruits_cli.cloud.protocols import Clock
from fruits_cli.errors import CloudError

_LIVE = [state.value for state in ClusterState if not state.is_final]
# The Spark History Server, as both calls spell it.
_SPARK_UI: Literal["SHS"] = "SHS"
_THROTTLE_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)


class AwsClusters(Service):
    """EMR as `cloud.Clusters` asks for it."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        super().__init__(clients)
        self._clock = clock

    def start_cluster(self, spec: ClusterSpec) -> str:
        payload = payloads.run_job_flow_payload(spec)
        with asking(f"start the cluster {spec.emr_name}", paid=True):
            answer = self._once(lambda emr: emr.run_job_flow(**payload))
            return _told_id(answer.get("JobFlowId"))

    def add_step(self, cluster_id: str, step: StepSpec) -> str:
        steps = [payloads.step_payload(step)]
        with asking(f"add a step to {cluster_id}", paid=True):
            answer = self._once(
                lambda emr: emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=steps)
            )
            return _told_id(*answer.get("StepIds", ())[:1])

    def _once(self, ask: Callable[[Any], Any]) -> Any:
        """The answer to a request without idempotency token.

        botocore would repeat it after a time-out, and so pay twice. A throttled request had no
        effect, so it is repeated here.
        """
        emr = self._clients("emr", once=True)
        for pause_s in _THROTTLE_PAUSES_S:
            try:
                return ask(emr)
            except ClientError as error:
                if not is_throttle(error):
                    raise
                self._clock.sleep(pause_s)
        return ask(emr)

    def find_clusters(
        self, *, live: bool, emr_name: str | None = None, since: datetime | None = None
    ) -> list[Cluster]:
        question: dict[str, Any] = {}
        if live:
            question["ClusterStates"] = _LIVE
        if since:
            question["CreatedAfter"] = since
        with asking("list the clusters"):
            pages = self._emr.get_paginator("list_clusters").paginate(**question)
            ids = [
                listed["Id"]
                for page in pages
                for listed in page.get("Clusters", ())
                if (
                    listed["Name"] == emr_name
                    if emr_name
                    else listed["Name"].startswith(EMR_NAME_PREFIX)
                )
            ]
        return [cluster for cluster_id in ids if (cluster := self.cluster(cluster_id)).is_ours]

    def cluster(self, cluster_id: str) -> Cluster:
        with asking(f"look at cluster {cluster_id}"):
            return parse_cluster(self._emr.describe_cluster(ClusterId=cluster_id)["Cluster"])

    def nodes(self, cluster_id: str) -> list[Node]:
        seen: dict[str, Node] = {}
        pages = self._emr.get_paginator("list_instances")
        for role, fleet in payloads.FLEETS.items():
            with asking(f"list the instances of {cluster_id}"):
                for page in pages.paginate(ClusterId=cluster_id, InstanceFleetType=fleet):
                    for instance in page.get("Instances", ()):
                        node = parse_node(instance, role)
                        seen.setdefault(node.instance_id, node)
        return list(seen.values())

    def steps(self, cluster_id: str) -> list[Step]:
        """The steps, the newest first, as EMR lists them."""
        with asking(f"list the steps of {cluster_id}"):
            pages = self._emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
            return [parse_step(step) for page in pages for step in page.get("Steps", ())]

    def step(self, cluster_id: str, step_id: str) -> Step:
        with asking(f"look at step {step_id}"):
            answer = self._emr.describe_step(ClusterId=cluster_id, StepId=step_id)
        if "Step" not in answer:
            raise CloudError(f"EMR does not know step {step_id} of {cluster_id}.")
        return parse_step(answer["Step"])

    def cancel_step(self, cluster_id: str, step_id: str, *, force: bool = False) -> None:
        """Ask EMR to cancel; it does so later. Raises CloudError where EMR says that it cannot."""
        payload = payloads.cancel_step_payload(cluster_id, step_id, force=force)
        with asking(f"cancel step {step_id}"):
            answer = self._emr.cancel_steps(**payload)
        for info in answer.get("CancelStepsInfoList", ()):
            if info.get("Status") == "FAILED":
                raise CloudError(f"EMR did not cancel {step_id}: {info.get('Reason', '')}")

    def stop_cluster(self, cluster_id: str) -> None:
        with asking(f"end cluster {cluster_id}"):
            self._emr.terminate_job_flows(JobFlowIds=[cluster_id])

    def create_spark_ui(self, cluster_arn: str) -> str:
        with asking("open the cluster's Spark UI", right="elasticmapreduce:CreatePersistentAppUI"):
            answer = self._emr.create_persistent_app_ui(
                TargetResourceArn=cluster_arn, ProfilerType=_SPARK_UI
            )
        return str(answer["PersistentAppUIId"])

    def spark_ui(self, ui_id: str) -> SparkUi:
        right = "elasticmapreduce:DescribePersistentAppUI"
        with asking("look at the cluster's Spark UI", right=right):
            answer = self._emr.describe_persistent_app_ui(PersistentAppUIId=ui_id)
        return parse_spark_ui(answer["PersistentAppUI"])

    def spark_ui_address(self, ui_id: str) -> str | None:
        right = "elasticmapreduce:GetPersistentAppUIPresignedURL"
        with asking("have the address of the cluster's Spark UI", right=right):
            answer = self._emr.get_persistent_app_ui_presigned_url(
                PersistentAppUIId=ui_id, PersistentAppUIType=_SPARK_UI
            )
        # EMR may give the address before it answers.
        ready = answer.get("PresignedURLReady")
        return str(answer["PresignedURL"]) if ready and answer.get("PresignedURL") else None


def _told_id(told: str | None = None) -> str:
    """The id in an answer to what costs money. Without one it is no answer of EMR's."""
    if not told:
        raise ResponseParserError("an answer without an id")
    return told
