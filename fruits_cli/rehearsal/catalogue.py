"""Releases, their applications, instance types: mostly moto's lists."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from moto.emr.models import emr_backends

from fruits_cli.rehearsal.wire import Refused
from fruits_cli.rehearsal.world import ACCOUNT

# Source: ReleaseGuide, the application versions of each release (emr-facts.md, section 1).
_SPARK_7 = ("Hadoop", "Spark", "Hive", "Livy", "JupyterHub", "TensorFlow", "Zeppelin", "Hue")
_SPARK_8 = ("Hadoop", "Spark", "Livy")


def release_labels(region: str) -> list[str]:
    """Every release label of the region, newest first."""
    return list(_backend(region).list_release_labels())


def applications(label: str, region: str) -> list[dict[str, str]]:
    """Name of what a release can install. Raises Refused for an unknown release."""
    if label not in release_labels(region):
        raise Refused("ValidationException", f"The release label {label} is not valid.")
    names = _SPARK_8 if label.startswith("emr-spark-8") else _SPARK_7
    return [{"Name": name} for name in names]


def supported_types(label: str, region: str) -> list[dict[str, Any]]:
    """SupportedInstanceType of each type a release runs on. Raises Refused like `applications`."""
    applications(label, region)
    return list(_backend(region).list_supported_instance_types(label))


@lru_cache
def _all_types() -> dict[str, int]:
    known = _backend("us-east-1")._instance_types
    return {name: int(details["VCPU"]) for name, details in known.items()}


def vcpus_of(instance_type: str) -> int:
    """vCPUs of a type, 0 for one that EMR does not know."""
    return _all_types().get(instance_type, 0)


def _backend(region: str) -> Any:
    return emr_backends[ACCOUNT][region]
