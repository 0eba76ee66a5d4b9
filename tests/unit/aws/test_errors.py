from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError

from fruits_cli.aws.errors import asking, redacted
from fruits_cli.errors import CloudError


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "should have been 'POST\n/\nx-amz-security-token:FwoGZXI/abc=\n'",
            "should have been 'POST\n/\nx-amz-security-token:(left out)\n'",
        ),
        ("GET /a?X-Amz-Signature=0af3&list", "GET /a?X-Amz-Signature=(left out)&list"),
        ("no way to http://me:pass@proxy:3128", "no way to http://me:(left out)@proxy:3128"),
        ("Credential=AKIA/2026 is fine", "Credential=AKIA/2026 is fine"),
        ("s3://bucket/key: no such key", "s3://bucket/key: no such key"),
    ],
)
def test_aws_messages_are_shown_without_secrets(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://127.0.0.1:40123/", "a stopped rehearsal? Then unset AWS_ENDPOINT_URL."),
        ("https://s3.eu-west-3.amazonaws.com/", "Check the network, HTTPS_PROXY and --region."),
    ],
)
def test_variables_of_a_stopped_rehearsal_are_told_apart_from_no_network(
    url: str, hint: str
) -> None:
    with pytest.raises(CloudError) as refused, asking("list the clusters"):
        raise EndpointConnectionError(endpoint_url=url)

    assert refused.value.hint.endswith(hint)
