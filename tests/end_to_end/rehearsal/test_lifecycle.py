from __future__ import annotations

import pytest


def test_a_cluster_without_steps_goes_through_all_its_states_and_ends(aws):
    cluster = aws.await_end(aws.launch())

    assert cluster["Status"]["State"] == "TERMINATED"
    assert cluster["Status"]["StateChangeReason"]["Code"] == "ALL_STEPS_COMPLETED"
    timeline = cluster["Status"]["Timeline"]
    assert timeline["CreationDateTime"] < timeline["ReadyDateTime"] <= timeline["EndDateTime"]
    assert cluster["AutoTerminate"] is True


def test_states_come_in_emrs_order(tmp_path, account_at):
    aws = account_at(tmp_path, minutes_per_second=4)
    cluster_id, seen = aws.launch(), []

    while not seen or not seen[-1].startswith("TERMINATED"):
        state = aws.state(cluster_id)
        if not seen or seen[-1] != state:
            seen.append(state)

    order = ["STARTING", "BOOTSTRAPPING", "RUNNING", "TERMINATING", "TERMINATED"]
    assert [state for state in order if state in seen] == seen
    assert (seen[0], seen[-1]) == ("STARTING", "TERMINATED")


def test_a_kept_cluster_waits_until_it_is_terminated(aws):
    cluster_id = aws.launch(keep_alive=True)
    waiting = aws.await_state(cluster_id, "WAITING")

    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    ended = aws.await_end(cluster_id)

    assert waiting["MasterPublicDnsName"].startswith("127.0.0.")
    assert waiting["LogUri"].startswith("s3n://")
    assert ended["Status"]["State"] == "TERMINATED"
    assert ended["Status"]["StateChangeReason"]["Code"] == "USER_REQUEST"


def test_terminating_twice_is_no_error(aws):
    cluster_id = aws.launch()
    aws.await_end(cluster_id)

    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])

    assert aws.state(cluster_id) == "TERMINATED"


def test_an_idle_cluster_ends_itself(aws):
    cluster_id = aws.launch(keep_alive=True, AutoTerminationPolicy={"IdleTimeout": 60})

    ended = aws.await_end(cluster_id)

    assert "auto-termination" in ended["Status"]["StateChangeReason"]["Message"]


def test_a_cluster_ends_after_the_lifetime_its_bootstrap_action_was_given(aws):
    script = aws.put("boot.sh", "#!/bin/bash\n")
    action = {"Path": script, "Args": ["--max-lifetime-min", "240"]}
    cluster_id = aws.launch(
        keep_alive=True, BootstrapActions=[{"Name": "b", "ScriptBootstrapAction": action}]
    )

    assert aws.await_end(cluster_id)["Status"]["StateChangeReason"]["Code"] == "USER_REQUEST"


def test_fleets_have_nodes_that_ec2_knows_and_that_end_with_the_cluster(aws, make_fleet):
    request = aws.request(keep_alive=True)
    request["Instances"]["InstanceFleets"] = [
        make_fleet("MASTER"),
        make_fleet("CORE", 2),
        make_fleet("TASK", 0, 1),
    ]
    cluster_id = aws.emr.run_job_flow(**request)["JobFlowId"]
    aws.await_state(cluster_id, "WAITING")

    nodes = aws.emr.list_instances(ClusterId=cluster_id)["Instances"]
    core = aws.emr.list_instances(ClusterId=cluster_id, InstanceFleetType="CORE")["Instances"]
    ids = [node["Ec2InstanceId"] for node in nodes]

    assert [node["InstanceType"] for node in nodes] == ["m5.xlarge"] * 4
    assert [node["Market"] for node in nodes] == ["ON_DEMAND"] * 3 + ["SPOT"]
    assert len(core) == 2
    assert all("ReadyDateTime" in node["Status"]["Timeline"] for node in nodes)
    assert _ec2_states(aws, ids) == {"running"}

    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    aws.await_end(cluster_id)

    ended = aws.emr.list_instances(ClusterId=cluster_id)["Instances"]
    assert {node["Status"]["State"] for node in ended} == {"TERMINATED"}
    assert all("EndDateTime" in node["Status"]["Timeline"] for node in ended)
    assert _ec2_states(aws, ids) <= {"terminated", "shutting-down"}


def _ec2_states(aws, ids):
    found = aws.ec2.describe_instances(InstanceIds=ids)["Reservations"]
    return {node["State"]["Name"] for group in found for node in group["Instances"]}


def test_clusters_are_listed_by_region_and_state(aws):
    cluster_id = aws.launch(keep_alive=True)
    aws.await_state(cluster_id, "WAITING")

    here = aws.emr.list_clusters(ClusterStates=["WAITING"])["Clusters"]
    elsewhere = aws.client("emr", "us-east-1").list_clusters()["Clusters"]

    assert cluster_id in [cluster["Id"] for cluster in here]
    assert elsewhere == []
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])


def test_an_unknown_cluster_is_an_invalid_request(aws, refusal):
    code, message = refusal(lambda: aws.emr.describe_cluster(ClusterId="j-NONE"))

    assert (code, message) == ("InvalidRequestException", "Cluster id 'j-NONE' is not valid.")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ReleaseLabel": "emr-7.99.0"}, "emr-7.99.0"),
        ({"Applications": [{"Name": "Sparc"}]}, "Sparc"),
        ({"JobFlowRole": "nobody"}, "Invalid InstanceProfile: nobody"),
        ({"ServiceRole": "nobody"}, "nobody is invalid"),
        ({"ScaleDownBehavior": "SLOWLY"}, "enum value set"),
        ({"SecurityConfiguration": "none"}, "does not exist"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 59}}, "604800"),
    ],
)
def test_what_emr_refuses_at_once(aws, refusal, change, said):
    code, message = refusal(lambda: aws.emr.run_job_flow(**aws.request(**change)))

    assert code == "ValidationException"
    assert said in message


def test_an_instance_role_that_emr_does_not_have_is_refused(aws, refusal):
    request = aws.request()
    request["Instances"]["InstanceFleets"][0]["InstanceFleetType"] = "BOSS"

    assert "Value 'BOSS'" in refusal(lambda: aws.emr.run_job_flow(**request))[1]


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        ({"InstanceGroups": [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge",
                              "InstanceCount": 1}], "InstanceFleets": []}, "instance fleets"),
        ({"TerminationProtected": True}, "termination protection"),
    ],
    ids=["groups", "protection"],
)  # fmt: skip
def test_what_the_rehearsal_lacks_is_refused_at_the_launch(aws, refusal, instances, said):
    request = aws.request()
    request["Instances"] |= instances

    assert said in refusal(lambda: aws.emr.run_job_flow(**request))[1]


def test_a_weight_for_the_primary_is_refused(aws, refusal, make_fleet):
    request = aws.request()
    types = [{"InstanceType": "m5.xlarge", "WeightedCapacity": 1}]
    request["Instances"]["InstanceFleets"] = [make_fleet("MASTER", InstanceTypeConfigs=types)]

    assert "WeightedCapacity" in refusal(lambda: aws.emr.run_job_flow(**request))[1]


@pytest.mark.parametrize(
    ("instances", "error_code"),
    [
        ({"Ec2KeyName": "nokey"}, "VALIDATION_ERROR_INVALID_SSH_KEY_NAME"),
        (
            {"InstanceFleets": [{"InstanceType": "m9.huge"}]},
            "VALIDATION_ERROR_INSTANCE_TYPE_NOT_SUPPORTED",
        ),
    ],
    ids=["key", "type"],
)
def test_what_emr_finds_out_later_ends_the_cluster_with_errors(
    aws, make_fleet, instances, error_code
):
    request = aws.request()
    if "InstanceFleets" in instances:
        instances = {
            "InstanceFleets": [
                make_fleet("MASTER", InstanceTypeConfigs=instances["InstanceFleets"])
            ]
        }
    request["Instances"] |= instances

    status = aws.await_end(aws.emr.run_job_flow(**request)["JobFlowId"])["Status"]

    assert status["State"] == "TERMINATED_WITH_ERRORS"
    assert status["StateChangeReason"]["Code"] == "VALIDATION_ERROR"
    assert status["ErrorDetails"][0]["ErrorCode"] == error_code


def test_a_quota_that_is_too_small_ends_the_launch(tmp_path, account_at):
    aws = account_at(tmp_path, minutes_per_second=600, quota_vcpus=5)

    quota = aws.client("service-quotas").get_service_quota(
        ServiceCode="ec2", QuotaCode="L-1216C47A"
    )
    status = aws.await_end(aws.launch())["Status"]

    assert quota["Quota"]["Value"] == 5
    assert "EC2 QUOTA EXCEEDED" in status["StateChangeReason"]["Message"]


def test_the_v2_policy_wants_tags_on_cluster_subnet_and_vpc(aws):
    role, tag = "emr-v2", {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}
    aws.iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    aws.iam.attach_role_policy(
        RoleName=role,
        PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2",
    )
    subnet = sorted(
        aws.ec2.describe_subnets()["Subnets"], key=lambda found: found["AvailabilityZone"]
    )[0]

    untagged = aws.await_end(aws.launch(ServiceRole=role, Tags=[tag]))
    aws.ec2.create_tags(Resources=[subnet["SubnetId"], subnet["VpcId"]], Tags=[tag])
    tagged = aws.await_end(aws.launch(ServiceRole=role, Tags=[tag]))

    assert "insufficient EC2 permissions" in untagged["Status"]["StateChangeReason"]["Message"]
    assert tagged["Status"]["State"] == "TERMINATED"


def test_a_missing_bootstrap_script_fails_the_launch(aws):
    action = {"Path": f"s3://{aws.bucket}/nowhere.sh"}
    cluster_id = aws.launch(BootstrapActions=[{"Name": "b", "ScriptBootstrapAction": action}])

    status = aws.await_end(cluster_id)["Status"]

    assert status["StateChangeReason"]["Code"] == "BOOTSTRAP_FAILURE"
    assert status["ErrorDetails"][0]["ErrorCode"] == "BOOTSTRAP_FAILURE_FILE_NOT_FOUND_PRIMARY"


def test_a_bootstrap_script_that_bash_cannot_read_fails_with_its_log(aws):
    script = aws.put("broken.sh", "#!/bin/bash\nif true; then\n")
    action = [{"Name": "b", "ScriptBootstrapAction": {"Path": script}}]

    status = aws.await_end(cluster_id := aws.launch(BootstrapActions=action))["Status"]

    detail = status["ErrorDetails"][0]
    data = detail["ErrorData"][0]
    assert detail["ErrorCode"] == "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE"
    assert (data["bootstrap-action"], data["return-code"]) == ("1", "2")
    node = f"logs/{cluster_id}/node/{data['primary-instance-id']}/bootstrap-actions/1"
    assert "syntax error" in aws.log(f"{node}/stderr.gz")
