"""The words after spark-submit: Spark's options and the job's own arguments; pure."""

from __future__ import annotations

from dataclasses import dataclass

from fruits_cli.config import JobConfig
from fruits_cli.memory import DRIVER_MIB, DRIVER_OVERHEAD_MIB, ExecutorPlan
from fruits_cli.models import S3Uri


@dataclass(frozen=True)
class JobPlaces:
    """What one run of the job reads and writes; local paths or s3 addresses, as text."""

    images: str
    output: str
    model: str


def job_args(
    job: JobConfig,
    places: JobPlaces,
    *,
    run_id: str,
    resume: bool = False,
    deadline_min: int | None = None,
) -> list[str]:
    """The arguments of main.py, the same on a laptop and on a cluster."""
    args = ["--images", places.images, "--output", places.output, "--model", places.model]
    args += ["--run-id", run_id, "--engine", job.engine.value, "--precision", job.precision.value]
    if job.pca_variance is not None:
        args += ["--pca-variance", str(job.pca_variance)]
    elif job.pca_k is not None:
        args += ["--pca-k", str(job.pca_k)]
    if job.max_rejected is not None:
        args += ["--max-rejected", str(job.max_rejected)]
    args += ["--extensions", ",".join(job.extensions)]
    flags = {
        "--standardize": job.standardize,
        "--no-keep-features": not job.keep_features,
        "--resume": resume,
    }
    args += [flag for flag, wanted in flags.items() if wanted]
    if deadline_min is not None:
        args += ["--deadline-min", str(deadline_min)]
    return args


@dataclass(frozen=True)
class SparkOptions:
    """What spark-submit is told about the cluster; `fixed` keeps the number of executors."""

    executors: ExecutorPlan
    region: str
    python: str | None
    fixed: bool


def step_args(
    options: SparkOptions, *, main: S3Uri, package: S3Uri, name: str, job: list[str]
) -> tuple[str, ...]:
    """The arguments of command-runner.jar: spark-submit in cluster mode.

    Source: EMR Release Guide, add a Spark step.
    """
    args = ["spark-submit", "--deploy-mode", "cluster", "--name", name]
    for key, value in _conf(options).items():
        args += ["--conf", f"{key}={value}"]
    return (*args, "--py-files", str(package), str(main), *job)


def _conf(options: SparkOptions) -> dict[str, str]:
    executors = options.executors
    conf = {
        # A second attempt would be a second writer; what is finished stays, --resume goes on.
        "spark.yarn.maxAppAttempts": "1",
        "spark.driver.memory": f"{DRIVER_MIB}m",
        "spark.driver.memoryOverhead": f"{DRIVER_OVERHEAD_MIB}m",
        "spark.executor.memory": f"{executors.heap_mib}m",
        "spark.executor.memoryOverhead": f"{executors.overhead_mib}m",
        "spark.executor.cores": str(executors.cores),
        "spark.yarn.appMasterEnv.AWS_REGION": options.region,
        "spark.executorEnv.AWS_REGION": options.region,
    }
    if options.python:
        conf["spark.pyspark.python"] = options.python
        conf["spark.yarn.appMasterEnv.PYSPARK_PYTHON"] = options.python
    if options.fixed:
        conf["spark.dynamicAllocation.enabled"] = "false"
        conf["spark.executor.instances"] = str(executors.count)
    return conf
