"""What shall go wrong at the embedded AWS of `faulty_aws`.

Of a request of the user (`action` is an operation such as RunJobFlow, `*` is any; `service` a
signing name such as s3, `path` a part of the address's path):
  throttle     the service's own throttling error
  error        `status`, `code` and `message` as given; 500 InternalError unless told otherwise
  slow-down    503, S3's SlowDown
  denied       the action is refused for want of a right
  cut          the connection ends before the act, as without a network
  lost-answer  the act happens, the connection ends without an answer
  hung-answer  the act happens, the answer never comes
  unheeded     CancelSteps is answered as ever, and nothing happens: EMR promises no more
Of a request of the job:
  stuck        before the act, and without an answer
  reclaim      before the act, EC2 takes back the nodes of the fleet `action`, CORE or TASK
Of a bootstrap action (`action` is its number):
  bootstrap    it ends with `status`, its log is `message`
Each fault happens `times` times, after `skip` fitting requests went through; 0 times is always.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from fruits_cli.rehearsal.state import Rehearsal
from fruits_cli.rehearsal.wire import Call, Refused

SERVER = "tests.support.faulty_aws"
CONTROL = "/_faults"
OF_REQUESTS = (
    *("throttle", "error", "slow-down", "denied"),
    *("cut", "lost-answer", "hung-answer", "unheeded"),
)
KINDS = (*OF_REQUESTS, "stuck", "reclaim", "bootstrap")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; the module's docstring tells what each field means to whom."""

    kind: str
    action: str = "*"
    service: str = "*"
    times: int = 1
    skip: int = 0
    status: int = 0
    code: str = ""
    message: str = ""
    path: str = ""


def parse_fault(members: dict[str, Any]) -> Fault:
    """A fault out of a JSON object. Raises Refused naming the member that it does not know."""
    kinds = get_type_hints(Fault)
    for name, value in members.items():
        if name not in kinds or not isinstance(value, (kinds[name], int)):
            raise Refused("BadFault", f"{name}={value!r} is not a member of a fault.")
    if members.get("kind") not in KINDS:
        raise Refused("BadFault", f"kind is one of {', '.join(KINDS)}.")
    return Fault(**members)


class FaultBook:
    """The faults still to come, each taken as often as it asks for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def of_request(self, call: Call, path: str) -> Fault | None:
        """The fault that this request meets, used up by it."""
        return self._take(OF_REQUESTS, path, service=call.service, action=call.action)

    def of_stuck(self, call: Call, path: str) -> Fault | None:
        """The fault that keeps this request of the job waiting, used up by it."""
        return self._take(("stuck",), path, service=call.service, action=call.action)

    def of_job(self, path: str) -> Fault | None:
        """The fault that a request of the job sets off, used up by it."""
        return self._take(("reclaim",), path)

    def of_bootstrap(self, number: int) -> Fault | None:
        """The fault of the numbered bootstrap action, used up by it."""
        return self._take(("bootstrap",), "", action=str(number))

    def _take(self, kinds: tuple[str, ...], path: str, **traits: str) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.kind not in kinds or fault.path not in path or not _fits(fault, traits):
                    continue
                if fault.skip > 0:
                    self._faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                self._use(index, fault)
                return fault
        return None

    def _use(self, index: int, fault: Fault) -> None:
        if fault.times == 1:
            del self._faults[index]
        elif fault.times > 1:
            self._faults[index] = replace(fault, times=fault.times - 1)


def _fits(fault: Fault, traits: dict[str, str]) -> bool:
    return all(getattr(fault, name) in ("*", value) for name, value in traits.items())


_THROTTLES = {
    "s3": Refused("SlowDown", "Please reduce your request rate.", status=503),
    "ec2": Refused("RequestLimitExceeded", "Request limit exceeded.", status=503),
}
_DENIALS = {
    "s3": Refused("AccessDenied", "Access Denied", status=403),
    "ec2": Refused(
        "UnauthorizedOperation", "You are not authorized to perform this operation.", status=403
    ),
}


def request_refusal(fault: Fault, call: Call) -> Refused:
    """The error that a request fault answers with.

    Codes: botocore's list of throttling errors, S3 and EC2 error code pages; the sentence of
    AccessDeniedException is the one IAM documents for identity-based denials.
    """
    if fault.kind == "throttle":
        return _THROTTLES.get(call.service) or Refused("ThrottlingException", "Rate exceeded")
    if fault.kind == "slow-down":
        return Refused("SlowDown", "Please reduce your request rate.", status=503)
    if fault.kind == "denied":
        return _DENIALS.get(call.service) or _denied(call)
    return Refused(
        fault.code or "InternalError",
        fault.message or "We encountered an internal error. Please try again.",
        status=fault.status or 500,
    )


def _denied(call: Call) -> Refused:
    action = f"{call.service}:{call.action}"
    is_query = call.service in ("iam", "sts")
    return Refused(
        "AccessDenied" if is_query else "AccessDeniedException",
        f"User: arn:aws:iam::123456789012:user/rehearsal is not authorized to perform: {action} "
        f"because no identity-based policy allows the {action} action",
        status=403 if is_query else 400,
    )


def add_fault(rehearsal: Rehearsal, **members: Any) -> None:
    """Make something go wrong; the members are those of Fault. Raises ValueError."""
    status, answer = _ask(rehearsal, "POST", members)
    if status != 200:
        raise ValueError(answer["error"])


def clear_faults(rehearsal: Rehearsal) -> None:
    """Let everything go well again."""
    _ask(rehearsal, "DELETE", {})


def _ask(rehearsal: Rehearsal, method: str, members: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    address = urlsplit(rehearsal.endpoint)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=10)
    try:
        connection.request(method, CONTROL, json.dumps(members))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
