"""Parses AWS's prices; a dated table stands in for missing ones; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from fruits_cli.cloud.account import PriceBook

# On demand in us-east-1 for the size xlarge; the larger sizes cost in proportion to their vCPUs.
_TABLE_DATE = "2026-11-23"
_XLARGE_USD_H = {"m5": 0.192, "m6i": 0.192, "m7i": 0.2016, "c5": 0.17, "r5": 0.252}
_SIZES = {"xlarge": 1, "2xlarge": 2, "4xlarge": 4, "8xlarge": 8}
# What EMR adds, as a share of the price in us-east-1.
_EMR_SHARE = 0.25
_REGION_FACTOR = {"us-east-1": 1.0, "us-east-2": 1.0, "us-west-2": 1.0, "eu-west-3": 1.17}
_UNKNOWN_REGION_FACTOR = 1.3


def parse_price(products: Iterable[str]) -> float | None:
    """Dollars an hour out of the Pricing API's PriceList, None where no product has a price.

    Source: AWS Price List Query API, GetProducts (each entry is a JSON document).
    """
    for product in products:
        terms = json.loads(product).get("terms", {}).get("OnDemand", {})
        for term in terms.values():
            for dimension in term.get("priceDimensions", {}).values():
                usd = float(dimension.get("pricePerUnit", {}).get("USD") or 0)
                # Reservations of capacity are listed as products that cost nothing.
                if usd > 0:
                    return usd
    return None


def table_prices(types: Iterable[str], region: str) -> PriceBook:
    """Prices from the built-in table, its date in `source`; types that it lacks are left out."""
    factor = _REGION_FACTOR.get(region, _UNKNOWN_REGION_FACTOR)
    base = {kind: usd for kind in types if (usd := _table_usd_h(kind)) is not None}
    return PriceBook(
        on_demand={kind: usd * factor for kind, usd in base.items()},
        emr={kind: usd * _EMR_SHARE for kind, usd in base.items()},
        source=f"built-in table of {_TABLE_DATE}, approximate for {region}",
    )


def _table_usd_h(instance_type: str) -> float | None:
    family, _, size = instance_type.partition(".")
    if family not in _XLARGE_USD_H or size not in _SIZES:
        return None
    return _XLARGE_USD_H[family] * _SIZES[size]
