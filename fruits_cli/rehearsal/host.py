"""What a cluster of the rehearsal uses: clients of the embedded AWS, folders, pace, quota."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from fruits_cli.rehearsal.world import World

if TYPE_CHECKING:
    from fruits_cli.rehearsal.primary_node import PrimaryNodes


class Clients:
    """Clients of the embedded AWS."""

    def __init__(self, endpoint: str, access_key: str) -> None:
        self._endpoint, self._access_key = endpoint, access_key
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str, region: str) -> Any:
        """A boto3 client, made once per service and region; boto3's clients may be shared."""
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._new_client(service, region)
            return self._clients[service, region]

    def _new_client(self, service: str, region: str) -> Any:
        session: Any = boto3.session.Session(
            aws_access_key_id=self._access_key,
            aws_secret_access_key="rehearsal",
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


@dataclass(frozen=True)
class Pace:
    """How fast AWS's waits pass (`minutes_per_second`), and the user's own timers.

    Time stamps are the wall clock's: a step takes as long as it takes here, and so does the bill.
    Idle time-out and lifetime are compared with real work, so in real time unless set otherwise.
    """

    minutes_per_second: float = 1.0
    timer_minutes_per_second: float = 1 / 60

    def wait_s(self, minutes: float) -> float:
        return minutes / self.minutes_per_second

    def timer_s(self, seconds: float) -> float:
        return seconds / 60 / self.timer_minutes_per_second


@dataclass(frozen=True)
class Host:
    """Everything that a cluster needs; `folder` holds the logs and the steps' folders."""

    folder: Path
    endpoint: str
    step_key: str
    pace: Pace
    clients: Clients
    world: World
    quota_vcpus: int
    check_script: Callable[[int, bytes], tuple[int, str]]
    primaries: PrimaryNodes

    def events_of(self, cluster_id: str) -> Path:
        return self.folder / "history" / cluster_id

    def logs_of(self, cluster_id: str) -> Path:
        return self.folder / "logs" / cluster_id
