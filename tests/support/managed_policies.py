"""Of AWS's thousand managed policies moto keeps the one that fruits attaches: 1.5 s less a test."""

from __future__ import annotations

import json

import moto.iam.models

_OURS = "AmazonEMRServicePolicy_v2"


def keep_only_ours(known: str = moto.iam.models.aws_managed_policies_data) -> None:
    """Let moto's IAM begin with our policy alone; every new account reads them all otherwise."""
    moto.iam.models.aws_managed_policies_data = json.dumps({_OURS: json.loads(known)[_OURS]})
