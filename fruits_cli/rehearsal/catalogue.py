"""Releases, applications, instance types: moto's lists, versions out of the release notes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from moto.emr.models import emr_backends

from fruits_cli.rehearsal.wire import Refused
from fruits_cli.rehearsal.world import ACCOUNT

# Source: ReleaseGuide, the application versions of each release (emr-facts.md, section 1). Of a
# release that is not here only the applications' names are known: their version is a guess.
_SPARK_7 = ("Hadoop", "Spark", "Hive", "Livy", "JupyterHub", "TensorFlow", "Zeppelin", "Hue")
_VERSIONS: dict[str, dict[str, str]] = {
    "emr-7.14.0": {"Hadoop": "3.4.2", "Spark": "3.5.8", "Livy": "0.8.0", "JupyterHub": "1.5.0",
                   "TensorFlow": "2.19.0"},
    "emr-7.13.0": {"Hadoop": "3.4.2", "Spark": "3.5.6", "Livy": "0.8.0", "JupyterHub": "1.5.0",
                   "TensorFlow": "2.19.0"},
    "emr-7.12.0": {"Hadoop": "3.4.1", "Spark": "3.5.6", "Livy": "0.8.0", "JupyterHub": "1.5.0",
                   "TensorFlow": "2.19.0"},
    "emr-6.15.0": {"Hadoop": "3.3.6", "Spark": "3.4.1", "Livy": "0.7.1", "JupyterHub": "1.5.0",
                   "TensorFlow": "2.11.0"},
    "emr-spark-8.0.0": {"Hadoop": "3.4.2", "Spark": "4.0.2", "Livy": "0.8.0"},
}  # fmt: skip
# The Spark 4 train ships neither JupyterHub nor TensorFlow.
_SPARK_8 = ("Hadoop", "Spark", "Livy")


def release_labels(region: str) -> list[str]:
    """Every release label of the region, newest first."""
    return list(_backend(region).list_release_labels())


def applications(label: str, region: str) -> list[dict[str, str]]:
    """Name and Version of what a release can install. Raises Refused for an unknown release."""
    if label not in release_labels(region):
        raise Refused("ValidationException", f"The release label {label} is not valid.")
    known = _VERSIONS.get(label, {})
    names = _SPARK_8 if label.startswith("emr-spark-8") else _SPARK_7
    return [{"Name": name, "Version": known.get(name, "0.0.0")} for name in names]


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
