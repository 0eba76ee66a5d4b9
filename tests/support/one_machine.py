"""Where commands are tried: on a machine of their own, or in this process with AWS on moto."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import Machine
from tests.support.on_moto import fruits, s3_here

__all__ = ["fruits", "s3_here"]


@pytest.fixture(scope="session")
def machine_cache(tmp_path_factory: pytest.TempPathFactory, artefact_folder: Path) -> Path:
    """One cache for all machines, in which the session's model lies already."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "fruits").mkdir()
    (cache / "fruits" / "models").symlink_to(artefact_folder.parent)
    return cache


@pytest.fixture
def machine(tmp_path: Path, machine_cache: Path) -> Iterator[Machine]:
    """A machine whose commands end with the test."""
    made = Machine(tmp_path, machine_cache)
    yield made
    made.end()
