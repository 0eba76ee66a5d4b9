from __future__ import annotations

import pytest
from botocore.credentials import ProcessProvider
from botocore.exceptions import EndpointConnectionError, ProxyConnectionError

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
        ("no way to http://me:p@ss@proxy:3128", "no way to http://me:(left out)@proxy:3128"),
        ("no way to http://127.0.0.1:3128/", "no way to http://127.0.0.1:3128/"),
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


def test_a_proxy_that_does_not_answer_is_not_taken_for_a_rehearsal() -> None:
    with pytest.raises(CloudError) as refused, asking("list the clusters"):
        raise ProxyConnectionError(proxy_url="http://127.0.0.1:9")

    assert refused.value.hint == "Check HTTPS_PROXY: no proxy answers there."


@pytest.mark.parametrize(
    "helper", ["echo [1]", "", "echo {}", "printf 5", "sh -c 'seq 100000 >&2; exit 1'"]
)
def test_whatever_a_credential_helper_does_is_a_sentence(helper: str) -> None:
    profile = {"profiles": {"default": {"credential_process": helper}}}
    provider = ProcessProvider("default", lambda: profile)

    with pytest.raises(CloudError) as refused, asking("list the clusters"):
        provider.load()

    assert len(str(refused.value)) < 1200


def test_a_fault_of_ours_is_not_taken_for_that_of_a_helper() -> None:
    with pytest.raises(AttributeError), asking("list the clusters"):
        raise AttributeError("ours")
