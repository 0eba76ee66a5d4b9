from pathlib import Path

import pytest

from fruits_cli.aws import connect, is_s3_here
from fruits_cli.config import AwsConfig
from fruits_cli.errors import CloudError, ConfigError
from fruits_cli.s3uri import S3Uri


@pytest.mark.parametrize(
    ("environ", "is_here"),
    [
        ({}, False),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:5000"}, True),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:5000"}, True),
        ({"AWS_ENDPOINT_URL_S3": "https://s3.eu-west-3.amazonaws.com"}, False),
        (
            {
                "AWS_ENDPOINT_URL": "http://127.0.0.1:5000",
                "AWS_ENDPOINT_URL_S3": "https://s3.eu-west-3.amazonaws.com",
            },
            False,
        ),
    ],
)
def test_an_s3_on_the_loopback_is_recognised(environ: dict[str, str], is_here: bool) -> None:
    assert is_s3_here(environ) is is_here


def test_a_credential_helper_that_fails_is_told_by_whatever_asks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "config"
    profile.write_text("[default]\ncredential_process = echo no json\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    cloud = connect(AwsConfig(region="eu-west-3"))

    for ask in (
        lambda: list(cloud.storage.list_objects(S3Uri("figs", ""))),
        lambda: list(cloud.storage.list_folders(S3Uri("figs", ""))),
        lambda: list(cloud.storage.list_uploads(S3Uri("figs", ""))),
        lambda: cloud.clusters.nodes("j-1"),
    ):
        with pytest.raises(CloudError, match="could not be asked to take your credentials") as told:
            ask()
        assert "credential helper" in told.value.hint
    assert "built-in table" in cloud.account.prices(["m5.xlarge"]).source


def test_a_name_that_no_region_can_have_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu west 3")

    with pytest.raises(ConfigError, match="'eu west 3'") as refused:
        connect(AwsConfig()).account.identity()

    assert "AWS_REGION" in refused.value.hint
