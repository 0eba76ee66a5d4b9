"""Compares two traces by operation, to find where AWS answers otherwise than the rehearsal.

A trace is lines of JSON with `service` (boto3's name), `operation`, and `answer`, or `error` with
its `Code`. Ids, names, times and numbers are expected to differ; members, enumerated values and
error codes are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import botocore.session
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.model import OperationNotFoundError, ServiceModel

from fruits_cli.errors import UsageError

Operation = tuple[str, str]
# botocore adds it to every answer; it is not the service's.
_NOT_THE_SERVICES = "ResponseMetadata"


@dataclass
class Answers:
    """What one operation answered in a trace.

    members: path of each member to the enumerated values that it had. always: the members that no
    answer lacked.
    """

    members: dict[str, set[str]] = field(default_factory=dict)
    always: set[str] | None = None
    errors: set[str] = field(default_factory=set)

    def add(self, found: Mapping[str, set[str]]) -> None:
        for path, values in found.items():
            self.members.setdefault(path, set()).update(values)
        self.always = set(found) if self.always is None else self.always & set(found)


def compare(aws: Iterable[str], rehearsed: Iterable[str]) -> list[str]:
    """A sentence for each difference, sorted. Raises UsageError for lines that are no trace."""
    real, ours = read_trace(aws), read_trace(rehearsed)
    return sorted(
        line for name, answers in real.items() for line in _differences(name, answers, ours)
    )


def read_trace(lines: Iterable[str]) -> dict[Operation, Answers]:
    """What each operation answered. Raises UsageError naming the line that is no trace."""
    found: dict[Operation, Answers] = {}
    shapes = _Shapes()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            name = str(entry["service"]), str(entry["operation"])
            error = entry.get("error")
            code = str(error["Code"]) if error else ""
            shape = shapes.output(*name)
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise UsageError(f"Line {number} is not a line of a trace: {wrong}.") from wrong
        answers = found.setdefault(name, Answers())
        if code:
            answers.errors.add(code)
        else:
            answer = entry.get("answer") or {}
            members: dict[str, set[str]] = {}
            for path, value in _members(answer, shape, ""):
                members.setdefault(path, set()).update({value} if value else ())
            answers.add(members)
    return found


class _Shapes:
    """The shapes of answers, as botocore's models define them."""

    def __init__(self) -> None:
        self._session = botocore.session.Session()
        self._models: dict[str, ServiceModel] = {}

    def output(self, service: str, operation: str) -> Any:
        try:
            if service not in self._models:
                self._models[service] = self._session.get_service_model(service)
            return self._models[service].operation_model(operation).output_shape
        except (DataNotFoundError, UnknownServiceError, OperationNotFoundError) as error:
            raise ValueError(f"{service} has no {operation}") from error


def _members(value: Any, shape: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each member of an answer with its value where that is one of an enumeration, else empty."""
    if shape is None:
        return
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, inner in value.items():
            if not path and name == _NOT_THE_SERVICES:
                continue
            below = f"{path}.{name}" if path else name
            yield below, ""
            yield from _members(inner, shape.members.get(name), below)
    elif shape.type_name == "list" and isinstance(value, list):
        for inner in value:
            yield from _members(inner, shape.member, f"{path}[]")
    elif shape.type_name == "map" and isinstance(value, dict):
        for inner in value.values():
            yield from _members(inner, shape.value, f"{path}{{}}")
    elif getattr(shape, "enum", None):
        yield path, str(value)


def _differences(
    name: Operation, real: Answers, rehearsed: Mapping[Operation, Answers]
) -> Iterator[str]:
    title = ":".join(name)
    ours = rehearsed.get(name)
    if ours is None:
        yield f"{title}: the rehearsal was never asked."
        return
    for code in real.errors - ours.errors:
        yield f"{title}: AWS refused with {code}, the rehearsal never did."
    if real.always is None:
        return
    for path, values in real.members.items():
        if path not in ours.members:
            yield f"{title}: AWS answered with {path}, the rehearsal leaves it out."
            continue
        for value in values - ours.members[path]:
            yield f"{title}: {path} was {value}, in the rehearsal never."
    for path in (ours.always or set()) - set(real.members):
        yield f"{title}: the rehearsal always answers with {path}, AWS never did."
