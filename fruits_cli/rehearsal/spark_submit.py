"""A step's spark-submit, read and turned into one that runs on this machine (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from fruits_cli.job.java import LOOPBACK_CONF
from fruits_cli.rehearsal.wire import Refused

# The options of spark-submit that stand alone; every other one takes a value.
_FLAGS = {"--verbose", "-v", "--supervise", "--help", "-h", "--version", "--usage-error"}
_SCHEMES = ("s3://", "s3a://", "s3n://")


@dataclass(frozen=True)
class Submission:
    """`spark-submit <options> <main> <job_args>`."""

    options: tuple[str, ...]
    main: str
    job_args: tuple[str, ...]

    @property
    def in_cluster_mode(self) -> bool:
        mode = "client"
        for name, value in _pairs(self.options):
            if name == "--deploy-mode":
                mode = value
            if name == "--conf" and value.startswith("spark.submit.deployMode="):
                mode = value.partition("=")[2]
        return mode == "cluster"


def parse_submission(args: tuple[str, ...]) -> Submission:
    """The parts of a command-runner.jar step.

    Raises Refused for any other command than spark-submit: the rehearsal runs nothing else.
    """
    if not args or args[0] != "spark-submit":
        command = args[0] if args else "nothing"
        raise Refused("NotRehearsed", f"The rehearsal runs spark-submit only, not {command}.")
    index = 1
    while index < len(args) and args[index].startswith("-"):
        takes_value = args[index] not in _FLAGS and "=" not in args[index]
        index += 2 if takes_value else 1
    if index >= len(args):
        raise Refused("NotRehearsed", "spark-submit was given no main file.")
    return Submission(args[1:index], args[index], args[index + 1 :])


def _pairs(tokens: tuple[str, ...]) -> list[tuple[str, str]]:
    """Options with their values, `--name=value` included; values come out as names too."""
    pairs = []
    for token, following in pairwise((*tokens, "")):
        name, equals, value = token.partition("=")
        pairs.append((name, value if equals and name.startswith("--") else following))
    return pairs


def files_to_fetch(submission: Submission) -> list[tuple[str, str]]:
    """What has to be fetched: ("main" | "--py-files" | "--model", address), those on S3 only."""
    wanted = [("main", submission.main)]
    wanted += [
        ("--py-files", address)
        for name, value in _pairs(submission.options)
        if name == "--py-files"
        for address in value.split(",")
    ]
    wanted += [(name, value) for name, value in _pairs(submission.job_args) if name == "--model"]
    return [(what, address) for what, address in wanted if address.startswith(_SCHEMES)]


def with_local_files(submission: Submission, local: Mapping[str, str]) -> Submission:
    """The same submission with the fetched addresses replaced by paths, and nothing else."""
    return replace(
        submission,
        options=_replace_option(submission.options, "--py-files", local),
        main=local.get(submission.main, submission.main),
        job_args=_replace_option(submission.job_args, "--model", local),
    )


def _replace_option(
    tokens: tuple[str, ...], option: str, local: Mapping[str, str]
) -> tuple[str, ...]:
    replaced, follows = [], False
    for token in tokens:
        name, equals, value = token.partition("=")
        if follows:
            token = _local_paths(token, local)
        elif equals and name == option:
            token = f"{name}={_local_paths(value, local)}"
        follows = token == option and not follows
        replaced.append(token)
    return tuple(replaced)


def _local_paths(addresses: str, local: Mapping[str, str]) -> str:
    return ",".join(local.get(address, address) for address in addresses.split(","))


def local_options(cores: int, python: str, scratch: str, events: str) -> tuple[str, ...]:
    """Options in place of YARN and the nodes: appended, because the last of an option wins.

    The interpreter that the step names is on nodes only. Spark listens on the loopback alone.
    """
    settings = {
        "spark.submit.deployMode": "client",
        "spark.pyspark.python": python,
        "spark.pyspark.driver.python": python,
        **LOOPBACK_CONF,
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file:{events}",
        "spark.local.dir": scratch,
    }
    options = ["--master", f"local[{cores}]", "--deploy-mode", "client"]
    for name, value in settings.items():
        options += ["--conf", f"{name}={value}"]
    return tuple(options)


def command_line(spark_submit: str, submission: Submission, local: tuple[str, ...]) -> list[str]:
    """The argv that runs here."""
    return [spark_submit, *submission.options, *local, submission.main, *submission.job_args]
