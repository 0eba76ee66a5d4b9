import json

import botocore.session
import pytest
from botocore.validate import validate_parameters

from fruits_cli.aws import arguments as payloads
from fruits_cli.cloud.clusters import ClusterSpec, OnFailure, StepSpec
from fruits_cli.cluster.plan import plan_cluster, plan_run
from fruits_cli.s3uri import S3Uri
from tests.support.worlds import PYTHON, RUN_ID, config, job, observed

SESSION = botocore.session.get_session()
EMR = SESSION.get_service_model("emr")
S3 = SESSION.get_service_model("s3")
URI = S3Uri("grapes-and-figs", "fruits/x")


def standing(**cluster: object) -> ClusterSpec:
    wanted = config(cluster=dict(cluster))
    plan = plan_cluster(wanted, observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON)
    return plan.spec


def transient(**cluster: object) -> ClusterSpec:
    wanted = config(cluster=dict(cluster))
    return plan_run(wanted, observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec


def accepts(service: str, operation: str, payload: dict[str, object]) -> None:
    shape = SESSION.get_service_model(service).operation_model(operation).input_shape
    validate_parameters(payload, shape)


def enum(shape: str, service: str = "emr") -> list[str]:
    return SESSION.get_service_model(service).shape_for(shape).enum


@pytest.mark.parametrize(
    "spec",
    [
        standing(),
        standing(managed_max=8, key_name="pears", kms_key="arn:aws:kms:eu-west-3:1:key/2"),
        standing(task_market="on-demand", applications=["Hadoop", "Spark"]),
        transient(),
        transient(task_count=0),
    ],
    ids=["default", "everything", "on-demand", "transient", "no tasks"],
)
def test_run_job_flow_payload_is_what_emr_accepts(spec: ClusterSpec) -> None:
    accepts("emr", "RunJobFlow", payloads.run_job_flow_payload(spec))


def test_every_enum_value_of_a_launch_is_one_of_emrs() -> None:
    payload = payloads.run_job_flow_payload(transient(managed_max=8))

    fleets = payload["Instances"]["InstanceFleets"]
    assert [fleet["InstanceFleetType"] for fleet in fleets] == ["MASTER", "CORE", "TASK"]
    assert {fleet["InstanceFleetType"] for fleet in fleets} <= set(enum("InstanceFleetType"))
    spot = fleets[2]["LaunchSpecifications"]["SpotSpecification"]
    assert spot["TimeoutAction"] in enum("SpotProvisioningTimeoutAction")
    assert spot["AllocationStrategy"] in enum("SpotProvisioningAllocationStrategy")
    on_demand = fleets[0]["LaunchSpecifications"]["OnDemandSpecification"]
    assert on_demand["AllocationStrategy"] in enum("OnDemandProvisioningAllocationStrategy")
    assert payload["ScaleDownBehavior"] in enum("ScaleDownBehavior")
    assert payload["Steps"][0]["ActionOnFailure"] in enum("ActionOnFailure")
    limits = payload["ManagedScalingPolicy"]["ComputeLimits"]
    assert limits["UnitType"] in enum("ComputeLimitsUnitType")
    assert {one.value for one in OnFailure} <= set(enum("ActionOnFailure"))


def test_runs_own_cluster_ends_by_itself_and_opens_no_port() -> None:
    payload = payloads.run_job_flow_payload(transient(key_name="pears"))

    instances = payload["Instances"]
    assert instances["KeepJobFlowAliveWhenNoSteps"] is False
    assert "AutoTerminationPolicy" not in payload
    assert "Ec2KeyName" not in instances
    assert "AdditionalMasterSecurityGroups" not in instances
    assert payload["Steps"][0]["ActionOnFailure"] == "TERMINATE_CLUSTER"
    assert [one["Name"] for one in payload["Applications"]] == ["Hadoop", "Spark"]


def test_a_standing_cluster_ends_after_its_idle_time() -> None:
    payload = payloads.run_job_flow_payload(standing(idle_timeout_min=30, key_name="pears"))

    assert payload["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True
    assert payload["AutoTerminationPolicy"] == {"IdleTimeout": 1800}
    assert payload["Instances"]["Ec2KeyName"] == "pears"
    assert "Steps" not in payload


def test_spot_nodes_fall_back_to_on_demand() -> None:
    task = payloads.run_job_flow_payload(standing())["Instances"]["InstanceFleets"][2]

    assert task["TargetSpotCapacity"] == 1
    assert "TargetOnDemandCapacity" not in task
    spot = task["LaunchSpecifications"]["SpotSpecification"]
    assert spot["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"


def test_a_launch_carries_the_tags_by_which_it_is_found() -> None:
    payload = payloads.run_job_flow_payload(standing(name="pears"))

    assert payload["Name"] == "fruits-pears"
    assert payloads.tags_payload({"a": "b"}) == [{"Key": "a", "Value": "b"}]
    tags = {tag["Key"]: tag["Value"] for tag in payload["Tags"]}
    assert tags == {
        "fruits:name": "pears",
        "fruits:run-id": RUN_ID,
        "fruits:launch-id": "l1",
        "fruits:owner": "ada@example.org",
        "fruits:python": f"openvino/{PYTHON.digest}",
        "for-use-with-amazon-emr-managed-policies": "true",
    }


@pytest.mark.parametrize(
    ("label", "market", "is_kept_away"),
    [
        ("emr-7.14.0", "spot", True),
        ("emr-7.2.0", "spot", True),
        ("emr-7.1.0", "spot", False),
        ("emr-6.15.0", "spot", False),
        ("emr-7.14.0", "on-demand", False),
    ],
)
def test_the_application_master_is_kept_away_from_spot_nodes(
    label: str, market: str, is_kept_away: bool
) -> None:
    asked = config(cluster={"release_label": label, "task_market": market})
    spec = plan_cluster(asked, observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec

    found = {
        one["Classification"]: one["Properties"]
        for one in payloads.run_job_flow_payload(spec)["Configurations"]
    }

    labels = {
        "yarn.node-labels.enabled": "true",
        "yarn.node-labels.am.default-node-label-expression": "ON_DEMAND",
    }
    assert found.get("yarn-site") == (labels if is_kept_away else None)


def test_notebooks_are_kept_in_the_bucket_only_where_jupyterhub_runs() -> None:
    def classes(spec: ClusterSpec) -> list[str]:
        configurations = payloads.run_job_flow_payload(spec)["Configurations"]
        return [one["Classification"] for one in configurations]

    assert "jupyter-s3-conf" in classes(standing())
    assert "jupyter-s3-conf" not in classes(standing(applications=["Spark"]))
    assert classes(transient()) == ["yarn-site", "spark-defaults", "spark-env"]


@pytest.mark.parametrize(
    ("service", "operation", "payload"),
    [
        ("emr", "AddJobFlowSteps",
         {"JobFlowId": "j-1", "Steps": [payloads.step_payload(transient().step)]}),  # type: ignore[arg-type]
        ("emr", "CancelSteps", payloads.cancel_step_payload("j-1", "s-1", force=True)),
        ("emr", "CreateSecurityConfiguration",
         payloads.security_configuration_payload("n", hop_limit=2, kms_key="k")),
        ("s3", "PutObject", payloads.put_object_payload(URI, sha256=b"0" * 32, if_absent=True)),
        ("s3", "PutObject", payloads.put_object_payload(URI, if_etag="e")),
        ("s3", "CreateBucket", payloads.create_bucket_payload("b", "eu-west-3")),
        ("s3", "CreateBucket", payloads.create_bucket_payload("b", "us-east-1")),
        ("s3", "PutBucketLifecycleConfiguration", payloads.lifecycle_payload("b")),
        ("ec2", "CreateSecurityGroup", payloads.ssh_group_payload("n", "vpc-1", {"a": "b"})),
        ("iam", "CreateRole", payloads.role_payload("n", {}, tags={})),
        ("pricing", "GetProducts", payloads.ec2_price_payload("m5.xlarge", "eu-west-3")),
        ("pricing", "GetProducts", payloads.emr_price_payload("m5.xlarge", "eu-west-3")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_payload_is_what_its_service_accepts(
    service: str, operation: str, payload: dict[str, object]
) -> None:
    accepts(service, operation, payload)


@pytest.mark.parametrize(
    ("cidr", "ranges"),
    [
        ("203.0.113.9/32", {"IpRanges": [{"CidrIp": "203.0.113.9/32", "Description": "mine"}]}),
        ("2001:db8::/64", {"Ipv6Ranges": [{"CidrIpv6": "2001:db8::/64", "Description": "mine"}]}),
    ],
)
def test_port_22_is_opened_to_a_range_of_its_kind(cidr: str, ranges: dict[str, object]) -> None:
    opening = payloads.ssh_ingress_payload("sg-1", cidr, note="mine")
    closing = payloads.ssh_ingress_payload("sg-1", cidr)

    accepts("ec2", "AuthorizeSecurityGroupIngress", opening)
    accepts("ec2", "RevokeSecurityGroupIngress", closing)
    (permission,) = opening["IpPermissions"]
    assert permission == {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ranges}
    assert "Description" not in str(closing)


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0"])
def test_port_22_is_never_opened_to_the_world(cidr: str) -> None:
    with pytest.raises(ValueError, match="never opened"):
        payloads.ssh_ingress_payload("sg-1", cidr, note="mine")


@pytest.mark.parametrize("fleets", [True, False])
def test_the_primary_node_is_asked_for_in_both_kinds_of_clusters(fleets: bool) -> None:
    payload = payloads.primary_instances_payload("j-1", fleets=fleets)

    accepts("emr", "ListInstances", payload)
    assert set(payload["InstanceStates"]) <= set(enum("InstanceState"))
    if fleets:
        assert payload["InstanceFleetType"] in enum("InstanceFleetType")
    else:
        assert set(payload["InstanceGroupTypes"]) <= set(enum("InstanceGroupType"))


def test_cancelling_is_one_of_emrs_two_ways() -> None:
    ways = [payloads.cancel_step_payload("j", "s", force=force) for force in (True, False)]

    options = {way["StepCancellationOption"] for way in ways}
    assert options == set(enum("StepCancellationOption"))


def test_us_east_1_may_not_be_named() -> None:
    assert "CreateBucketConfiguration" not in payloads.create_bucket_payload("b", "us-east-1")


def test_the_metadata_service_is_reached_by_tokens_alone() -> None:
    payload = payloads.security_configuration_payload("n", hop_limit=1, kms_key=None)

    document = json.loads(payload["SecurityConfiguration"])
    assert document == {
        "InstanceMetadataServiceConfiguration": {
            "MinimumInstanceMetadataServiceVersion": 2,
            "HttpPutResponseHopLimit": 1,
        }
    }


def test_a_key_encrypts_the_disks() -> None:
    payload = payloads.security_configuration_payload("n", hop_limit=1, kms_key="arn:k")

    rest = json.loads(payload["SecurityConfiguration"])["EncryptionConfiguration"]
    disks = rest["AtRestEncryptionConfiguration"]["LocalDiskEncryptionConfiguration"]
    assert disks["AwsKmsKey"] == "arn:k"
    assert disks["EnableEbsEncryption"] is True
    assert disks["EncryptionKeyProviderType"] == "AwsKms"


def test_managed_scaling_never_asks_for_less_than_the_core_nodes() -> None:
    payload = payloads.run_job_flow_payload(standing(core_count=4, managed_max=2))

    limits = payload["ManagedScalingPolicy"]["ComputeLimits"]
    assert limits["MinimumCapacityUnits"] == 4
    assert limits["MaximumCapacityUnits"] == 4


def test_a_step_stays_below_the_length_that_emr_takes() -> None:
    step: StepSpec | None = transient().step

    assert step is not None
    assert len(" ".join(step.args)) < 10240


def test_import_key_pair_payload_is_what_ec2_accepts() -> None:
    payload = payloads.import_key_pair_payload(
        "fruits-x", b"ssh-ed25519 A", {"fruits:tool": "fruits"}
    )

    accepts("ec2", "ImportKeyPair", payload)
    assert payload["PublicKeyMaterial"] == b"ssh-ed25519 A"
    (tagged,) = payload["TagSpecifications"]
    assert tagged["ResourceType"] in enum("ResourceType", "ec2")
    assert tagged["Tags"] == [{"Key": "fruits:tool", "Value": "fruits"}]
