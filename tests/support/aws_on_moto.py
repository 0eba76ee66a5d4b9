from collections.abc import Iterator

import pytest
from moto import mock_aws
from moto.core.models import MockAWS
from moto.iam.models import SERVICE_NAME_CONVERSION

from fruits_cli.aws import connect
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.config import AwsConfig
from tests.support.managed_policies import keep_only_ours


@pytest.fixture(scope="session")
def _no_account() -> Iterator[None]:
    """Made-up credentials, no profile, no endpoint of a rehearsal."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # Moto has no prices and would let the question out: a closed port of ours answers it.
        patch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:1")
        # Moto names the role after the service, AWS after what it does.
        patch.setitem(SERVICE_NAME_CONVERSION, "elasticmapreduce", "EMRCleanup")
        patch.setitem(SERVICE_NAME_CONVERSION, "spot", "EC2Spot")
        yield


@pytest.fixture(scope="session")
def _moto(_no_account: None) -> MockAWS:
    keep_only_ours()
    return mock_aws(config={"iam": {"load_aws_managed_policies": True}})


@pytest.fixture(scope="session")
def _clients(_moto: MockAWS) -> Cloud:
    """One set of clients for all tests: making them is what takes the time."""
    return connect(AwsConfig(profile=None, region="eu-west-3"))


@pytest.fixture
def aws(_moto: MockAWS, _clients: Cloud) -> Iterator[Cloud]:
    """AWS on moto, empty at the beginning of each test."""
    _moto.start(reset=True)
    yield _clients
    _moto.stop()
