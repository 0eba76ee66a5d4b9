"""AWS through boto3, one file a service."""

from fruits_cli.aws.clients import (
    cluster_access,
    connect,
    connect_everywhere,
    is_s3_here,
    is_stand_in,
)

__all__ = ["cluster_access", "connect", "connect_everywhere", "is_s3_here", "is_stand_in"]
