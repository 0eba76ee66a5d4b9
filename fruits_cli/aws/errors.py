"""Turns botocore's errors into ours: what happened in one sentence, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, TypeVar

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    ClusterNotFound,
    ConfigError,
    Forbidden,
    FruitsError,
    RoleNotReady,
    Unanswered,
)

T = TypeVar("T")

_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "NotAuthorized",
        "UnauthorizedOperation",
        "UnauthorizedException",
        "403",
    }
)
_BAD_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
# A region that the account has not enabled knows no key of it, and answers with one of these.
# Source: github.com/turbot/steampipe-plugin-aws/issues/75, github.com/aws/aws-cli/issues/8413.
_OF_DISABLED_REGIONS = frozenset(
    {"AuthFailure", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"}
)
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
# S3 alone has codes for it: STS and IAM say SignatureDoesNotMatch, EMR InvalidSignatureException.
# Source: github.com/convox/rack/issues/235, github.com/aws/aws-sdk-js/issues/254.
_SKEWED_SIGNATURE = re.compile(r"signature (expired|not yet current)", re.IGNORECASE)
# EMR's model names no HTTP status for these.
_FAILED = frozenset({"InternalFailure", "InternalServerError", "InternalServerException"})
_THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# json.JSONDecodeError is a ValueError, a helper that is not executable a PermissionError.
_RAISED_BY_HELPERS = (ValueError, OSError, EOFError)
# What a helper prints is taken apart here, and so raises anything at all.
_CREDENTIALS = ("botocore.credentials", "botocore.tokens")
_RAISED_WITHIN = (AttributeError, LookupError, RuntimeError, TypeError)
# Where the right has another name than the operation (S3 user guide, actions and permissions).
_S3_RIGHTS = {
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectsV2": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "UploadPart": "PutObject",
}
_ACTION = re.compile(r"perform:? ([a-z0-9-]+:[A-Za-z*]+)")
# Source: IAM User Guide, troubleshoot access denied error messages.
_OF_ORGANISATION = "service control policy"
_NO_SUCH_CLUSTER = re.compile(r"cluster id .* (is not valid|does not exist)", re.IGNORECASE)
# "Failed to authorize instance profile" comes as AccessDeniedException. Source:
# github.com/hashicorp/terraform-provider-aws/pull/3050.
_ROLE = re.compile(r"instance ?profile|service ?role|jobflowrole|role .* is invalid", re.IGNORECASE)


@contextmanager
def asking(doing: str, *, paid: bool = False, right: str = "") -> Iterator[None]:
    """Turn botocore's errors into ours while AWS is asked to do what `doing` says.

    paid: the act costs money and has no idempotency token, so a lost answer is Unanswered.
    right: what the act needs, for refusals that do not name it.
    """
    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(error, doing, paid=paid, right=right) from error
    except boto.ProfileNotFound as error:
        raise ConfigError(
            f"{error}.", hint="The profiles are listed by: aws configure list-profiles"
        ) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise CloudError(
            "No AWS credentials were found.",
            hint="Run aws configure, or aws sso login, or give --profile NAME.",
        ) from error
    except boto.InvalidRegionError as error:
        # --region and fruits.toml were checked before.
        hint = "AWS_REGION or the profile names it; --region, such as eu-west-3, goes before."
        raise ConfigError(str(error), hint=hint) from error
    except ResponseParserError as error:
        kind = Unanswered if paid else CloudError
        raise kind(
            f"What came back when AWS was asked to {doing} is not an answer of AWS.",
            hint="A proxy may have answered in its place: check HTTPS_PROXY.",
        ) from error
    except boto.BotoCoreError as error:
        raise _of_silence(error, doing, paid=paid) from error
    except FruitsError:
        raise
    except (*_RAISED_BY_HELPERS, *_RAISED_WITHIN) as error:
        # What a credential_process prints or fails with reaches us as botocore met it.
        if isinstance(error, _RAISED_WITHIN) and not _is_of_credentials(error):
            raise
        raise CloudError(
            f"AWS could not be asked to {doing}: {type(error).__name__}: {_said(error)}",
            hint="The profile's credential helper may fail: try aws sts get-caller-identity.",
        ) from error


def _is_of_credentials(error: Exception) -> bool:
    """Whether it was raised while botocore looked for credentials."""
    frames = walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") in _CREDENTIALS for frame, _ in frames)


def code_of(error: boto.ClientError) -> str:
    """The error code of an answer, such as NoSuchBucket."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def tolerating(*codes: str) -> Iterator[None]:
    """Ignore these error codes, by which AWS says that something exists already, or is gone."""
    try:
        yield
    except boto.ClientError as error:
        if code_of(error) not in codes:
            raise


def found(ask: Callable[[], T], *absent: str) -> T | None:
    """The answer to `ask`; None where one of these codes says that there is no such thing."""
    try:
        return ask()
    except boto.ClientError as error:
        if code_of(error) in absent:
            return None
        raise


def is_throttle(error: boto.ClientError) -> bool:
    """Whether AWS asked to slow down, so that nothing was done."""
    return code_of(error) in _THROTTLED


# A refused signature comes with the canonical request, and the session's token in it.
_SECRET = re.compile(
    r"(x-amz-security-token|x-amz-signature|x-amz-credential|signature)([:=]\s*)[^\s&,'\"@]+"
    r"|(://[^/\s:@]*)(:)[^\s/]+(?=@)",
    re.IGNORECASE,
)
_MOST_CHARS = 1000
_ON_THIS_MACHINE = re.compile(r"https?://(?:127\.0\.0\.1|localhost)\b")


def redacted(text: str) -> str:
    """A text of AWS or botocore without tokens, signatures and passwords."""
    return _SECRET.sub(r"\1\2\3\4(left out)", text)


def _said(error: Exception) -> str:
    """What it says, without secrets; a helper may have printed without end."""
    return redacted(str(error)[: 10 * _MOST_CHARS])[:_MOST_CHARS]


def _of_answer(error: boto.ClientError, doing: str, *, paid: bool, right: str) -> FruitsError:
    code, text = code_of(error), str(error.response.get("Error", {}).get("Message", ""))
    text = redacted(text)[:_MOST_CHARS].rstrip(". ") or "no reason given"
    failed = code in _FAILED or _status(error) >= 500
    if paid and failed and code not in _THROTTLED:
        return Unanswered(f"AWS failed while it was asked to {doing}: {text} ({code}).")
    if paid and not _ACTION.search(text) and _ROLE.search(text):
        hint = "If it stays so, you lack iam:PassRole on the role." if code in _DENIED else ""
        return RoleNotReady(f"EMR cannot use the role yet: {text} ({code}).", hint=hint)
    if code in _DENIED and _OF_ORGANISATION in text:
        return Forbidden(
            f"A policy of your organisation does not let you {doing}: {text} ({code}).",
            hint="It may allow another --region; its administrators know.",
        )
    if code in _DENIED:
        named = _ACTION.search(text)
        action = named[1] if named else right or _needed(error.operation_name, code)
        hint = f"The right that is missing is {action}." if action else ""
        if action.startswith("s3:") and not named:
            # S3 answers the same where the bucket has another owner than the one we expect.
            hint = f"The right {action} is missing, or the bucket belongs to another account."
        return AccessDenied(f"AWS does not let you {doing}: {text} ({code}).", hint=hint)
    if code in _SKEWED or _SKEWED_SIGNATURE.search(text):
        return CloudError(
            f"AWS does not take the clock of this machine, while it was asked to {doing}: {text}.",
            hint="Set the clock: AWS allows five minutes of difference.",
        )
    if code in _BAD_CREDENTIALS:
        hint = "Renew them with aws sso login or aws configure, or give --profile NAME."
        if code in _OF_DISABLED_REGIONS:
            hint += " A --region that the account has not enabled answers the same."
        return CloudError(f"AWS does not accept the credentials: {text} ({code}).", hint=hint)
    if code in _THROTTLED:
        return CloudError(f"AWS asked to slow down, again and again, while we tried to {doing}.")
    if _NO_SUCH_CLUSTER.search(text):
        return ClusterNotFound(
            f"EMR does not know the cluster: {text}.",
            hint="The region or the account may be another: fruits status --all-regions",
        )
    # IAM may not see for seconds what it has just made. Source: terraform-provider-aws, iam/
    # instance_profile.go, which repeats AddRoleToInstanceProfile for it.
    kind = RoleNotReady if code == "NoSuchEntity" else CloudError
    return kind(f"AWS refused to {doing}: {text} ({code}).")


def _needed(operation: str, code: str) -> str:
    """The right an operation needs, for EC2 and S3, whose refusals do not name it."""
    if code == "UnauthorizedOperation":
        return f"ec2:{operation}"
    # HEAD has no body that could hold a code.
    if code == "AccessDenied" or (code == "403" and operation.startswith("Head")):
        return f"s3:{_S3_RIGHTS.get(operation, operation)}"
    return ""


def _of_silence(error: boto.BotoCoreError, doing: str, *, paid: bool) -> FruitsError:
    said = _said(error)
    # With these the request cannot have arrived.
    unsent = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)
    lost = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)
    if isinstance(error, unsent):
        hint = "Check the network, HTTPS_PROXY and --region."
        if isinstance(error, boto.ProxyConnectionError):
            hint = "Check HTTPS_PROXY: no proxy answers there."
        elif _ON_THIS_MACHINE.search(said):
            hint = "Nothing answers there: a stopped rehearsal? Then unset AWS_ENDPOINT_URL."
        return CloudError(f"AWS cannot be reached to {doing}: {said}", hint=hint)
    if isinstance(error, lost):
        kind = Unanswered if paid else CloudError
        hint = "Try again."
        if isinstance(error, boto.SSLError):
            hint = "A proxy with a certificate of its own? AWS_CA_BUNDLE names the file of it."
        return kind(f"AWS did not answer when asked to {doing}: {said}", hint=hint)
    return CloudError(f"AWS could not be asked to {doing}: {said}")


def _status(error: boto.ClientError) -> int:
    metadata: Any = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))
