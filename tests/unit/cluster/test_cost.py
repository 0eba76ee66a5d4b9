import json
from dataclasses import replace
from datetime import timedelta

import pytest

from fruits_cli.cloud.account import PriceBook
from fruits_cli.cloud.clusters import Market, Node, NodeGroup, Role
from fruits_cli.cloud.prices import parse_price, table_prices
from fruits_cli.cluster.cost import (
    HourlyPrice,
    bill_line,
    cluster_bill,
    hourly_price,
    lifetime_line,
    price_line,
)
from tests.support.fakes import EPOCH

PRICES = PriceBook(
    on_demand={"m5.xlarge": 0.20},
    emr={"m5.xlarge": 0.05},
    spot={"m5.xlarge": {"eu-west-3a": 0.06, "eu-west-3b": 0.08}},
    source="a test",
)


def node(
    *, market: Market = Market.ON_DEMAND, start_s: float = 0, end_s: float | None = None
) -> Node:
    ended_at = None if end_s is None else EPOCH + timedelta(seconds=end_s)
    created_at = EPOCH + timedelta(seconds=start_s)
    return Node("i-1", Role.CORE, "m5.xlarge", market, created_at, ended_at)


def product(*dimensions: str) -> str:
    terms = {
        f"term{number}": {"priceDimensions": {"d": {"pricePerUnit": {"USD": usd}}}}
        for number, usd in enumerate(dimensions)
    }
    return json.dumps({"product": {}, "terms": {"OnDemand": terms}})


def test_the_price_is_read_out_of_the_apis_answer() -> None:
    assert parse_price([product("0.2240000000")]) == 0.224


@pytest.mark.parametrize("products", [[], [product()], [product("0.0000000000")], ["{}"]])
def test_an_answer_without_a_price_is_none(products: list[str]) -> None:
    assert parse_price(products) is None


def test_a_reservation_that_costs_nothing_is_passed_over() -> None:
    assert parse_price([product("0.0"), product("0.0", "0.5")]) == 0.5


def test_an_hour_costs_ec2_and_emr_with_the_dearest_zone_for_spot() -> None:
    groups = [
        NodeGroup(Role.PRIMARY, "m5.xlarge", 1),
        NodeGroup(Role.CORE, "m5.xlarge", 2),
        NodeGroup(Role.TASK, "m5.xlarge", 1, Market.SPOT),
    ]

    price = hourly_price(groups, PRICES)

    assert price.usd == pytest.approx(3 * 0.25 + 0.13)
    assert price.at_most_usd == pytest.approx(4 * 0.25)
    assert price_line(price, PRICES).startswith("$0.88 an hour, at most $1.00 (a test; EBS, S3")


def test_a_type_without_a_price_is_named_and_not_guessed() -> None:
    price = hourly_price([NodeGroup(Role.CORE, "x9.large", 1)], PRICES)

    assert price.unknown == ("x9.large",)
    assert price_line(price, PRICES) == "price unknown for x9.large (a test)"


@pytest.mark.parametrize(
    ("seconds", "billed"), [(1, 60), (59, 60), (60, 60), (61, 61), (5400, 5400)]
)
def test_nodes_are_billed_by_the_second_and_a_minute_at_least(
    seconds: float, billed: float
) -> None:
    bill = cluster_bill([node(end_s=seconds)], PRICES, zone=None, now=EPOCH + timedelta(days=1))

    assert bill.usd == pytest.approx(0.25 * billed / 3600)


def test_a_node_that_lives_is_billed_until_now() -> None:
    now = EPOCH + timedelta(hours=2)

    assert cluster_bill([node()], PRICES, zone=None, now=now).usd == pytest.approx(0.5)


def test_spot_is_billed_at_its_zones_price() -> None:
    now = EPOCH + timedelta(hours=1)
    nodes = [node(market=Market.SPOT)]

    assert cluster_bill(nodes, PRICES, zone="eu-west-3a", now=now).usd == pytest.approx(0.11)
    assert cluster_bill(nodes, PRICES, zone=None, now=now).usd == pytest.approx(0.13)


def test_a_bill_spans_from_the_first_node_to_the_last() -> None:
    nodes = [node(end_s=600), node(start_s=60, end_s=900)]

    bill = cluster_bill(nodes, PRICES, zone=None, now=EPOCH + timedelta(days=1))

    assert bill.seconds == 900
    assert bill_line(bill, PRICES) == (
        "15 min 00 s, about $0.10 (a test; EBS, S3, KMS and transfer are not included)"
    )


def test_no_nodes_cost_nothing() -> None:
    bill = cluster_bill([], PRICES, zone=None, now=EPOCH)

    assert (bill.usd, bill.seconds) == (0, 0)


def test_the_table_says_what_it_is_and_leaves_out_what_it_does_not_know() -> None:
    book = table_prices(["m5.2xlarge", "x9.large", "m5"], "eu-west-3")

    assert book.on_demand.keys() == {"m5.2xlarge"}
    assert book.on_demand["m5.2xlarge"] == pytest.approx(2 * 0.192 * 1.17)
    assert "built-in table of 20" in book.source
    assert "approximate for eu-west-3" in book.source


def test_managed_scaling_is_priced_at_its_maximum() -> None:
    groups = [NodeGroup(Role.PRIMARY, "m5.xlarge", 1), NodeGroup(Role.CORE, "m5.xlarge", 2)]
    prices = table_prices(["m5.xlarge"], "us-east-1")

    plain = hourly_price(groups, prices)
    scaled = hourly_price(groups, prices, managed_max=50)

    assert scaled.usd == plain.usd
    assert scaled.at_most_usd == pytest.approx(plain.at_most_usd / 3 * 51)


def test_the_most_that_a_lifetime_costs_is_said() -> None:
    price = HourlyPrice(0.9, 1.09, ())

    assert lifetime_line(price, 240) == "At most $4.36 in its 240 minutes."


def test_a_bill_names_the_nodes_by_role_and_type() -> None:
    nodes = [node(), replace(node(), role=Role.PRIMARY), node(market=Market.SPOT)]

    bill = cluster_bill(nodes, PRICES, zone=None, now=EPOCH)

    assert bill.shape == "1 primary m5.xlarge, 2 core m5.xlarge"
