from __future__ import annotations

import json
from pathlib import Path

import pytest

from fruits_cli.errors import MachineError
from fruits_cli.job import spark as driver
from fruits_cli.job.progress import load_report
from fruits_cli.screen import Progress


def test_progress_is_the_jobs_last_report(tmp_path: Path) -> None:
    facts = {"stage": "pca", "pictures_done": 3, "pictures": 4, "images_per_s": 1.5, "error": None}
    (tmp_path / "progress.json").write_text(json.dumps(facts))

    assert load_report(tmp_path).progress == Progress("pca", 3, 4, 1.5)


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"[]", b"7", b"\xff"])
def test_progress_that_cannot_be_read_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "progress.json").write_bytes(content)

    assert load_report(tmp_path).progress is None


def test_a_user_id_without_a_name_gets_a_hint() -> None:
    with pytest.raises(MachineError, match="user id 123456789 has no name") as refused:
        driver.require_named_user(123456789)

    assert "/etc/passwd" in refused.value.hint
