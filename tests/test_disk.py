from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from fruits_cli.disk import replacing
from fruits_cli.errors import MachineError


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")

    with suppress(RuntimeError), replacing(file) as scratch:
        scratch.write_text("half")
        raise RuntimeError

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="x cannot be written: No space left on device"),
        replacing(tmp_path / "x"),
        open("/dev/full", "w") as full,
    ):
        full.write("x" * 10_000)
