"""fruits terminate: end the cluster and show its bill; with --purge also what a launch made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated

import typer

from fruits_cli.cloud.account import REMOVABLE, Foundation, Remnant
from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster
from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.foundations import foundation_names
from fruits_cli.cluster.launch import forget_dead_launches, look_for
from fruits_cli.cluster.life import bill_of, end_cluster
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config
from fruits_cli.errors import CloudError, ClusterNotFound, Forbidden, UsageError
from fruits_cli.ledger import RunPhase
from fruits_cli.options import ClusterChoice, DryRun, Yes, with_config
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session

_KEPT = (
    "The bucket with its data, EMR's service-linked role and the private key on this machine stay."
)
_AGAIN = "fruits terminate --purge continues from here."


@with_config("storage")
def terminate(
    *,
    cluster: ClusterChoice = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also roles, profile, key pair; never data.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """End the cluster, wait until it is gone, and show what it cost."""
    session = open_session(config, screen)
    if purge:
        from fruits_cli.aws import connect_everywhere

        everywhere = connect_everywhere(config.aws)
        outcome = purge_account(config, cluster, session, everywhere, dry_run=dry_run, yes=yes)
    else:
        outcome = terminate_cluster(cluster, session, dry_run=dry_run, yes=yes)
    # Afterwards: S3 that does not answer must not keep a cluster running.
    if config.storage.bucket and not dry_run:
        forget_dead_launches(places_of(config), session)
    return outcome


def terminate_cluster(
    wanted: str | None, session: Session, *, dry_run: bool = False, yes: bool = False
) -> Outcome:
    """End the cluster, if there is one, and show its bill. Raises CloudError, Declined."""
    return _terminated(cluster_to_end(wanted, session), session, dry_run=dry_run, yes=yes)


def _terminated(
    cluster: Cluster | None, session: Session, *, dry_run: bool = False, yes: bool = False
) -> Outcome:
    if cluster is None:
        return Outcome(["There is no cluster to end."], {"cluster_id": None, "state": None})
    name = f"{cluster.emr_name} ({cluster.cluster_id})"
    _, cost = bill_of(cluster, session.cloud, session.clock)
    if dry_run:
        return Outcome(
            [f"Cluster {name} is {cluster.state}; it ran {cost}."],
            {"cluster_id": cluster.cluster_id, "state": cluster.state.value},
        )
    if cluster.state.is_live:
        session.screen.tell(f"Cluster {name} is {cluster.state}; it ran {cost}.")
        session.screen.ask("End it?", yes=yes)
    ended = end_cluster(cluster.cluster_id, session)
    facts = {
        "cluster_id": cluster.cluster_id,
        "state": ended.cluster.state.value,
        "cost_usd": round(ended.bill.usd, 4) if ended.bill else None,
        "seconds": round(ended.bill.seconds) if ended.bill else None,
    }
    return Outcome([f"Cluster {name} is {ended.cluster.state}. It ran {ended.line}."], facts)


def cluster_to_end(wanted: str | None, session: Session) -> Cluster | None:
    """The cluster that the user wants to end, None where none is left. Raises ClusterNotFound."""
    clusters, region = session.cloud.clusters, session.cloud.region
    if wanted is None and (cluster := _cluster_of_lost_launch(session)):
        return cluster
    try:
        return find_cluster(wanted, clusters, session.ledger, region=region, ended=True)
    except ClusterNotFound:
        # An unknown name means that the cluster is gone, as wanted; an unknown id is a mistake.
        if wanted and wanted.startswith("j-"):
            raise
        return None
    except UsageError:
        if clusters.find_clusters(live=True):
            raise
        return None


def _cluster_of_lost_launch(session: Session) -> Cluster | None:
    """What this folder's newest launch started, if it was killed before it could say so.

    Looked for as long as ListClusters may lag behind; the record is closed afterwards.
    """
    here = ("", session.cloud.region)
    launches = (one for one in session.ledger.records() if one.launch_id and one.region in here)
    newest = next(launches, None)
    if newest is None or newest.phase is not RunPhase.PLANNED or newest.cluster_id:
        return None
    session.screen.tell(f"Launch {newest.run_id} has told of no cluster; looking for one.")
    emr_name = f"{EMR_NAME_PREFIX}{newest.cluster_name}"
    return look_for(emr_name, newest.launch_id, session.cloud.clusters, session.clock)


def purge_account(
    config: Config,
    wanted: str | None,
    session: Session,
    region_cloud: Callable[[str], Cloud],
    *,
    dry_run: bool = False,
    yes: bool = False,
) -> Outcome:
    """End the cluster, and remove roles, profile, security configurations, key pair and groups.

    Raises CloudError, before it ends anything, while another cluster of fruits lives anywhere, and
    afterwards where something could not be looked at or removed; a second run goes on from there.
    """
    names_of_kind = _names_of_launches(config)
    cluster = cluster_to_end(wanted, session)
    _refuse_while_others_live(cluster, session, region_cloud)
    found, left = _find_remnants(names_of_kind, session)
    names = [f"{remnant.kind} {remnant.name}" for remnant in found]
    listed = [f"To be removed: {name}." for name in names] or ["Nothing is left to remove."]
    if dry_run:
        ended = _terminated(cluster, session, dry_run=True)
        facts = {**ended.facts, "to_remove": names, "not_seen": left}
        return Outcome([*ended.lines, *listed, _KEPT], facts)
    if found:
        for line in (*listed, _KEPT):
            session.screen.tell(line)
        act = "Remove"
        if cluster and cluster.state.is_live:
            act = f"End cluster {cluster.emr_name} ({cluster.cluster_id}) and remove"
        session.screen.ask(f"{act} these?", yes=yes)
        if not yes:
            # While the question stood, another terminal may have started one.
            _refuse_while_others_live(cluster, session, region_cloud)
    ended = _terminated(cluster, session, yes=yes or bool(found))
    left += _remove(found, session)
    if left:
        for line in ended.lines:
            session.screen.tell(line)
        raise CloudError(f"Not removed: {', '.join(left)}.", hint=_AGAIN)
    last = [f"Removed: {len(found)}. {_KEPT}"] if found else listed
    return Outcome([*ended.lines, *last], {**ended.facts, "removed": names})


def _names_of_launches(config: Config) -> Mapping[Foundation, Sequence[str]]:
    """The names that launches from this configuration give. Raises ConfigError without a bucket."""
    plain = config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"kms_key": None})}
    )
    kinds = [
        foundation_names(settings, keep_alive=keep_alive)
        for settings in (config, plain)
        for keep_alive in (False, True)
    ]
    return {
        Foundation.INSTANCE_ROLE: [kinds[0].instance_role],
        Foundation.SERVICE_ROLE: [kinds[0].service_role],
        Foundation.SECURITY_CONFIGURATION: sorted(
            {names.security_configuration for names in kinds}
        ),
    }


def _refuse_while_others_live(
    ending: Cluster | None, session: Session, region_cloud: Callable[[str], Cloud]
) -> None:
    # Roles are the same in every region.
    for region, cluster in _live_everywhere(session, region_cloud):
        if ending is None or cluster.cluster_id != ending.cluster_id:
            raise CloudError(
                f"Cluster {cluster.emr_name} ({cluster.cluster_id}) in {region} is "
                f"{cluster.state} and may use what --purge removes; nothing was done.",
                hint=f"End it first: fruits terminate --cluster {cluster.cluster_id} "
                f"--region {region}",
            )


def _live_everywhere(
    session: Session, region_cloud: Callable[[str], Cloud]
) -> list[tuple[str, Cluster]]:
    where, found = "any region", []
    try:
        for where in session.cloud.account.regions():
            cloud = session.cloud if where == session.cloud.region else region_cloud(where)
            # An organisation that shuts a region lets nobody list in it, nor launch.
            with suppress(Forbidden):
                found += [(where, cluster) for cluster in cloud.clusters.find_clusters(live=True)]
    except CloudError as error:
        raise CloudError(
            f"Whether fruits has a live cluster in {where} could not be checked, and it may use "
            f"what --purge removes; nothing was done. {error}",
            hint=error.hint,
        ) from error
    return found


def _find_remnants(
    wanted: Mapping[Foundation, Sequence[str]], session: Session
) -> tuple[list[Remnant], list[str]]:
    """What there is to remove, and the kinds that could not be looked at."""
    found: list[Remnant] = []
    unseen = []
    for kind in REMOVABLE:
        try:
            found += session.cloud.rights.remnants(kind, wanted.get(kind, ()))
        except CloudError as error:
            session.screen.warn(str(error))
            unseen.append(f"any {kind} (not seen)")
    return found, unseen


def _remove(found: Sequence[Remnant], session: Session) -> list[str]:
    """Remove these; the names of those that could not be."""
    left = []
    for remnant in found:
        try:
            session.cloud.rights.remove(remnant)
            session.screen.tell(f"Removed: {remnant.kind} {remnant.name}.")
        except CloudError as error:
            session.screen.warn(str(error))
            left.append(f"{remnant.kind} {remnant.name}")
    return left
