"""What `fruits terminate --purge` does: the cluster, then all that fruits made beside data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fruits_cli.cloud.account import Remnant, RemnantKind
from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.foundations import foundation_names
from fruits_cli.config import Config
from fruits_cli.ending import Ending, meant, terminate_cluster
from fruits_cli.errors import CloudError
from fruits_cli.screen import Outcome
from fruits_cli.session import Session

_KEPT = (
    "The bucket with its data, EMR's service-linked role and the private key on this machine stay."
)
_AGAIN = "fruits terminate --purge goes on from here."


def purge_account(
    config: Config, asked: Ending, session: Session, region_cloud: Callable[[str], Cloud]
) -> Outcome:
    """The cluster gone, and roles, profile, security configurations, key pair and groups with it.

    Raises CloudError, before it ends anything, while another cluster of fruits lives anywhere, and
    afterwards where something could not be looked at or removed; a second run goes on from there.
    """
    wanted = _wanted(config)
    ending = meant(asked.cluster, session)
    _refuse_while_others_live(ending, session, region_cloud)
    found, left = _look(wanted, session)
    names = [f"{one.kind} {one.name}" for one in found]
    listed = [f"To be removed: {name}." for name in names] or ["Nothing is left to remove."]
    if asked.dry_run:
        ended = terminate_cluster(asked, session)
        facts = {**ended.facts, "to_remove": names, "not_seen": left}
        return Outcome([*ended.lines, *listed, _KEPT], facts)
    if found:
        _ask(listed, ending, asked, session)
        asked = replace(asked, yes=True)
    ended = terminate_cluster(asked, session)
    left += _remove(found, session)
    if left:
        for line in ended.lines:
            session.screen.tell(line)
        raise CloudError(f"Not removed: {', '.join(left)}.", hint=_AGAIN)
    last = [f"Removed: {len(found)}. {_KEPT}"] if found else listed
    return Outcome([*ended.lines, *last], {**ended.facts, "removed": names})


def _ask(listed: Sequence[str], ending: Cluster | None, asked: Ending, session: Session) -> None:
    for line in (*listed, _KEPT):
        session.screen.tell(line)
    act = "Remove"
    if ending and ending.state.is_live:
        act = f"End cluster {ending.emr_name} ({ending.cluster_id}) and remove"
    session.screen.ask(f"{act} these?", yes=asked.yes)


def _wanted(config: Config) -> Mapping[RemnantKind, Sequence[str]]:
    """The names that launches from this configuration give. Raises ConfigError without a bucket."""
    plain = config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"kms_key": None})}
    )
    kinds = [
        foundation_names(one, keep_alive=keep_alive)
        for one in (config, plain)
        for keep_alive in (False, True)
    ]
    return {
        RemnantKind.INSTANCE_PROFILE: [kinds[0].instance_role],
        RemnantKind.ROLE: [kinds[0].instance_role, kinds[0].service_role],
        RemnantKind.SECURITY_CONFIGURATION: sorted({one.security_configuration for one in kinds}),
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
            found += [(where, one) for one in cloud.clusters.find_clusters(live=True)]
    except CloudError as error:
        raise CloudError(
            f"Whether a cluster of fruits lives in {where} could not be asked, and one may use "
            f"what --purge removes; nothing was done. {error}",
            hint=error.hint,
        ) from error
    return found


def _look(
    wanted: Mapping[RemnantKind, Sequence[str]], session: Session
) -> tuple[list[Remnant], list[str]]:
    """What there is to remove, and the kinds that could not be looked at."""
    found: list[Remnant] = []
    unseen = []
    for kind in RemnantKind:
        try:
            found += session.cloud.remains.remnants(kind, wanted.get(kind, ()))
        except CloudError as error:
            session.screen.warn(str(error))
            unseen.append(f"any {kind} (not seen)")
    return found, unseen


def _remove(found: Sequence[Remnant], session: Session) -> list[str]:
    """Remove these; the names of those that could not be."""
    left = []
    for remnant in found:
        try:
            session.cloud.remains.remove(remnant)
            session.screen.tell(f"Removed: {remnant.kind} {remnant.name}.")
        except CloudError as error:
            session.screen.warn(str(error))
            left.append(f"{remnant.kind} {remnant.name}")
    return left
