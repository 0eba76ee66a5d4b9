from __future__ import annotations

import shlex
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.fs as pafs
import pytest

from tests.support.spark_settings import RunJob, spark_environ, spark_options


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One JVM on two cores, which every SparkContext of the module shares."""
    from pyspark import SparkContext

    scratch = tmp_path_factory.mktemp("spark")
    options = spark_options(scratch, "local[2]")
    words = [f"--conf {shlex.quote(f'{key}={value}')}" for key, value in options.items()]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in spark_environ(scratch).items():
            patch.setenv(name, value)
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"{' '.join(words)} pyspark-shell")
        yield
    gateway = SparkContext._gateway
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()
        SparkContext._gateway = SparkContext._jvm = None


@pytest.fixture(scope="module")
def run_job(java: None, artefact_folder: Path) -> RunJob:
    """main.main in this process on two cores; its exit code."""
    from spark_job.main import main

    def run(images: Path | str, output: Path, *more: str, model: Path = artefact_folder) -> int:
        places = ["--images", str(images), "--output", str(output), "--model", str(model)]
        return main([*places, "--run-id", "test", *more])

    return run


@pytest.fixture(scope="module")
def s3_environ() -> Iterator[dict[str, str]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.stop()


@pytest.fixture
def s3_here(s3_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The S3 of this test is that of this process, too."""
    for name, value in s3_environ.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3_environ: dict[str, str]) -> tuple[pafs.S3FileSystem, str]:
    """A bucket of its own, through pyarrow, which the job uses too."""
    parts = urlsplit(s3_environ["AWS_ENDPOINT_URL_S3"])
    s3 = pafs.S3FileSystem(
        access_key="test",
        secret_key="test",
        region="eu-west-3",
        scheme=parts.scheme,
        endpoint_override=parts.netloc,
        allow_bucket_creation=True,
    )
    name = f"fruits-{uuid.uuid4().hex[:8]}"
    s3.create_dir(name)
    return s3, name
