"""Values that several tests start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fruits_cli.cloud.account import Foundation, Identity, Machine, Network, Observed, Quota
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.cloud.prices import table_prices
from fruits_cli.config import Config, Engine
from fruits_cli.job.arguments import Job, JobPlaces
from fruits_cli.job.node_python import Lock, NodePython
from fruits_cli.s3uri import S3Uri

RUN_ID = "20260823-141502-k3f9"
BUCKET = "grapes-and-figs"
LOCK = Lock(f"# imports: numpy\nnumpy==2.4.6 --hash=sha256:{'5' * 64}\n")
PYTHON = NodePython(Engine.OPENVINO, (LOCK,), "#!/usr/bin/env bash\n")


def config(**tables: dict[str, Any]) -> Config:
    """A configuration with a bucket, and these tables over it."""
    storage = {"bucket": BUCKET, **tables.pop("storage", {})}
    return Config.model_validate({"storage": storage, **tables})


def observed(**changes: Any) -> Observed:
    """An account that has everything, and room for 64 vCPUs of each market."""
    blank = Observed(
        identity=Identity("123456789012", "ada@example.org"),
        region="eu-west-3",
        missing=frozenset[Foundation](),
        machines={**MACHINES, "m7i.large": Machine(2, 8192)},
        network=Network("vpc-1", ("subnet-a", "subnet-b")),
        on_demand=Quota(64, 0),
        spot=Quota(64, 0),
        prices=table_prices(MACHINES, "eu-west-3"),
    )
    return replace(blank, **changes)


def job(*, resume: bool = False) -> Job:
    """A job whose code and model lie in the bucket."""
    places = JobPlaces(
        images=f"s3://{BUCKET}/fruits/datasets/Test/",
        output=f"s3://{BUCKET}/fruits/runs/{RUN_ID}/",
        model=f"s3://{BUCKET}/fruits/models/f00d/",
    )
    code = S3Uri(BUCKET, "fruits/code/c0de/")
    return Job(code / "main.py", code / "spark_job.zip", places, resume=resume)
