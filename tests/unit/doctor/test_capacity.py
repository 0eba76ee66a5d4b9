from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pytest

from fruits_cli.cloud.account import Quota, SubnetFacts
from fruits_cli.cloud.clusters import Market
from fruits_cli.cloud.machines import is_standard_type
from fruits_cli.doctor import capacity
from fruits_cli.doctor.findings import Verdict
from fruits_cli.errors import ConfigError
from tests.support.fakes import FakeAws, FakeClock, FakePreflight
from tests.support.questions import ask_of

OK, FAILING = Verdict.OK, Verdict.FAILING
LABELS = ("emr-spark-8.0.0", "emr-7.14.0", "emr-7.9.0", "emr-7.5.0", "emr-6.15.0")
TODAY = date(2026, 11, 24)


@dataclass
class Offers(FakePreflight):
    """A region that offers these."""

    labels: tuple[str, ...] = LABELS
    names: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    places: dict[str, frozenset[str]] = field(default_factory=dict)

    def releases(self) -> tuple[str, ...]:
        return self.labels

    def applications(self, release_label: str) -> frozenset[str]:
        return self.names

    def supported_types(self, release_label: str) -> frozenset[str]:
        return self.types

    def zones(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return self.places


def offering(**offers: Any) -> FakeAws:
    aws = FakeAws()
    aws.preflight = Offers(**offers)
    return aws


class _Day(FakeClock):
    def __init__(self, day: date) -> None:
        super().__init__()
        self._day = day

    def now(self) -> datetime:
        return datetime.combine(self._day, datetime.min.time())


@pytest.mark.parametrize(
    ("label", "today", "verdict", "words"),
    [
        ("emr-7.14.0", TODAY, OK, "emr-7.14.0, supported until 2028-09-08"),
        ("emr-7.14.0", date(2028, 9, 8), OK, "supported until"),
        ("emr-7.14.0", date(2028, 9, 9), FAILING, "out of support since 2028-09-08"),
        ("emr-7.5.0", TODAY, FAILING, "out of support since 2026-11-20"),
        ("emr-6.15.0", TODAY, FAILING, "out of support since 2026-08-31"),
        ("emr-7.9.0", TODAY, OK, "emr-7.9.0"),
        ("emr-7.99.0", TODAY, FAILING, "The region has no release emr-7.99.0."),
    ],
)
def test_a_release_is_offered_and_supported(
    label: str, today: date, verdict: Verdict, words: str
) -> None:
    aws = offering()
    aws.clock = _Day(today)

    found = capacity.release(ask_of(aws, cluster={"release_label": label}))

    assert found.verdict is verdict
    assert words in found.said
    assert found.fix == ("Give --release-label emr-7.14.0." if verdict is FAILING else "")


def test_applications_that_a_release_lacks_are_named_with_the_rest() -> None:
    wanted = {"release_label": "emr-spark-8.0.0", "applications": ["spark", "JupyterHub"]}

    found = capacity.applications(
        ask_of(offering(names=frozenset({"Spark", "Livy"})), cluster=wanted)
    )

    assert found.said == "emr-spark-8.0.0 has no JupyterHub."
    assert found.fix == "Give --applications spark, or another --release-label."


def test_types_that_a_release_does_not_run_on_are_named_with_their_flags() -> None:
    aws = offering(types=frozenset({"m5.xlarge"}))

    newer = capacity.instance_types(ask_of(aws, cluster={"core_type": "m7i.xlarge"}))

    assert newer.said == "emr-7.14.0 does not run on m7i.xlarge."
    assert newer.fix == "Give another --core-type."
    assert capacity.instance_types(ask_of(aws)).verdict is OK


def test_the_memory_plan_is_told() -> None:
    found = capacity.memory(ask_of())

    assert found.said == "3 executors of 4 cores, 7168 MiB each, for openvino in f32"


@pytest.mark.parametrize(("kind", "precision"), [("m7g.xlarge", "f32"), ("m5.xlarge", "bf16")])
def test_a_processor_that_cannot_do_it_is_refused(kind: str, precision: str) -> None:
    ask = ask_of(cluster={"core_type": kind}, job={"precision": precision})

    with pytest.raises(ConfigError, match=kind):
        capacity.memory(ask)


def zones(places: dict[str, set[str]], **cluster: Any) -> tuple[Verdict, str]:
    aws = offering(places={kind: frozenset(one) for kind, one in places.items()})
    aws.preflight.networks = tuple(
        SubnetFacts(f"subnet-{z}", "vpc-1", f"eu-west-3{z}", 9) for z in "ab"
    )
    found = capacity.zones(ask_of(aws, cluster=cluster))
    return found.verdict, found.said


@pytest.mark.parametrize(
    ("offered", "verdict", "words"),
    [
        ({"eu-west-3a", "eu-west-3b"}, OK, "eu-west-3a, eu-west-3b"),
        ({"eu-west-3b"}, OK, "eu-west-3b; not all types are in eu-west-3a"),
        ({"eu-west-3c"}, FAILING, "m5.xlarge is in eu-west-3c."),
        (set(), FAILING, "m5.xlarge is in no zone of the region."),
    ],
)
def test_one_zone_has_all_the_types(offered: set[str], verdict: Verdict, words: str) -> None:
    found, said = zones({"m5.xlarge": offered})

    assert found is verdict
    assert words in said


def test_types_without_a_common_zone_are_reported() -> None:
    offered = {"m5.xlarge": {"eu-west-3a"}, "r5.xlarge": {"eu-west-3b"}}

    assert zones(offered, core_type="r5.xlarge")[0] is FAILING


def vcpus(market: Market, quota: Quota | None, **cluster: object) -> tuple[Verdict, str, str]:
    aws = FakeAws()
    aws.account.quotas[market] = quota
    found = capacity.vcpus(ask_of(aws, cluster=dict(cluster)), market)
    return found.verdict, found.said, found.fix


def test_a_quota_with_room_is_told_in_numbers() -> None:
    verdict, said, _ = vcpus(Market.ON_DEMAND, Quota(64, 8))

    assert (verdict, said) == (OK, "12 needed, 56 free (8 of 64 in use)")


def test_a_new_accounts_quota_fits_nothing_and_says_how_to_ask_for_more() -> None:
    verdict, said, fix = vcpus(Market.ON_DEMAND, Quota(5, 0))

    assert (verdict, said) == (FAILING, "12 needed, 5 free (0 of 5 in use)")
    assert "--quota-code L-1216C47A --desired-value 12" in fix


def test_a_small_quota_fits_a_smaller_shape() -> None:
    _, _, fix = vcpus(Market.ON_DEMAND, Quota(8, 0))

    assert "The largest that fits: --core-count 1 --task-count 1" in fix


def test_spot_has_a_quota_of_its_own() -> None:
    verdict, said, fix = vcpus(Market.SPOT, Quota(0, 0))

    assert (verdict, said) == (FAILING, "4 needed, 0 free (0 of 0 in use)")
    assert "--quota-code L-34B43A08" in fix


def test_no_room_to_fall_back_is_a_note() -> None:
    verdict, said, _ = vcpus(Market.ON_DEMAND, Quota(12, 0))

    assert verdict is OK
    assert "too few for the Spot nodes" in said


@pytest.mark.parametrize(
    ("market", "cluster"),
    [(Market.SPOT, {}), (Market.ON_DEMAND, {"task_market": "on-demand"})],
)
def test_too_few_vcpus_for_managed_scalings_maximum_are_a_warning(
    market: Market, cluster: dict[str, object]
) -> None:
    enough = vcpus(market, Quota(44, 0), managed_max=10, **cluster)
    verdict, said, fix = vcpus(market, Quota(20, 0), managed_max=10, **cluster)

    assert enough[0] is OK
    assert verdict is Verdict.WARNING
    assert said.endswith("too few for managed scaling up to 10 nodes.")
    assert "--managed-max" in fix


def test_managed_scaling_without_task_nodes_grows_on_demand() -> None:
    grown = {"managed_max": 10, "task_count": 0}

    assert vcpus(Market.SPOT, Quota(0, 0), **grown)[0] is OK
    assert vcpus(Market.ON_DEMAND, Quota(43, 0), **grown)[0] is Verdict.WARNING
    assert vcpus(Market.ON_DEMAND, Quota(44, 0), **grown)[0] is OK


def test_a_quota_that_may_not_be_read_names_the_rights() -> None:
    verdict, _, fix = vcpus(Market.SPOT, None)

    assert verdict is Verdict.COULD_NOT_ASK
    assert "servicequotas:GetServiceQuota" in fix


def test_a_type_of_unknown_size_is_not_counted() -> None:
    assert vcpus(Market.SPOT, Quota(1, 0), task_type="m9z.xlarge")[0] is Verdict.NOT_ASKED


@pytest.mark.parametrize(
    ("kind", "is_standard"),
    [
        *((one, True) for one in ("m5.xlarge", "c7i.large", "z1d.large", "i3en.large", "a1.large")),
        *((one, False) for one in ("mac1.metal", "inf1.xlarge", "trn1.2xlarge", "hpc6a.48xlarge")),
        *((one, False) for one in ("g4dn.xlarge", "p4d.24xlarge", "u-6tb1.metal", "x1.16xlarge")),
        *((one, False) for one in ("dl1.24xlarge", "vt1.3xlarge", "f1.2xlarge", "")),
    ],
)
def test_a_type_counts_by_all_letters_of_its_family(kind: str, is_standard: bool) -> None:
    assert is_standard_type(kind) is is_standard


@pytest.mark.parametrize(("gib", "verdict"), [(15, FAILING), (32, OK)])
def test_a_small_root_volume_is_refused(gib: int, verdict: Verdict) -> None:
    assert capacity.root_volume(ask_of(cluster={"root_volume_gib": gib})).verdict is verdict
