import boto3
import pytest

from fruits_cli.cloud.regions import with_place


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc"])
def test_every_region_of_emr_has_a_place(partition: str) -> None:
    regions = boto3.Session().get_available_regions("emr", partition_name=partition)

    assert regions
    assert [region for region in regions if with_place(region) == region] == []
