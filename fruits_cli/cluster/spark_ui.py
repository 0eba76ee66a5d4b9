"""The Spark UI that EMR keeps of a cluster, live or ended: an address that needs no tunnel.

Source: EMR Management Guide, view persistent application user interfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.protocols import Clock, Clusters
from fruits_cli.errors import CloudError

T = TypeVar("T")

_KEPT = timedelta(days=30)
_POLL_S, _PATIENCE_S = 5.0, 180.0


def spark_ui_address(cluster: Cluster, clusters: Clusters, clock: Clock) -> str:
    """The address of the cluster's Spark UI, asked for until EMR has it ready.

    Raises CloudError for a cluster that ended too long ago, and where EMR takes longer than
    three minutes for either of its two waits.
    """
    _refuse_forgotten(cluster, clock)
    if not cluster.arn:
        raise CloudError(f"EMR does not tell the ARN of {cluster.cluster_id}.")
    ui_id = clusters.create_spark_ui(cluster.arn)
    _attached(ui_id, cluster, clusters, clock)
    address = _awaited(lambda: clusters.spark_ui_address(ui_id), clock)
    if address is None:
        raise _late(cluster, "its address is not ready")
    return address


def _refuse_forgotten(cluster: Cluster, clock: Clock) -> None:
    if cluster.ended_at and clock.now() - cluster.ended_at > _KEPT:
        raise CloudError(
            f"{cluster.cluster_id} ended on {cluster.ended_at:%Y-%m-%d}; EMR keeps the Spark UI of "
            f"a cluster for {_KEPT.days} days.",
            hint="Its logs on S3 are still there: fruits logs",
        )


def _attached(ui_id: str, cluster: Cluster, clusters: Clusters, clock: Clock) -> None:
    last = ""

    def attached() -> bool | None:
        nonlocal last
        seen = clusters.spark_ui(ui_id)
        reason = f" ({seen.reason})" if seen.reason else ""
        last = f"its state is {seen.state or 'unknown'}{reason}"
        return seen.is_attached or None

    if not _awaited(attached, clock):
        raise _late(cluster, last)


def _awaited(ask: Callable[[], T | None], clock: Clock) -> T | None:
    """The first answer of `ask` that is not None; None where there is none in three minutes."""
    deadline = clock.monotonic() + _PATIENCE_S
    while (answer := ask()) is None and clock.monotonic() < deadline:
        clock.sleep(_POLL_S)
    return answer


def _late(cluster: Cluster, why: str) -> CloudError:
    return CloudError(
        f"EMR has not opened the Spark UI of {cluster.cluster_id} within "
        f"{_PATIENCE_S / 60:.0f} minutes: {why}.",
        hint="Try again; a job shows up there about two minutes after it began.",
    )
