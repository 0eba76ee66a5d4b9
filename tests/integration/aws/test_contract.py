"""The same questions to the stand-in and to AWS on moto: so that the stand-in does not lie."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from fruits_cli.cloud import policies
from fruits_cli.cloud.account import (
    CLEANUP_ROLE,
    REMOVABLE,
    SPOT_ROLE,
    Foundation,
    LinkedRole,
    Remnant,
)
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, ClusterSpec, StepState
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.cluster.plan import plan_cluster, plan_run
from fruits_cli.errors import CloudError, ClusterNotFound
from fruits_cli.files import write_private
from fruits_cli.s3uri import S3Uri
from fruits_cli.tunnel.keys import load_public_line, new_private_key
from tests.support.fakes import FakeAws
from tests.support.worlds import PYTHON, RUN_ID, config, job, observed

URI = S3Uri("grapes-and-figs", "fruits/runs/r1/progress.json")


@pytest.fixture(params=["fake", "moto"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    if request.param == "moto":
        return cast(Cloud, request.getfixturevalue("aws"))
    fake = FakeAws()
    fake.script.end_s = 0.0
    return fake.cloud


@pytest.fixture
def storage_cloud(cloud: Cloud) -> Cloud:
    cloud.storage.create_bucket(URI.bucket)
    return cloud


def spec(*, launch_id: str = "l1") -> ClusterSpec:
    return plan_cluster(
        config(), observed(), run_id=RUN_ID, launch_id=launch_id, python=PYTHON
    ).spec


def test_a_bucket_is_made_once_and_has_a_region(cloud: Cloud) -> None:
    before = cloud.storage.bucket_region(URI.bucket)
    cloud.storage.create_bucket(URI.bucket)
    cloud.storage.create_bucket(URI.bucket)

    assert before is None
    assert cloud.storage.bucket_region(URI.bucket) == "eu-west-3"


def test_an_object_is_fetched_as_it_was_put(storage_cloud: Cloud, tmp_path: Path) -> None:
    storage = storage_cloud.storage
    storage.put_bytes(b"figs", URI)
    storage.fetch_file(URI, tmp_path / "deep" / "file")

    found = storage.fetch_bytes(URI)
    assert found is not None
    assert found.content == b"figs"
    assert (tmp_path / "deep" / "file").read_bytes() == b"figs"


def test_a_missing_object_is_none(storage_cloud: Cloud) -> None:
    assert storage_cloud.storage.fetch_bytes(URI) is None
    assert storage_cloud.storage.stored_sha256(URI) is None
    assert list(storage_cloud.storage.list_objects(URI)) == []


def test_a_second_put_if_absent_does_nothing(storage_cloud: Cloud) -> None:
    storage = storage_cloud.storage

    assert storage.put_if_absent(b"one", URI) is True
    assert storage.put_if_absent(b"two", URI) is False
    found = storage.fetch_bytes(URI)
    assert found is not None
    assert found.content == b"one"


def test_a_conditional_put_needs_the_current_etag(storage_cloud: Cloud) -> None:
    storage = storage_cloud.storage
    storage.put_bytes(b"one", URI)
    seen = storage.fetch_bytes(URI)
    assert seen is not None

    assert storage.replace_if_same(b"two", URI, etag=seen.etag) is True
    assert storage.replace_if_same(b"three", URI, etag=seen.etag) is False


def test_a_wrong_digest_is_refused_and_a_right_one_kept(storage_cloud: Cloud) -> None:
    storage = storage_cloud.storage
    digest = hashlib.sha256(b"figs").digest()
    storage.put_bytes(b"figs", URI, sha256=digest)

    assert storage.stored_sha256(URI) == digest


def test_objects_and_folders_are_listed_below_a_prefix(storage_cloud: Cloud) -> None:
    storage = storage_cloud.storage
    for key in ("a/x/1", "a/x/2", "a/y/3", "b/4"):
        storage.put_bytes(b"12", S3Uri(URI.bucket, key))

    below = S3Uri(URI.bucket, "a/")
    assert [one.uri.key for one in storage.list_objects(below)] == ["a/x/1", "a/x/2", "a/y/3"]
    assert {one.size for one in storage.list_objects(below)} == {2}
    assert [uri.key for uri in storage.list_folders(below)] == ["a/x/", "a/y/"]
    assert list(storage.list_folders(S3Uri("nobody-has-made-it", "a/"))) == []


def test_deleting_twice_is_no_error(storage_cloud: Cloud) -> None:
    storage_cloud.storage.put_bytes(b"", URI)

    storage_cloud.storage.delete_object(URI)
    storage_cloud.storage.delete_object(URI)

    assert storage_cloud.storage.fetch_bytes(URI) is None


def test_a_started_cluster_is_found_by_name_with_its_tags(cloud: Cloud) -> None:
    cluster_id = cloud.clusters.start_cluster(spec())

    (found,) = cloud.clusters.find_clusters(live=True, emr_name="fruits-fruits")
    assert found.cluster_id == cluster_id
    assert found.tags["fruits:launch-id"] == "l1"
    assert found.is_ours
    assert found.name == "fruits"
    assert found.state.is_live
    assert cloud.clusters.find_clusters(live=True, emr_name="fruits-others") == []


def test_clusters_without_our_tags_are_not_listed(cloud: Cloud) -> None:
    cloud.clusters.start_cluster(replace(spec(), emr_name="nightly-report"))

    assert cloud.clusters.find_clusters(live=False) == []


def test_a_stopped_cluster_is_not_live_and_stopping_again_is_no_error(cloud: Cloud) -> None:
    cluster_id = cloud.clusters.start_cluster(spec())
    cloud.clusters.stop_cluster(cluster_id)
    cloud.clusters.stop_cluster(cluster_id)

    assert cloud.clusters.cluster(cluster_id).state.is_final
    assert cloud.clusters.find_clusters(live=True) == []
    assert len(cloud.clusters.find_clusters(live=False)) == 1


def test_a_cluster_has_its_arn(cloud: Cloud) -> None:
    cluster_id = cloud.clusters.start_cluster(spec())

    arn = cloud.clusters.cluster(cluster_id).arn

    assert arn.startswith("arn:aws:elasticmapreduce:eu-west-3:123456789012:cluster/")
    assert arn.endswith(cluster_id)


def test_an_unknown_cluster_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(ClusterNotFound):
        cloud.clusters.cluster("j-NOSUCH")


def test_a_step_of_the_launch_is_listed_under_its_name(cloud: Cloud) -> None:
    plan = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON)
    cluster_id = cloud.clusters.start_cluster(plan.spec)

    (step,) = cloud.clusters.steps(cluster_id)
    assert step.name == f"fruits-{RUN_ID}"
    assert step.args[0] == "spark-submit"
    assert cloud.clusters.step(cluster_id, step.step_id).step_id == step.step_id


def test_an_added_step_is_not_finished(cloud: Cloud) -> None:
    plan = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON)
    assert plan.spec.step is not None
    cluster_id = cloud.clusters.start_cluster(spec())

    step_id = cloud.clusters.add_step(cluster_id, plan.spec.step)

    state = cloud.clusters.step(cluster_id, step_id).state
    assert state in (StepState.PENDING, StepState.RUNNING)


def test_an_unknown_step_is_an_error(cloud: Cloud) -> None:
    cluster_id = cloud.clusters.start_cluster(spec())

    with pytest.raises(CloudError):
        cloud.clusters.step(cluster_id, "s-NOSUCH")


SCOPE = policies.Scope("b", "", "eu-west-3", "123456789012", "fruits-ec2-1", "fruits-emr-1")
ROLES = (policies.instance_role(SCOPE), policies.service_role(SCOPE))


def make_roles(cloud: Cloud) -> None:
    for spec in ROLES:
        cloud.rights.make_role(spec)


def test_roles_are_made_once_and_found_again(cloud: Cloud) -> None:
    assert [cloud.rights.role(spec) for spec in ROLES] == [None, None]

    for _ in range(2):
        make_roles(cloud)

    for spec in ROLES:
        facts = cloud.rights.role(spec)
        assert facts is not None
        assert (spec.lacks(facts), spec.differs(facts), facts.foreign) == ([], [], ())


def test_a_security_configuration_is_made_once(cloud: Cloud) -> None:
    assert not cloud.rights.has_security_configuration("imds")

    for _ in range(2):
        cloud.rights.create_security_configuration("imds", hop_limit=1, kms_key=None)

    assert cloud.rights.has_security_configuration("imds")


@pytest.mark.parametrize("role", [CLEANUP_ROLE, SPOT_ROLE], ids=lambda role: role.name)
def test_a_service_linked_role_is_made_once(cloud: Cloud, role: LinkedRole) -> None:
    assert not cloud.rights.has_linked_role(role)

    cloud.rights.create_linked_role(role)

    assert cloud.rights.has_linked_role(role)


def test_a_security_group_is_found_again_and_removed_once(cloud: Cloud) -> None:
    network = cloud.account.network(())
    assert network is not None

    made = [
        cloud.rights.create_ssh_group(
            "fruits-x-ssh", vpc_id=network.vpc_id, tags={LAUNCH_ID_TAG: "l1"}
        )
        for _ in range(2)
    ]

    assert made[0] == made[1]
    assert cloud.rights.delete_ssh_group("fruits-x-ssh") is True
    assert cloud.rights.delete_ssh_group("fruits-x-ssh") is True


def test_a_key_pair_is_imported_once_and_purged(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    write_private(file, new_private_key())
    line = load_public_line(file).encode()

    first, second = (cloud.rights.import_key("fruits-x", line) for _ in range(2))

    assert (first, second) == (True, False)
    assert cloud.preflight.key_fingerprint("fruits-x")
    remnant = Remnant(Foundation.KEY_PAIR, "fruits-x")
    assert cloud.rights.remnants(Foundation.KEY_PAIR, ()) == [remnant]
    cloud.rights.remove(remnant)
    assert cloud.preflight.key_fingerprint("fruits-x") is None


def test_what_a_launch_created_is_found_and_removed_once_in_order(
    cloud: Cloud,
) -> None:
    network = cloud.account.network(())
    assert network is not None
    make_roles(cloud)
    cloud.rights.create_ssh_group("fruits-x-ssh", vpc_id=network.vpc_id, tags={LAUNCH_ID_TAG: "l1"})

    def found() -> list[Remnant]:
        names = {
            Foundation.INSTANCE_ROLE: ["fruits-ec2-1"],
            Foundation.SERVICE_ROLE: ["fruits-emr-1"],
            Foundation.SECURITY_CONFIGURATION: ["fruits-imdsv2-hop1", "fruits-imdsv2-hop2"],
        }
        rights = cloud.rights
        return [one for kind in REMOVABLE for one in rights.remnants(kind, names.get(kind, ()))]

    cloud.rights.create_security_configuration("fruits-imdsv2-hop2", hop_limit=2, kms_key=None)
    remnants = found()
    for remnant in [*remnants, *remnants]:
        cloud.rights.remove(remnant)

    made = [(one.kind, one.name) for one in remnants]
    assert (Foundation.INSTANCE_ROLE, "fruits-ec2-1") in made
    assert (Foundation.SERVICE_ROLE, "fruits-emr-1") in made
    assert (Foundation.SECURITY_CONFIGURATION, "fruits-imdsv2-hop2") in made
    assert made[-1] == (Foundation.SECURITY_GROUP, "fruits-x-ssh")
    assert found() == []
    assert [cloud.rights.role(spec) for spec in ROLES] == [None, None]


def test_the_network_is_untagged_until_it_is_tagged(cloud: Cloud) -> None:
    before = cloud.account.network(())
    assert before is not None
    assert before.untagged

    cloud.account.tag_network(before.untagged)

    after = cloud.account.network(())
    assert after is not None
    assert after.untagged == ()
    assert after.subnets == before.subnets


def test_known_types_have_their_vcpus_and_unknown_ones_are_left_out(cloud: Cloud) -> None:
    machines = cloud.account.machines(["m5.xlarge", "m9z.xlarge"])

    assert machines["m5.xlarge"].vcpus == 4
    assert "m9z.xlarge" not in machines


def test_prices_come_with_their_source(cloud: Cloud) -> None:
    prices = cloud.account.prices(["m5.xlarge"])

    assert prices.on_demand["m5.xlarge"] > 0
    assert prices.emr["m5.xlarge"] > 0
    assert prices.source


def test_the_caller_has_an_identity(cloud: Cloud) -> None:
    assert cloud.account.identity().account_id == "123456789012"
    assert cloud.region == "eu-west-3"


def test_preflight_answers_none_in_an_empty_account(cloud: Cloud) -> None:
    assert cloud.rights.role(ROLES[0]) is None
    assert cloud.preflight.key_fingerprint("figs") is None
    assert cloud.preflight.subnets(["subnet-none"]) == ()


def test_the_default_vpc_has_subnets_with_names_and_without_groups_of_ours(cloud: Cloud) -> None:
    found = cloud.preflight.subnets(())

    assert found
    assert all(one.is_available and one.free_addresses > 4 for one in found)
    assert {one.zone for one in found} <= {f"eu-west-3{letter}" for letter in "abc"}
    vpc = cloud.preflight.vpc(found[0].vpc_id)
    assert (vpc.has_dns_support, vpc.has_dns_hostnames, vpc.private_names) == (True, True, set())
    assert cloud.preflight.security_groups(vpc.vpc_id) == ()


def test_releases_types_and_zones_of_the_default_cluster(cloud: Cloud) -> None:
    preflight = cloud.preflight

    assert "emr-7.14.0" in preflight.releases()
    assert "m5.xlarge" in preflight.supported_types("emr-7.14.0")
    assert preflight.zones(["m5.xlarge", "m9z.xlarge"])["m5.xlarge"] >= {"eu-west-3a"}
    assert preflight.zones(["m9z.xlarge"]) == {"m9z.xlarge": frozenset()}
    assert "eu-west-3" in preflight.known_regions()
