"""The job on a laptop or a cluster. The only file that starts Spark.

    argv → SparkContext → listing → chunks → features → tally → PCA sums → projection → manifest

job.py holds these stages; this file gives them a SparkContext, and maps each end to an exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable

from pyspark import SparkConf, SparkContext

from spark_job import daemon, engines, features, files, guard, schema
from spark_job.errors import JobError, find_job_error
from spark_job.job import Asked, Job
from spark_job.progress import Reporter

_EXTENSIONS = "jpg,jpeg,png,webp,bmp,gif,tif,tiff"


def parse_arguments(argv: list[str]) -> Asked:
    """The job's arguments out of argv; argparse exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(prog="main.py")
    for name in ("images", "output", "model", "run-id"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--engine", choices=("openvino", "tensorflow"), default="openvino")
    parser.add_argument("--precision", choices=engines.PRECISIONS, default="f32")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--pca-k", type=_count)
    size.add_argument("--pca-variance", type=_share_above_zero)
    parser.add_argument("--standardize", action="store_true")
    parser.add_argument("--max-rejected", type=_share)
    parser.add_argument("--extensions", type=_extensions, default=_extensions(_EXTENSIONS))
    parser.add_argument("--no-keep-features", dest="keep_features", action="store_false")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--deadline-min", type=float)
    parser.add_argument("--command-lock")
    # A run on a cluster is bound to these; where they are not given nothing is compared.
    for name in ("dataset-digest", "model-fingerprint", "code-digest", "python-digest"):
        parser.add_argument(f"--{name}", default="")
    # Runs, or folders of runs, whose features may be copied.
    parser.add_argument("--reuse-below", action="append", default=[])
    parser.add_argument("--reuse-run", default="")
    parser.add_argument("--slots", type=_count)
    parser.add_argument("--attempt", default="")
    given = vars(parser.parse_args(argv))
    return Asked(**given | {"reuse_below": tuple(given["reuse_below"])})


def _extensions(text: str) -> tuple[str, ...]:
    return tuple(word.strip().lower().lstrip(".") for word in text.split(",") if word.strip())


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return count


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _share_above_zero(text: str) -> float:
    if (share := _share(text)) == 0:
        raise argparse.ArgumentTypeError("0 is no share of the variance")
    return share


def run(asked: Asked, *, leaves_spark: bool = False) -> JobError | None:
    """Run the job to its end; the error that it ended with.

    leaves_spark: after a good run on this machine alone the process ends with Spark still up, whose
    JVM ends with it. Stopping Spark takes a second, and there is nothing left to stop.
    """
    output = files.place(asked.output)
    try:
        if asked.command_lock:
            guard.die_with_command(asked.command_lock)
        lock = guard.lock_run(output)
        # Before this attempt writes anything.
        output.sweep(schema.FOLDERS)
        reporter = Reporter(output, attempt=asked.attempt)
    except OSError as error:
        unwritable = JobError(1, f"{output.uri} cannot be written: {error}")
        return features.no_space(error, output) or unwritable
    except JobError as error:
        return error
    leave = functools.partial(_exit, reporter, "done") if leaves_spark else None
    failure = _run_on_spark(asked, reporter, leave)
    # If there is no space for it, the error is at least printed.
    with contextlib.suppress(OSError):
        reporter.end("failed" if failure else "done", failure.as_dict() if failure else None)
    if lock:
        lock.close()
    return failure


def _exit(
    reporter: Reporter, stage: str, error: JobError | None = None, sentence: str = ""
) -> None:
    """End the process at once, whatever its other threads do; what is finished stays."""
    try:
        reporter.end(stage, error.as_dict() if error else None)
    finally:
        if told := error.message if error else sentence:
            print(told, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if stage == "done" else 1)


def _run_on_spark(
    asked: Asked, reporter: Reporter, leave: Callable[[], None] | None
) -> JobError | None:
    with daemon.prestarted():
        spark = SparkContext(conf=SparkConf().setAppName(f"fruits {asked.run_id}"))
        try:
            failure = _run_job(asked, reporter, spark)
            if leave and failure is None and spark.master.startswith("local["):
                leave()
            return failure
        finally:
            spark.stop()


def _run_job(asked: Asked, reporter: Reporter, spark: SparkContext) -> JobError | None:
    from py4j.protocol import Py4JError

    try:
        spark.setLogLevel("ERROR")
        if asked.deadline_min:
            expire = functools.partial(_exit, reporter, "failed", _expired(asked.deadline_min))
            guard.end_after(asked.deadline_min, expire)
        if asked.attempt:
            stop = functools.partial(
                _exit, reporter, "stopped", sentence="The job was stopped on request."
            )
            guard.end_when(schema.stop_file(asked.attempt), files.place(asked.output), stop)
        Job(asked, spark).run(reporter)
    except JobError as error:
        return error
    except Py4JError as error:
        return find_job_error(str(error)) or _spark_failure(asked, str(error))
    except OSError as error:
        output = files.place(asked.output)
        sentence = f"A file of the run {output.uri} could not be read or written: {error}"
        return features.no_space(error, output) or JobError(1, sentence)
    return None


def _spark_failure(asked: Asked, text: str) -> JobError:
    print(text, file=sys.stderr)
    if "No space left on device" in text:
        hint = "Free some and continue with fruits run --resume."
        return JobError(1, "There is no space left for Spark's own files.", hint=hint)
    last = [line for line in text.splitlines() if line and not line.startswith(("\t", " "))]
    cause = next(
        (line for line in reversed(last) if "Error" in line or "Exception" in line), last[0]
    )
    return JobError(
        1, f"Spark failed: {cause[:400]}", hint="fruits run --resume continues from here."
    )


def _expired(minutes: float) -> JobError:
    sentence = f"The job was ended after its {minutes:g} minutes."
    return JobError(1, sentence, hint="fruits run --resume continues from here.")


def main(argv: list[str], *, leaves_spark: bool = False) -> int:
    """The exit code of the job with these arguments."""
    failure = run(parse_arguments(argv), leaves_spark=leaves_spark)
    if failure is None:
        return 0
    print(f"Error: {failure.message}", file=sys.stderr)
    return failure.exit_code


if __name__ == "__main__":
    guard.hide_pandas()
    sys.exit(main(sys.argv[1:]))
