from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from spark_job import local
from spark_job.local import read_gateway


def test_port_and_secret_are_read_as_spark_writes_them() -> None:
    told = b"\x00\x00\x9c\x40\x00\x00\x00\x06secret"

    assert read_gateway(io.BytesIO(told)) == (40_000, "secret")


@pytest.mark.parametrize(("ending", "code"), [("exit 7", 7), ("kill -KILL $$", 1)])
def test_nobody_waits_for_a_jvm_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str, code: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with subprocess.Popen(["sh", "-c", ending]) as jvm, pytest.raises(SystemExit) as ended:
        local.reach_jvm(jvm)

    assert ended.value.code == code
