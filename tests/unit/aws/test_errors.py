from __future__ import annotations

import pytest
from botocore.credentials import ProcessProvider
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from fruits_cli.aws.errors import asking, redacted
from fruits_cli.errors import CloudError, Unanswered


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
        ("could not reach http://127.0.0.1:40123/", "could not reach http://127.0.0.1:40123/"),
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


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("InvalidSignatureException", "Signature expired: 20261129T1Z is now earlier than 2Z"),
        ("SignatureDoesNotMatch", "Signature expired: 20261129T1Z is now earlier than 2Z"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20261129T2Z is still later than 1Z"),
        ("RequestTimeTooSkewed", "The difference is too large."),
    ],
)
def test_a_clock_that_is_wrong_is_not_taken_for_wrong_credentials(code: str, text: str) -> None:
    answer = {"Error": {"Code": code, "Message": text}}

    with pytest.raises(CloudError, match="the clock of this machine") as refused, asking("look"):
        raise ClientError(answer, "GetCallerIdentity")

    assert refused.value.hint.startswith("Set the clock")


@pytest.mark.parametrize(
    "code", ["AuthFailure", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"]
)
def test_a_region_that_is_not_enabled_may_be_why_credentials_are_refused(code: str) -> None:
    answer = {"Error": {"Code": code, "Message": "no"}}

    with pytest.raises(CloudError, match="not accept the credentials") as refused, asking("look"):
        raise ClientError(answer, "DescribeRegions")

    assert "--region that the account has not enabled" in refused.value.hint


@pytest.mark.parametrize("paid", [False, True])
def test_the_page_of_a_proxy_is_not_taken_for_a_bug(paid: bool) -> None:
    with pytest.raises(CloudError, match="not an answer") as told, asking("start it", paid=paid):
        raise ResponseParserError("Unable to parse response: <html>Blocked</html>")

    assert isinstance(told.value, Unanswered) is paid
    assert "HTTPS_PROXY" in told.value.hint


def test_a_certificate_that_is_not_known_hints_at_a_proxy() -> None:
    with pytest.raises(CloudError) as told, asking("look"):
        raise SSLError(endpoint_url="https://sts.eu-west-3.amazonaws.com/", error="self-signed")

    assert "AWS_CA_BUNDLE" in told.value.hint
