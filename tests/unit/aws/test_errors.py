from __future__ import annotations

import pytest

from fruits_cli.aws.errors import redacted


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
