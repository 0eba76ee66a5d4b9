from __future__ import annotations

from pathlib import Path

import pytest

from fruits_cli.doctor import machine
from fruits_cli.doctor.findings import Verdict

OK, FAILING = Verdict.OK, Verdict.FAILING


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10), FAILING), ((3, 11), OK), ((3, 12), OK), ((3, 13), FAILING)]
)
def test_two_pythons_can_run_the_job(version: tuple[int, int], verdict: Verdict) -> None:
    assert machine.python(version).verdict is verdict


def test_packages_are_told_with_versions_and_missing_ones_named() -> None:
    assert machine.packages(["pyarrow", "no-such-package"]).said == "no-such-package is missing."
    assert machine.packages(["pyarrow"]).said.startswith("pyarrow ")


def test_random_weights_are_made_here() -> None:
    assert machine.weights("random", {}).verdict is OK


def test_a_weights_file_is_here_or_fails(tmp_path: Path) -> None:
    file = tmp_path / "my.h5"
    before = machine.weights(str(file), {})
    file.write_bytes(b"")

    assert (before.verdict, before.said) == (FAILING, f"The file {file} cannot be read.")
    assert machine.weights(str(file), {}).verdict is OK


@pytest.mark.parametrize(
    ("free_gib", "is_writable", "said", "verdict"),
    [
        (1.9, True, "1.9 GiB free in /data, 2 GiB needed.", FAILING),
        (2.0, True, "2.0 GiB free in /data, 2 GiB needed", OK),
        (99.0, False, "/data cannot be written.", FAILING),
    ],
)
def test_a_disk_has_room_and_lets_us_write(
    free_gib: float, is_writable: bool, said: str, verdict: Verdict
) -> None:
    found = machine.disk(lambda: Path("/data"), lambda folder: (folder, free_gib, is_writable))

    assert (found.said, found.verdict) == (said, verdict)


def test_a_folder_that_is_still_to_be_made_is_measured_at_its_parent(tmp_path: Path) -> None:
    folder, free_gib, is_writable = machine.room(tmp_path / "a" / "b")

    assert (folder, is_writable) == (tmp_path, True)
    assert free_gib > 0


def test_a_run_writes_to_three_folders(tmp_path: Path) -> None:
    found = machine.folders({"XDG_CACHE_HOME": "/c"}, tmp_path)

    assert found["working folder"]() == tmp_path
    assert found["cache"]() == Path("/c/fruits")
    assert found["temporary folder"]().is_dir()
