"""What tests of several rooms share: one small model artefact a session, made by the real tool."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.loaders
import pytest

ARTEFACT_SIDE_PX = 96


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a JVM or a whole rehearsal is slow, but for one of each."""
    for item in items:
        kind = item.path.relative_to(Path(__file__).parent).parts[0]
        if kind in ("spark", "end_to_end") and item.get_closest_marker("quick") is None:
            item.add_marker(pytest.mark.slow)


def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session, the same one for every worker of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """Background jobs start with Ctrl-C ignored, those of nohup with SIGHUP; so would our own."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hang_up)


@pytest.fixture(scope="session", autouse=True)
def models_of_aws_are_read_once() -> Iterator[None]:
    """Every botocore session would read EC2's model again, 0.4 s: all of a process share one."""
    with pytest.MonkeyPatch.context() as patch:
        shared = functools.cache(botocore.loaders.create_loader)
        patch.setattr(botocore.loaders, "create_loader", shared)
        yield


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of artefacts; two workers that make the same one at once do no harm."""
    return session_folder(tmp_path_factory) / "models"


@pytest.fixture(scope="session")
def artefact_folder(model_cache: Path) -> Path:
    """The artefact of random weights for pictures of 96 x 96."""
    command = [sys.executable, "-m", "spark_job.model", "--weights", "random"]
    command += ["--image-size", str(ARTEFACT_SIDE_PX), "--cache", str(model_cache)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return Path(json.loads(made.stdout.splitlines()[-1])["folder"])


@pytest.fixture(scope="session")
def random_weights(artefact_folder: Path, model_cache: Path) -> Path:
    """The weights file that the artefact was made from, in Keras' own format, without a top."""
    (file,) = model_cache.glob("random-*.weights.h5")
    return file
