"""boto3 clients whose answers are written beforehand."""

from typing import Any

import boto3
from botocore.stub import Stubber


class Stubs:
    """Clients whose answers are written beforehand."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, Stubber]] = {}

    def __call__(self, service: str, *, region: str | None = None, once: bool = False) -> Any:
        return self._stub(service)[0]

    def of(self, service: str) -> Stubber:
        return self._stub(service)[1]

    def _stub(self, service: str) -> tuple[Any, Stubber]:
        if service not in self._made:
            client = boto3.client(
                service,  # type: ignore[call-overload]
                region_name="eu-west-3",
                aws_access_key_id="testing",
                aws_secret_access_key="testing",
            )
            stubber = Stubber(client)
            stubber.activate()
            self._made[service] = client, stubber
        return self._made[service]


def refused(
    stubs: Stubs, method: str, code: str, message: str, *, status: int = 400, service: str = "emr"
) -> None:
    stubs.of(service).add_client_error(method, code, message, status)
