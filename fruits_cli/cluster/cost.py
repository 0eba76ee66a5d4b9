"""Prices, the price of a cluster by the hour, and its bill so far; pure.

EC2 and EMR are billed by the second, one minute at least. Source: EMR pricing page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fruits_cli.cloud.account import PriceBook
from fruits_cli.cloud.clusters import Market, Node, NodeGroup, Role

NOT_INCLUDED = "EBS, S3, KMS and transfer are not included"
_LEAST_S = 60.0


@dataclass(frozen=True)
class HourlyPrice:
    """Dollars an hour; `at_most` is what it comes to where Spot falls back to on demand."""

    usd: float
    at_most_usd: float
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Bill:
    """What a cluster cost until now: dollars, and the time since it was asked for.

    shape: its nodes by role and type, such as 1 primary m5.xlarge, 2 core m5.xlarge.
    """

    usd: float
    seconds: float
    nodes: int
    unknown: tuple[str, ...] = ()
    shape: str = ""


def hourly_price(
    groups: Sequence[NodeGroup], prices: PriceBook, *, managed_max: int | None = None
) -> HourlyPrice:
    """What these nodes cost an hour, EMR's share included; types without a price are named.

    managed_max: the most nodes beside the primary that managed scaling may bring.
    """
    usd = at_most_usd = dearest_usd = 0.0
    unknown = []
    for group in groups:
        highest = _node_usd_h(group.instance_type, Market.ON_DEMAND, prices, zone=None)
        wanted = _node_usd_h(group.instance_type, group.market, prices, zone=None)
        if wanted is None or highest is None:
            unknown.append(group.instance_type)
            continue
        usd += wanted * group.count
        at_most_usd += max(wanted, highest) * group.count
        dearest_usd = max(dearest_usd, 0.0 if group.role is Role.PRIMARY else max(wanted, highest))
    workers = sum(group.count for group in groups if group.role is not Role.PRIMARY)
    at_most_usd += dearest_usd * max((managed_max or 0) - workers, 0)
    return HourlyPrice(usd, at_most_usd, tuple(dict.fromkeys(unknown)))


def cluster_bill(
    nodes: Sequence[Node], prices: PriceBook, *, zone: str | None, now: datetime
) -> Bill:
    """The bill of these nodes until `now`; a node counts from its request to its end."""
    usd, unknown = 0.0, []
    for node in nodes:
        usd_h = _node_usd_h(node.instance_type, node.market, prices, zone=zone)
        if usd_h is None:
            unknown.append(node.instance_type)
        else:
            usd += usd_h * billed_s(node, now) / 3600
    started = [node.created_at for node in nodes if node.created_at]
    ended = [node.ended_at or now for node in nodes if node.created_at]
    seconds = (max(ended) - min(started)).total_seconds() if started else 0.0
    order = list(Role)
    kinds = Counter((order.index(node.role), node.instance_type) for node in nodes)
    shape = ", ".join(
        f"{count} {order[role].value} {kind}" for (role, kind), count in sorted(kinds.items())
    )
    return Bill(usd, max(0.0, seconds), len(nodes), tuple(dict.fromkeys(unknown)), shape)


def billed_s(node: Node, now: datetime) -> float:
    """Seconds that a node is billed for: at least a minute once it was started."""
    if node.created_at is None:
        return 0.0
    return max(_LEAST_S, ((node.ended_at or now) - node.created_at).total_seconds())


def _node_usd_h(
    instance_type: str, market: Market, prices: PriceBook, *, zone: str | None
) -> float | None:
    ec2 = prices.on_demand.get(instance_type)
    spot = prices.spot.get(instance_type)
    if market is Market.SPOT and spot:
        ec2 = _spot_usd_h(spot, zone)
    emr = prices.emr.get(instance_type)
    return None if ec2 is None or emr is None else ec2 + emr


def _spot_usd_h(by_zone: Mapping[str, float], zone: str | None) -> float:
    """The zone's price, else the highest: before the launch nobody knows the zone."""
    return by_zone.get(zone or "", max(by_zone.values()))


def price_line(price: HourlyPrice, prices: PriceBook) -> str:
    """The hourly price in one line, with where it comes from and what it leaves out."""
    if price.unknown:
        return f"price unknown for {', '.join(price.unknown)} ({prices.source})"
    most = f", at most ${price.at_most_usd:.2f}" if price.at_most_usd > price.usd + 0.005 else ""
    return f"${price.usd:.2f} an hour{most} ({prices.source}; {NOT_INCLUDED})"


def bill_line(bill: Bill, prices: PriceBook) -> str:
    """The bill in one line."""
    minutes, seconds = divmod(round(bill.seconds), 60)
    unknown = f", price unknown for {', '.join(bill.unknown)}" if bill.unknown else ""
    return (
        f"{minutes} min {seconds:02} s, about ${bill.usd:.2f}{unknown} "
        f"({prices.source}; {NOT_INCLUDED})"
    )


def lifetime_line(price: HourlyPrice, minutes: int) -> str:
    """What the cluster can cost at most, whatever it does."""
    if price.unknown:
        return f"It ends after {minutes} minutes at the latest."
    return f"At most ${price.at_most_usd * minutes / 60:.2f} in its {minutes} minutes."
