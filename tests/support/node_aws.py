"""The `aws` command of a directory that plays a node: the two subcommands that bootstrap.sh uses.

They speak to the endpoint in AWS_ENDPOINT_URL, in the words and with the exit codes of aws-cli.
"""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def copy(source: str, target: str, *options: str) -> int:
    """`aws s3 cp SOURCE TARGET [--recursive] [--exclude P] [--include P]`."""
    s3 = boto3.client("s3")
    bucket, _, key = source.removeprefix("s3://").partition("/")
    keys = [key]
    if "--recursive" in options:
        found = s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", ())
        included = options[options.index("--include") + 1]
        keys = [one["Key"] for one in found if fnmatch.fnmatch(one["Key"], f"{key}{included}")]
    for one in keys:
        file = Path(target) / one.removeprefix(key) if "--recursive" in options else Path(target)
        try:
            file.write_bytes(s3.get_object(Bucket=bucket, Key=one)["Body"].read())
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            said = f"An error occurred ({status}) when calling the HeadObject operation: "
            sys.stderr.write(f"fatal error: {said}Key {one!r} does not exist\n")
            return 1
        except (OSError, BotoCoreError) as error:
            sys.stderr.write(f"download failed: s3://{bucket}/{one} to {file} {error}\n")
            return 1
    return 0


def terminate(*options: str) -> int:
    """`aws emr terminate-clusters --region R --cluster-ids ID`."""
    words = dict(zip(options[::2], options[1::2], strict=True))
    try:
        emr = boto3.client("emr", region_name=words["--region"])
        emr.terminate_job_flows(JobFlowIds=[words["--cluster-ids"]])
    except (ClientError, BotoCoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 254
    return 0


def main(argv: list[str]) -> int:
    """The exit code of one command."""
    words = [word for word in argv if word != "--only-show-errors"]
    if words[:2] == ["s3", "cp"]:
        return copy(*words[2:])
    if words[:2] == ["emr", "terminate-clusters"]:
        return terminate(*words[2:])
    sys.stderr.write(f"aws: error: {words}\n")
    return 252


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
