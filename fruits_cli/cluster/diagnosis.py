"""Finds the cause of a failure in what EMR says and in the logs; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fruits_cli.cloud.clusters import Cluster, ClusterState, Step, StepState
from fruits_cli.job.progress import STOPPED

_TRACEBACK = "Traceback (most recent call last):"
# What Spark's log4j puts before the text of a line, and what a JVM puts before a Python error.
_LOG_PREFIX = re.compile(r"^\d{2,4}[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d\S* (?:INFO|WARN|ERROR) ")
_PICTURE = re.compile(r"(?:picture|image) (['\"])(?P<path>.+?)\1", re.IGNORECASE)
_PICTURE_PATH = re.compile(r"(['\"])(?P<path>[^'\"\n]+\.(?:jpe?g|png|webp|bmp|gif|tiff?))\1", re.I)
_BOOTSTRAP_LOG = re.compile(r"(?:^|/)bootstrap-actions/\d+/stderr(?:\.gz)?$")
_TAIL_LINES = 12
_ON_REQUEST = "The cluster was ended on request: by you, somebody else, or its own timer."
_STOPPED_BY_USER = "The job was stopped on request, as fruits cancel does."
_GOES_ON = "fruits run --resume continues from what is finished."
_NODES_LOST = "INSTANCE_FAILURE"

# The first that matches, in this order, is the cause: what is specific comes before what follows.
_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"bootstrap\.sh: .*(?:is not in|is broken|is not that of)",
        "Files of the nodes' Python are missing or damaged in the bucket: start again, which sends "
        "them.",
    ),
    (
        r"bootstrap\.sh: python3\.11 is not on this node",
        "The release lacks Python 3.11, and its package repository cannot be reached from the "
        "subnet: take the default --release-label, or a subnet with a way to S3.",
    ),
    (
        r"ModuleNotFoundError: No module named|ImportError:",
        "The Python of the nodes lacks a package: the bootstrap did not install it, or another "
        "interpreter runs the job.",
    ),
    (
        r"Python in worker has different version",
        "Driver and workers run different Pythons: let the same bootstrap prepare every node.",
    ),
    (
        r"exit code:? 137|exitCode=137|Exit status: 137|beyond (?:the )?\S* ?memory limits"
        r"|running beyond physical memory|OutOfMemoryError|MemoryError",
        "The node ran out of memory: take a larger --core-type, or one with fewer vCPUs per GiB.",
    ),
    (
        r"No space left on |DISK_SPACE",
        "A disk of the cluster is full: give --root-volume-gib, or larger nodes.",
    ),
    (
        r"AccessDenied|Access Denied|AccessControlException|UnauthorizedOperation|403 Forbidden",
        "A role lacks a right: the nodes' role must reach the bucket's prefix, and a key policy of "
        "KMS must name it.",
    ),
    (
        r"NoSuchBucket|NoSuchKey|FileNotFoundError|BA_DOWNLOAD_FAILED|FILE_NOT_FOUND",
        "Something that the job needs is not in the bucket any more: run fruits upload again.",
    ),
    (
        r"VcpuLimitExceeded|QUOTA EXCEEDED|vCPU (?:limit|quota)|LimitExceeded",
        "The account's vCPU quota is too small, or a cluster that just ended still counts (up to "
        "20 minutes): take fewer nodes, or ask AWS for more.",
    ),
    (
        r"INSUFFICIENT_CAPACITY|InsufficientInstanceCapacity|SPOT_NO_CAPACITY|SPOT_PRICE_INCREASE"
        r"|INSTANCE_FLEET_TIMEOUT|no Spot capacity|insufficient capacity",
        "AWS has no such machines free there now: give --subnets in several zones, another type, "
        "or --task-market on-demand.",
    ),
    (
        r"INSTANCE_TYPE_NOT_SUPPORTED",
        "That zone lacks the instance type: give --subnets in another zone, or another type.",
    ),
    (
        r"INVALID_SSH_KEY_NAME|key pair .* does not exist",
        "The key pair is not one of this region: give another --key-name.",
    ),
    (
        r"Container released on a lost node|Exit status: -100",
        "A Spot node was taken back: go on with --resume, or give --task-market on-demand.",
    ),
    (
        r"SlowDown|503 Slow Down|ThrottlingException",
        "S3 asked to slow down: go on with --resume in a few minutes.",
    ),
    (
        r"BOOTSTRAP_FAILURE",
        "The bootstrap of a node failed; its log is above.",
    ),
)


@dataclass(frozen=True)
class Evidence:
    """All that is known of a failure; `logs` by name, the most telling first."""

    cluster: Cluster | None = None
    step: Step | None = None
    stage: str = ""
    job_error: Mapping[str, Any] | None = None
    logs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong, in which stage, with what to do; `excerpt` is out of the log `source`."""

    stage: str
    cause: str
    hint: str = ""
    picture: str = ""
    excerpt: tuple[str, ...] = ()
    source: str = ""


def diagnose(evidence: Evidence) -> Diagnosis:
    """The cause first: the job's own word, else the last Python traceback, else what EMR says."""
    told = evidence.job_error or {}
    if not told and evidence.stage == STOPPED:
        # It may end before EMR cancels its step, which then counts as failed.
        return Diagnosis("job", _STOPPED_BY_USER, _GOES_ON)
    if not told and _was_ended_on_request(evidence):
        # What YARN writes then (exit code 137, lost containers) is an effect, not the cause.
        return Diagnosis(_stage(evidence), _ON_REQUEST, _GOES_ON)
    if not told and (lost := lost_nodes(evidence.cluster, evidence.step)):
        return Diagnosis(_stage(evidence), lost, _GOES_ON)
    source, excerpt = _excerpt(evidence.logs)
    said = str(told.get("message") or "") or _exception(excerpt) or _said_by_bootstrap(evidence)
    cause = said or _said_by_emr(evidence)
    searched = "\n".join([cause, *excerpt, _codes(evidence), *evidence.logs.values()])
    return Diagnosis(
        stage=_stage(evidence),
        cause=cause,
        hint=str(told.get("hint") or "") or hint_for(searched),
        picture=_picture([cause, *excerpt]),
        excerpt=excerpt,
        source=source,
    )


def _was_ended_on_request(evidence: Evidence) -> bool:
    """Whether somebody, or the cluster's own timer, asked EMR to end it before the job ended."""
    step = evidence.step
    failed = step is not None and step.state is StepState.FAILED
    return (
        evidence.cluster is not None
        and evidence.cluster.reason_code == "USER_REQUEST"
        and not evidence.cluster.errors
        and not failed
    )


def lost_nodes(cluster: Cluster | None, step: Step | None) -> str:
    """What EMR says of a cluster that ended because its nodes were gone; empty for all others.

    Source: EMR API reference, ClusterStateChangeReason.
    """
    failed = step is not None and step.state is StepState.FAILED
    if cluster is None or failed or cluster.reason_code != _NODES_LOST:
        return ""
    return cluster.reason or "EMR lost nodes that the cluster cannot do without."


def hint_for(text: str) -> str:
    """What to do about a failure that says `text`; empty where nothing is known."""
    for pattern, hint in _HINTS:
        if re.search(pattern, text, re.IGNORECASE):
            return hint
    return ""


def last_traceback(text: str) -> tuple[str, ...]:
    """The lines of the last Python traceback, its exception last; empty where there is none."""
    lines = [_LOG_PREFIX.sub("", line) for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return ()
    traceback = [_TRACEBACK]
    for line in lines[starts[-1] + 1 :]:
        traceback.append(line.rstrip())
        if line.strip() and not line[0].isspace():
            break
    return tuple(traceback)


def report_lines(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis as lines to print, the cause first."""
    lines = [f"Failed in stage {diagnosis.stage}: {diagnosis.cause}"]
    if diagnosis.hint:
        lines.append(f"What to do: {diagnosis.hint}")
    return [*lines, *proof_lines(diagnosis)]


def proof_lines(diagnosis: Diagnosis) -> list[str]:
    """What the diagnosis rests on: the picture, and the lines of a log."""
    lines = [f"Picture: {diagnosis.picture}"] if diagnosis.picture else []
    if diagnosis.excerpt:
        lines += [f"From {diagnosis.source}:", *(f"  {line}" for line in diagnosis.excerpt)]
    return lines


def _excerpt(logs: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    for name, text in logs.items():
        if traceback := last_traceback(text):
            return name, traceback
    for name, text in logs.items():
        if lines := [line.rstrip() for line in text.splitlines() if line.strip()]:
            return name, tuple(lines[-_TAIL_LINES:])
    return "", ()


def _exception(excerpt: tuple[str, ...]) -> str:
    return excerpt[-1] if excerpt and excerpt[0] == _TRACEBACK else ""


def _said_by_bootstrap(evidence: Evidence) -> str:
    """The last line of a bootstrap action's stderr, which is where ours say why they failed."""
    for name, text in evidence.logs.items():
        if _BOOTSTRAP_LOG.search(name) and (lines := text.strip().splitlines()):
            return f"{lines[-1].strip()}{_return_code(evidence)}"
    return ""


def _return_code(evidence: Evidence) -> str:
    errors = evidence.cluster.errors if evidence.cluster else ()
    named = errors[0].facts if errors else {}
    facts = [f"{key} {named[key]}" for key in ("bootstrap-action", "return-code") if key in named]
    return f" ({', '.join(facts)})" if facts else ""


def _said_by_emr(evidence: Evidence) -> str:
    cluster, step = evidence.cluster, evidence.step
    if cluster and cluster.errors:
        error = cluster.errors[0]
        return f"{error.message or error.code}{_return_code(evidence)}"
    if step and step.state is StepState.CANCELLED and not (step.reason or step.message):
        return "The step was cancelled."
    if step and (step.reason or step.message):
        return ". ".join(filter(None, [step.reason, step.message]))
    if cluster and cluster.reason:
        return cluster.reason
    return "EMR gives no reason."


def _codes(evidence: Evidence) -> str:
    cluster = evidence.cluster
    if cluster is None:
        return ""
    return " ".join(
        [cluster.reason_code, cluster.reason, *(error.code for error in cluster.errors)]
    )


def _stage(evidence: Evidence) -> str:
    if evidence.stage:
        return evidence.stage
    codes = _codes(evidence)
    if "BOOTSTRAP" in codes:
        return "bootstrap"
    started = evidence.step is not None and evidence.step.started_at is not None
    broken = evidence.cluster is not None and evidence.cluster.state in (
        ClusterState.TERMINATED_WITH_ERRORS,
        ClusterState.TERMINATING,
    )
    return "launch" if broken and not started else "job"


def _picture(lines: Iterable[str]) -> str:
    for pattern in (_PICTURE, _PICTURE_PATH):
        for line in lines:
            if found := pattern.search(line):
                return found["path"]
    return ""
