"""Where commands are tried: on a machine of their own, or in this process with AWS on moto."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machine
from on_moto import fruits, s3_here

__all__ = ["fruits", "s3_here"]


@pytest.fixture(scope="session")
def machine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all machines: the model is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def machine(tmp_path: Path, machine_cache: Path) -> Iterator[Machine]:
    """A machine whose commands end with the test."""
    made = Machine(tmp_path, machine_cache)
    yield made
    made.end()
