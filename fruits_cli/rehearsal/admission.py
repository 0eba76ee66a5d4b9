"""What EMR refuses at once: shapes, releases, applications, roles, and what is missing here.

Sources: EMR API reference, RunJobFlow; emr-facts.md, sections 3, 4, 7 and 11. EMR's own sentences
may read otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from botocore.model import Shape
from botocore.validate import ParamValidator

from fruits_cli.cloud.account import CLEANUP_ROLE
from fruits_cli.rehearsal.catalogue import applications
from fruits_cli.rehearsal.host import Clients
from fruits_cli.rehearsal.wire import Refused
from fruits_cli.rehearsal.world import Cluster

MODEL = botocore.session.Session().get_service_model("emr")
_MOST_STEPS = 256


def invalid(message: str) -> Refused:
    """EMR's usual refusal."""
    return Refused("ValidationException", message)


def require_shape(action: str, request: dict[str, Any]) -> None:
    """Refuse what botocore's model of the request does not allow, enum values included."""
    shape = MODEL.operation_model(action).input_shape
    if shape is None:
        return
    report = ParamValidator().validate(_with_times(request, shape), shape)
    if report.has_errors():
        raise invalid(report.generate_report())
    for path, value, allowed in _wrong_enums(request, shape, action):
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy "
            f"constraint: Member must satisfy enum value set: {allowed}"
        )


def _with_times(request: dict[str, Any], shape: Any) -> dict[str, Any]:
    """botocore's validator wants no numbers where JSON sends times."""
    kinds = {name: member.type_name for name, member in shape.members.items()}
    return {name: value for name, value in request.items() if kinds.get(name) != "timestamp"}


def _wrong_enums(value: Any, shape: Shape, path: str) -> Iterable[tuple[str, str, list[str]]]:
    members: Any = getattr(shape, "members", {})
    if shape.type_name == "structure":
        for name, inner in value.items():
            if name in members:
                yield from _wrong_enums(inner, members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for index, inner in enumerate(value):
            yield from _wrong_enums(inner, shape.member, f"{path}[{index}]")  # type: ignore[attr-defined]
    elif getattr(shape, "enum", None) and value not in shape.enum:  # type: ignore[attr-defined]
        yield path, value, shape.enum  # type: ignore[attr-defined]


def admit_cluster(request: dict[str, Any], region: str, clients: Clients) -> list[dict[str, str]]:
    """The applications of a cluster that may be launched. Raises Refused."""
    if "ReleaseLabel" not in request:
        raise invalid("A release label is required.")
    chosen = _chosen(request, applications(request["ReleaseLabel"], region))
    _admit_roles(request, clients.client("iam", region))
    _admit_instances(request["Instances"])
    idle_s = request.get("AutoTerminationPolicy", {}).get("IdleTimeout", 3600)
    if not 60 <= idle_s <= 604800:
        raise invalid("IdleTimeout is between 60 and 604800 seconds.")
    return chosen


def _chosen(request: dict[str, Any], offered: list[dict[str, str]]) -> list[dict[str, str]]:
    by_name = {entry["Name"].lower(): entry for entry in offered}
    chosen = []
    for application in request.get("Applications", []):
        name = application["Name"]
        if name.lower() not in by_name:
            raise invalid(f"Specified application: {name} is not supported by this release.")
        chosen.append(by_name[name.lower()])
    return chosen


def _admit_roles(request: dict[str, Any], iam: Any) -> None:
    profile, service_role = request.get("JobFlowRole"), request.get("ServiceRole")
    if not profile:
        raise invalid("InstanceProfile is required for creating cluster.")
    if not service_role:
        raise invalid("ServiceRole is required for creating cluster.")
    try:
        iam.get_role(RoleName=CLEANUP_ROLE.name)
    except ClientError:
        raise invalid(f"Service-linked role '{CLEANUP_ROLE.name}' for EMR is required.") from None
    try:
        roles = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    except ClientError:
        raise invalid(f"Invalid InstanceProfile: {profile}.") from None
    if [role["RoleName"] for role in roles] != [profile]:
        raise invalid(f"Invalid InstanceProfile: {profile}. Role and profile need one name.")
    try:
        iam.get_role(RoleName=service_role.rpartition("/")[2])
    except ClientError:
        raise invalid(f"{service_role} is invalid.") from None


def _admit_instances(instances: dict[str, Any]) -> None:
    fleets = {fleet["InstanceFleetType"]: fleet for fleet in instances.get("InstanceFleets", [])}
    if "MASTER" not in fleets:
        raise invalid("A cluster of the rehearsal needs instance fleets, one of them MASTER.")
    if instances.get("TerminationProtected"):
        raise invalid("The rehearsal has no termination protection.")
    if any("WeightedCapacity" in config for config in fleets["MASTER"]["InstanceTypeConfigs"]):
        raise invalid("WeightedCapacity must not be given for the primary fleet.")


def require_open(cluster: Cluster) -> None:
    """Refuse to change a cluster that ends or has ended."""
    if cluster.state.startswith("TERMINAT") or cluster.ending is not None:
        raise invalid(
            "A job flow that is shutting down, terminating, or finished may not be modified."
        )


def require_room(cluster: Cluster, added: int) -> None:
    """Refuse more steps than may run and wait. Source: ManagementGuide, emr-work-with-steps."""
    if added + sum(not step.is_final for step in cluster.steps) > _MOST_STEPS:
        raise invalid(f"A cluster takes {_MOST_STEPS} pending and active steps.")
