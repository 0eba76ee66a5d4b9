from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

import pytest

from fruits_cli.errors import MachineError
from fruits_cli.files import replacing, write_new


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


def test_a_new_file_is_never_one_that_was_there(tmp_path: Path) -> None:
    file, link = tmp_path / "key", tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")

    write_new(file, "é", mode=0o600)

    for taken in (file, link):
        with pytest.raises(FileExistsError):
            write_new(taken, "other")
    assert (file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)) == ("é", 0o600)
    assert not (tmp_path / "nowhere").exists()


def test_a_new_file_that_cannot_be_written_whole_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_new(tmp_path / "x", "\udc80")

    assert list(tmp_path.iterdir()) == []
