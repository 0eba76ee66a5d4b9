"""`fruits doctor`: every question at once, one table, nothing changed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fruits_cli.cloud.protocols import Clock, Cloud, SystemClock
from fruits_cli.config import Config
from fruits_cli.doctor import machine
from fruits_cli.doctor import machine as verdicts
from fruits_cli.doctor.findings import Finding, Verdict, not_asked, of_error
from fruits_cli.doctor.questions import CloudQuestions, Question
from fruits_cli.errors import ConfigError
from fruits_cli.job.spark import find_java
from fruits_cli.screen import Outcome, Table

_AT_ONCE = 16
_NO_CLOUD = "no bucket is configured, so nothing runs on AWS (fruits run stays on this machine)"
_CANNOT_BE_ASKED = "AWS does not know us, see above"


@dataclass(frozen=True)
class Surroundings:
    """The machine as doctor finds it, and the way to AWS."""

    environ: Mapping[str, str]
    folder: Path
    # Raises ConfigError where profile or region are not there.
    connect: Callable[[], Cloud]
    clock: Clock = field(default_factory=SystemClock)


def examine(config: Config, around: Surroundings) -> list[Finding]:
    """All findings, in the order in which they are told; takes a few seconds."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # At work before AWS is waited for.
        here = [pool.submit(one.answer) for one in _here(config, around)]
        there = _examine_cloud(config, around, pool)
        return [*there, *(one.result() for one in here)]


def _examine_cloud(config: Config, around: Surroundings, pool: ThreadPoolExecutor) -> list[Finding]:
    if not (config.storage.bucket or config.aws.profile):
        return [not_asked("AWS", _NO_CLOUD)]
    try:
        cloud = around.connect()
    except ConfigError as error:
        return [of_error("profile and region", error)]
    questions = CloudQuestions(config, cloud, around.clock, load_prints=_load_prints)
    if (region := questions.region()).verdict is not Verdict.OK:
        return [region]
    gates = list(pool.map(Question.answer, questions.gates()))
    if any(one.verdict is Verdict.COULD_NOT_ASK for one in gates):
        # Each would wait for the same silence.
        return [*gates, *(_closed(one) for one in questions.others())]
    return [*gates, *pool.map(Question.answer, questions.others())]


def _closed(question: Question) -> Finding:
    return Finding(question.name, Verdict.COULD_NOT_ASK, _CANNOT_BE_ASKED)


def _load_prints(key_file: Path) -> frozenset[str]:
    # Here, for paramiko takes longer to import than most of the questions.
    from fruits_cli.tunnel.keys import load_prints

    return load_prints(key_file)


def _here(config: Config, around: Surroundings) -> list[Question]:
    """The questions to this machine."""
    job, tunnel, environ = config.job, config.tunnel, around.environ
    folders = machine.folders(environ, around.folder)
    python = (sys.version_info.major, sys.version_info.minor)
    questions = [
        Question("Python", lambda: verdicts.python(python)),
        Question("packages", lambda: verdicts.packages(machine.versions())),
        Question("Java", lambda: verdicts.java(find_java(environ))),
        Question("weights", lambda: verdicts.weights(machine.weights_facts(job.weights, environ))),
        *(
            Question(f"disk, {what}", partial(_disk, what, where))
            for what, where in folders.items()
        ),
        Question("tunnel port", lambda: _port(tunnel.port)),
    ]
    if tunnel.key_file:
        questions.append(Question("key file", partial(_key_file, tunnel.key_file)))
    return questions


def _disk(what: str, wanted: Path) -> Finding:
    folder, free_gib, is_writable = machine.room(wanted)
    return verdicts.disk(what, folder, free_gib, is_writable=is_writable)


def _port(number: int) -> Finding:
    from fruits_cli.tunnel.ports import listening

    listening(number).close()
    return verdicts.port(number)


def _key_file(path: Path) -> Finding:
    _load_prints(path)
    return verdicts.key_file(path)


def report(findings: Sequence[Finding]) -> Outcome:
    """The table, the fixes below their lines, and how many of each verdict there are."""
    rows: list[Sequence[object]] = []
    for one in findings:
        rows.append((one.verdict.value, one.name, one.said))
        rows += [("", "", f"  fix: {line}") for line in one.fix.splitlines()]
    counts = Counter(one.verdict for one in findings)
    summary = ", ".join(f"{counts[one]} {one.value}" for one in Verdict if counts[one])
    facts = {
        "findings": [
            {"name": one.name, "verdict": one.verdict.value, "said": one.said, "fix": one.fix}
            for one in findings
        ],
        "counts": {one.value: counts[one] for one in Verdict},
    }
    # A question that nobody answered is no failure.
    code = 1 if counts[Verdict.FAILING] else 0
    return Outcome([Table(rows, has_head=False), f"{summary}."], facts, code)
