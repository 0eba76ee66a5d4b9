"""Finds the cluster that a command is about."""

from __future__ import annotations

from collections.abc import Iterable

from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, Cluster
from fruits_cli.cloud.protocols import Clusters
from fruits_cli.errors import ClusterNotFound, UsageError
from fruits_cli.ledger import Ledger, RunRecord

_CREATE = "fruits create-cluster makes one."


def find_cluster(
    wanted: str | None,
    clusters: Clusters,
    ledger: Ledger,
    *,
    region: str,
    ended: bool = False,
    standing: bool = False,
) -> Cluster:
    """The cluster of that name or id, else this folder's, else the only live one of fruits.

    ended: one that has ended will do, where no live one is meant. standing: not one that ends after
    its own run. Raises ClusterNotFound for an unknown name, UsageError with the list where several
    clusters are live.
    """
    if wanted and wanted.startswith("j-"):
        return clusters.cluster(wanted)
    if wanted:
        return _named(wanted, clusters, region)
    records = [record for record in ledger.records() if record.region in ("", region)]
    if cluster := _of_this_folder(records, clusters, standing=standing):
        return cluster
    live = clusters.find_clusters(live=True)
    found = [cluster for cluster in live if _will_do(cluster, standing=standing)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"There are {len(found)} live clusters in {region}.",
            hint=f"Give --cluster NAME. {_list(found)}",
        )
    if any(cluster.state.is_live for cluster in live):
        raise UsageError(f"The live clusters in {region} end after their own runs.", hint=_CREATE)
    if ended:
        for record in records:
            if record.cluster_id and (cluster := _known(record.cluster_id, clusters)):
                return cluster
    raise UsageError(f"No cluster of fruits is live in {region}.", hint=_CREATE)


def _of_this_folder(
    records: Iterable[RunRecord], clusters: Clusters, *, standing: bool
) -> Cluster | None:
    """What this folder started last, if it lives."""
    seen: set[str] = set()
    live: list[Cluster] | None = None
    for record in records:
        if record.cluster_id and not record.cluster_ended and record.cluster_id not in seen:
            seen.add(record.cluster_id)
            cluster = _known(record.cluster_id, clusters)
            if cluster and _will_do(cluster, standing=standing):
                return cluster
        elif record.launch_id and not record.cluster_id and not record.phase.is_final:
            # A launch whose answer got lost.
            live = clusters.find_clusters(live=True) if live is None else live
            for cluster in live:
                is_its = cluster.tags.get(LAUNCH_ID_TAG) == record.launch_id
                if is_its and _will_do(cluster, standing=standing):
                    return cluster
    return None


def _will_do(cluster: Cluster, *, standing: bool) -> bool:
    return cluster.state.is_live and not (standing and cluster.ends_after_steps)


def _known(cluster_id: str, clusters: Clusters) -> Cluster | None:
    """EMR forgets a cluster two months after its end."""
    try:
        return clusters.cluster(cluster_id)
    except ClusterNotFound:
        return None


def _named(name: str, clusters: Clusters, region: str) -> Cluster:
    live = clusters.find_clusters(live=True)
    found = [cluster for cluster in live if name in (cluster.name, cluster.emr_name)]
    # The list holds those that are ending, too: one that was made since is meant.
    found = [cluster for cluster in found if cluster.state.is_live] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"More than one live cluster is named {name}.",
            hint=f"Give --cluster with an id. {_list(found)}",
        )
    known = _list(live) if live else _CREATE
    raise ClusterNotFound(f"No live cluster in {region} is named {name}.", hint=known)


def _list(clusters: Iterable[Cluster]) -> str:
    return "Live: " + ", ".join(
        f"{cluster.name} ({cluster.cluster_id}, {cluster.state})"
        for cluster in sorted(clusters, key=lambda cluster: cluster.name)
    )
