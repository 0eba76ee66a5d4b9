from __future__ import annotations

import json
import re

from botocore import xform_name

from fruits_cli.rehearsal.app_ui import OPERATIONS as APP_UI_OPERATIONS
from fruits_cli.rehearsal.emr import OPERATIONS
from tests.support.paths import ROOT


def test_releases_name_their_applications(aws, refusal):
    labels = aws.emr.list_release_labels()["ReleaseLabels"]
    release = aws.emr.describe_release_label(ReleaseLabel="emr-7.14.0")
    spark_4 = aws.emr.describe_release_label(ReleaseLabel="emr-spark-8.0.0")

    assert "emr-7.14.0" in labels
    assert {"Name": "JupyterHub"} in release["Applications"]
    assert "JupyterHub" not in [entry["Name"] for entry in spark_4["Applications"]]
    assert refusal(lambda: aws.emr.describe_release_label(ReleaseLabel="emr-7"))[0] == (
        "ValidationException"
    )


def test_supported_types_are_paged(aws):
    found, marker = [], {}
    while True:
        page = aws.emr.list_supported_instance_types(ReleaseLabel="emr-7.14.0", **marker)
        found += page["SupportedInstanceTypes"]
        if "Marker" not in page:
            break
        marker = {"Marker": page["Marker"]}

    by_type = {entry["Type"]: entry for entry in found}
    assert len(found) > 100
    assert (by_type["m5.xlarge"]["VCPU"], by_type["m5.xlarge"]["MemoryGB"]) == (4, 16.0)


def test_a_security_configuration_is_made_found_and_deleted(aws, refusal):
    document = json.dumps({"InstanceMetadataServiceConfiguration": {}})
    aws.emr.create_security_configuration(Name="imds", SecurityConfiguration=document)
    found = aws.emr.describe_security_configuration(Name="imds")
    again = refusal(
        lambda: aws.emr.create_security_configuration(Name="imds", SecurityConfiguration=document)
    )
    aws.emr.delete_security_configuration(Name="imds")

    assert found["SecurityConfiguration"] == document
    assert "already exists" in again[1]
    assert refusal(lambda: aws.emr.describe_security_configuration(Name="imds"))[0] == (
        "InvalidRequestException"
    )


def test_public_access_is_blocked_but_for_port_22(aws):
    found = aws.emr.get_block_public_access_configuration()["BlockPublicAccessConfiguration"]

    assert found["BlockPublicSecurityGroupRules"] is True
    assert found["PermittedPublicSecurityGroupRuleRanges"] == [{"MinRange": 22, "MaxRange": 22}]


def test_every_operation_we_answer_is_one_that_fruits_asks(aws):
    sources = [file.read_text() for file in (ROOT / "fruits_cli" / "aws").glob("*.py")]
    asked = set(re.findall(r"\w+", " ".join(sources)))

    for operation in OPERATIONS | APP_UI_OPERATIONS:
        assert operation in aws.emr.meta.service_model.operation_names
        assert xform_name(operation) in asked


def test_long_lists_come_in_pages(aws, make_step):
    steps = [make_step("s3://nowhere/m.py", name=str(number)) for number in range(60)]
    cluster_id = aws.launch(Steps=steps)

    first = aws.emr.list_steps(ClusterId=cluster_id)
    pages = aws.emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    names = [step["Name"] for page in pages for step in page["Steps"]]

    assert len(first["Steps"]) == 50
    assert names == [str(number) for number in reversed(range(60))]
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])


def test_a_cluster_that_ended_takes_no_steps(aws, make_step, refusal):
    cluster_id = aws.launch()
    aws.await_end(cluster_id)

    code, message = refusal(
        lambda: aws.emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[make_step("m.py")])
    )

    assert code == "ValidationException"
    assert "may not be modified" in message


def test_an_operation_we_lack_says_so(aws, refusal):
    assert refusal(lambda: aws.emr.list_studios())[0] == "UnknownOperationException"


def test_prices_are_refused(aws, refusal):
    prices = aws.client("pricing", "us-east-1")

    assert refusal(lambda: prices.get_products(ServiceCode="AmazonEC2"))[1] == (
        "The rehearsal has no prices."
    )
    assert refusal(aws.ec2.describe_spot_price_history)[1] == "The rehearsal has no prices."


def test_both_vcpu_quotas_are_known(aws, refusal):
    quotas = aws.client("service-quotas")

    for code in ("L-1216C47A", "L-34B43A08"):
        found = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
        assert found["Value"] == 100_000
    assert refusal(lambda: quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-0"))[0] == (
        "NoSuchResourceException"
    )
