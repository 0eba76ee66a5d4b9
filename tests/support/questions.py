"""What a question of `fruits doctor` is given in a test: a configuration and the fake AWS."""

from __future__ import annotations

from typing import Any

from fruits_cli.doctor.ask import Ask
from fruits_cli.doctor.findings import Finding
from tests.support.fakes import FakeAws
from tests.support.worlds import config


def ask_of(aws: FakeAws | None = None, **tables: dict[str, Any]) -> Ask:
    aws = aws or FakeAws()
    return Ask(config(**tables), aws.cloud, aws.clock)


def told(finding: Finding) -> str:
    return f"{finding.verdict}: {finding.said} {finding.fix}"
