"""The rehearsal as its own customer: what EMR does to EC2, IAM and S3 goes over loopback too."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config


class Inside:
    """Clients of the embedded AWS that meet no faults."""

    def __init__(self, endpoint: str, access_key: str) -> None:
        self._endpoint, self._access_key = endpoint, access_key
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str, region: str) -> Any:
        """A boto3 client, made once per service and region; boto3's clients may be shared."""
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._made(service, region)
            return self._clients[service, region]

    def _made(self, service: str, region: str) -> Any:
        session: Any = boto3.session.Session(
            aws_access_key_id=self._access_key,
            aws_secret_access_key="inside",
            region_name=region,
        )
        return session.client(
            service,
            endpoint_url=self._endpoint,
            config=Config(
                proxies={},
                retries={"total_max_attempts": 2},
                read_timeout=30,
                s3={"addressing_style": "path"},
            ),
        )
