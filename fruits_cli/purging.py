"""What `fruits terminate --purge` does: the cluster, then all that fruits made beside data."""

from __future__ import annotations

from collections.abc import Callable

from fruits_cli.cloud import Cloud
from fruits_cli.cluster import Cluster, Remnant
from fruits_cli.config import Config
from fruits_cli.ending import Ending, meant, terminate_cluster
from fruits_cli.errors import CloudError
from fruits_cli.plan import foundation_names
from fruits_cli.session import Session
from fruits_cli.ui import Outcome


def purge_account(
    config: Config, asked: Ending, session: Session, region_cloud: Callable[[str], Cloud]
) -> Outcome:
    """The cluster gone, and roles, profile, security configurations, key pair and groups with it.

    Raises CloudError, before it ends anything, while another cluster of fruits lives anywhere, and
    afterwards where something could not be removed; a second run goes on from there.
    """
    ending = meant(asked.cluster, session)
    _refuse_while_others_live(ending, session, region_cloud)
    ended = terminate_cluster(asked, session)
    found = _remnants(config, session)
    facts = {**ended.facts, "removed": [f"{one.kind} {one.name}" for one in found]}
    lines = [*ended.lines, *(f"To be removed: {one.kind} {one.name}." for one in found)]
    if asked.dry_run or not found:
        return Outcome(lines if found else [*lines, "Nothing is left to remove."], facts)
    for line in lines:
        session.screen.tell(line)
    session.screen.ask("Remove these? The bucket and its data stay.", yes=asked.yes)
    _remove(found, session)
    kept = "The bucket, its data, and the private key on this machine stay."
    return Outcome([f"Removed: {len(found)}. {kept}"], facts)


def _refuse_while_others_live(
    ending: Cluster | None, session: Session, region_cloud: Callable[[str], Cloud]
) -> None:
    # Roles are the same in every region.
    for region in session.cloud.account.regions():
        cloud = session.cloud if region == session.cloud.region else region_cloud(region)
        for cluster in cloud.clusters.find_clusters(live=True):
            if ending is None or cluster.cluster_id != ending.cluster_id:
                raise CloudError(
                    f"Cluster {cluster.emr_name} ({cluster.cluster_id}) in {region} is "
                    f"{cluster.state} and may use what --purge removes; nothing was done.",
                    hint=f"End it first: fruits terminate --cluster {cluster.cluster_id} "
                    f"--region {region}",
                )


def _remnants(config: Config, session: Session) -> list[Remnant]:
    kinds = [foundation_names(config, keep_alive=keep_alive) for keep_alive in (False, True)]
    return session.cloud.remains.remnants(
        instance_role=kinds[0].instance_role,
        service_role=kinds[0].service_role,
        security_configurations=sorted({names.security_configuration for names in kinds}),
    )


def _remove(found: list[Remnant], session: Session) -> None:
    left = []
    for remnant in found:
        try:
            session.cloud.remains.remove(remnant)
            session.screen.tell(f"Removed: {remnant.kind} {remnant.name}.")
        except CloudError as error:
            session.screen.warn(str(error))
            left.append(f"{remnant.kind} {remnant.name}")
    if left:
        raise CloudError(
            f"Not removed: {', '.join(left)}.", hint="fruits terminate --purge goes on from here."
        )
