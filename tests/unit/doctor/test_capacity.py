from __future__ import annotations

from datetime import date

import pytest

from fruits_cli.cloud.account import Quota, SubnetFacts
from fruits_cli.cloud.clusters import Market
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.cluster.nodes import node_groups
from fruits_cli.config import ClusterConfig, JobConfig, Precision
from fruits_cli.doctor import capacity
from fruits_cli.doctor.findings import Verdict
from fruits_cli.errors import ConfigError

OK, FAILING = Verdict.OK, Verdict.FAILING
LABELS = ("emr-spark-8.0.0", "emr-7.14.0", "emr-7.9.0", "emr-7.5.0", "emr-6.15.0")
TODAY = date(2026, 11, 24)
GROUPS = node_groups(ClusterConfig())
SUBNETS = [SubnetFacts(f"subnet-{z}", "vpc-1", f"eu-west-3{z}", 9) for z in "ab"]


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
    found = capacity.release(label, LABELS, today=today)

    assert found.verdict is verdict
    assert words in found.said
    assert found.fix == ("Give --release-label emr-7.14.0." if verdict is FAILING else "")


def test_applications_that_a_release_lacks_are_named_with_the_rest() -> None:
    found = capacity.applications("emr-spark-8.0.0", ["spark", "JupyterHub"], ["Spark", "Livy"])

    assert found.said == "emr-spark-8.0.0 has no JupyterHub."
    assert found.fix == "Give --applications spark, or another --release-label."


def test_types_that_a_release_does_not_run_on_are_named_with_their_flags() -> None:
    groups = node_groups(ClusterConfig(core_type="m7i.xlarge"))

    found = capacity.types(groups, "emr-6.15.0", {"m5.xlarge"})

    assert found.said == "emr-6.15.0 does not run on m7i.xlarge."
    assert found.fix == "Give another --core-type."
    assert capacity.types(groups, "emr-7.14.0", set(MACHINES)).verdict is OK


def test_the_memory_plan_is_told() -> None:
    found = capacity.processors(GROUPS, MACHINES, JobConfig())

    assert found.said == "3 executors of 4 cores, 7168 MiB each, for openvino in f32"


@pytest.mark.parametrize(
    ("kind", "precision"), [("m7g.xlarge", Precision.F32), ("m5.xlarge", Precision.BF16)]
)
def test_a_processor_that_cannot_do_it_is_refused(kind: str, precision: Precision) -> None:
    groups = node_groups(ClusterConfig(core_type=kind))

    with pytest.raises(ConfigError, match=kind):
        capacity.processors(groups, MACHINES, JobConfig(precision=precision))


@pytest.mark.parametrize(
    ("zones", "verdict", "words"),
    [
        ({"eu-west-3a", "eu-west-3b"}, OK, "eu-west-3a, eu-west-3b"),
        ({"eu-west-3b"}, OK, "eu-west-3b; not all types are in eu-west-3a"),
        ({"eu-west-3c"}, FAILING, "m5.xlarge is in eu-west-3c."),
        (set(), FAILING, "m5.xlarge is in no zone of the region."),
    ],
)
def test_one_zone_has_all_the_types(zones: set[str], verdict: Verdict, words: str) -> None:
    found = capacity.zones(GROUPS, {"m5.xlarge": zones}, SUBNETS)

    assert found.verdict is verdict
    assert words in found.said


def test_types_that_share_no_zone_are_told() -> None:
    groups = node_groups(ClusterConfig(core_type="r5.xlarge"))
    offered = {"m5.xlarge": {"eu-west-3a"}, "r5.xlarge": {"eu-west-3b"}}

    assert capacity.zones(groups, offered, SUBNETS).verdict is FAILING


def vcpus(market: Market, quota: Quota | None, **cluster: object) -> tuple[Verdict, str, str]:
    configured = ClusterConfig.model_validate(cluster)
    found = capacity.vcpus(configured, market, quota, MACHINES, "eu-west-3")
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


def test_a_quota_that_may_not_be_read_names_the_rights() -> None:
    verdict, _, fix = vcpus(Market.SPOT, None)

    assert verdict is Verdict.COULD_NOT_ASK
    assert "servicequotas:GetServiceQuota" in fix


def test_a_type_of_unknown_size_is_not_counted() -> None:
    assert vcpus(Market.SPOT, Quota(1, 0), task_type="m9z.xlarge")[0] is Verdict.NOT_ASKED


@pytest.mark.parametrize(("gib", "verdict"), [(15, FAILING), (32, OK)])
def test_a_small_root_volume_is_refused(gib: int, verdict: Verdict) -> None:
    assert capacity.root_volume(ClusterConfig(root_volume_gib=gib)).verdict is verdict
