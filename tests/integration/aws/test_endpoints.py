import pytest

from fruits_cli.aws import is_s3_here


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
