"""What the questions of `fruits doctor` share; AWS is asked for each fact once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from fruits_cli.cloud.account import SubnetFacts
from fruits_cli.cloud.protocols import Clock, Cloud
from fruits_cli.cluster.nodes import node_groups
from fruits_cli.config import Config
from fruits_cli.doctor.findings import NotApplicable
from fruits_cli.errors import CloudError, FruitsError

_T = TypeVar("_T")


class Once(Generic[_T]):
    """A fact, or the error in its place, fetched for the first question that needs it."""

    def __init__(self, ask: Callable[[], _T]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._seen: Future[_T] = Future()

    def __call__(self) -> _T:
        with self._lock:
            if not self._seen.done():
                try:
                    self._seen.set_result(self._ask())
                except FruitsError as error:
                    self._seen.set_exception(error)
        return self._seen.result()


class Ask:
    """One configuration and one cloud, with the facts that several questions share."""

    def __init__(self, config: Config, cloud: Cloud, clock: Clock) -> None:
        self.config, self.cloud, self.clock = config, cloud, clock
        self.groups = groups = node_groups(config.cluster)
        self.types = list(dict.fromkeys(group.instance_type for group in groups))
        self.identity = Once(cloud.account.identity)
        self.machines = Once(lambda: cloud.account.machines(self.types))
        self.subnets = Once(lambda: cloud.preflight.subnets(config.cluster.subnets))
        self.vpc = Once(lambda: cloud.preflight.vpc(self.found_subnets()[0].vpc_id))
        self.security_groups = Once(
            lambda: cloud.preflight.security_groups(self.found_subnets()[0].vpc_id)
        )

    @property
    def region(self) -> str:
        return self.cloud.region

    def found_subnets(self) -> tuple[SubnetFacts, ...]:
        """The subnets. Raises NotApplicable where there is none."""
        if not (found := self.subnets()):
            raise NotApplicable("there is no subnet to look at")
        return found

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in this account; IAM and S3 know no regions, S3 no accounts."""
        who = self.identity()
        account = "" if service == "s3" else who.account_id
        region = "" if service in ("iam", "s3") else self.region
        return f"arn:{who.partition}:{service}:{region}:{account}:{resource}"

    def denied(self, actions: Sequence[str], resource: str) -> frozenset[str] | None:
        """Those of the actions that the caller may not do; None where AWS does not tell."""
        with suppress(CloudError):
            return self.cloud.preflight.denied(actions, resource)
        return None
