from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from fruits_cli.errors import MachineError, UsageError
from fruits_cli.files import MOST_DOCUMENT_BYTES, read_document, replacing, write_new
from fruits_cli.job.progress import JobReport, load_report
from fruits_cli.job.results import load_manifest
from fruits_cli.ledger import Ledger


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


@pytest.mark.parametrize("name", ["manifest.json", "progress.json"])
def test_a_pipe_in_the_place_of_a_document_blocks_nobody(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)

    with pytest.raises(OSError, match="it is not a file"):
        read_document(tmp_path / name)
    if name == "manifest.json":
        with pytest.raises(UsageError, match="cannot be read: it is not a file"):
            load_manifest(tmp_path)
    else:
        assert load_report(tmp_path) == JobReport()
    assert Ledger(tmp_path).records() == []


def test_a_document_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(MOST_DOCUMENT_BYTES + 1)

    with pytest.raises(UsageError, match="cannot be read: it has more than 64 MiB"):
        load_manifest(tmp_path)
