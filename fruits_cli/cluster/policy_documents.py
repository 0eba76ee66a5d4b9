"""The IAM documents of `fruits init --policies`, for an administrator to read and apply."""

from __future__ import annotations

import json
from typing import Any

from fruits_cli.cloud.account import Identity
from fruits_cli.cloud.policies import (
    administrator_policy,
    caller_policy,
    instance_role,
    service_role,
)
from fruits_cli.cluster.foundations import scope_of
from fruits_cli.config import Config

Documents = dict[str, dict[str, Any]]

_HEADS = {
    "caller": "For whoever runs fruits from day to day; it writes nothing into IAM",
    "administrator": "For the administrator who makes the first launch (or the two roles below)",
    "service": "EMR's own role",
    "ec2": "The role of the nodes, and the instance profile of the same name",
}


def policy_documents(config: Config, identity: Identity | None, region: str) -> Documents:
    """The documents for this bucket and prefix; ACCOUNT_ID stands for an unknown account.

    Raises ConfigError where no bucket is configured.
    """
    scope = scope_of(config, identity or Identity("ACCOUNT_ID", ""), region)
    service, nodes = service_role(scope), instance_role(scope)
    return {
        "caller": {"policy": caller_policy(scope)},
        "administrator": {"policy": administrator_policy(scope)},
        "service": {
            "role": service.name,
            "trust": service.trust,
            "policy": service.policy,
            "managed_policy_arn": service.managed_arn,
        },
        "ec2": {"role": nodes.name, "trust": nodes.trust, "policy": nodes.policy},
    }


def document_lines(documents: Documents) -> list[str]:
    """Each document as JSON, below a comment that says whose it is."""
    lines = []
    for name, parts in documents.items():
        lines.append(f"# {_HEADS[name]}" + (f": {parts['role']}" if "role" in parts else ""))
        for kind in ("trust", "policy"):
            if kind in parts:
                lines += [f"# {name} {kind}", *json.dumps(parts[kind], indent=2).splitlines()]
        if "managed_policy_arn" in parts:
            lines.append(f"# managed policy to attach: {parts['managed_policy_arn']}")
    return lines
