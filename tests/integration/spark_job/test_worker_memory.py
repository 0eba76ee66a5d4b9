"""A worker has 640 MiB, whatever pictures it meets and however they come to it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spark_job import images, listing
from tests.support.packing import pack_on_disk
from tests.support.paths import ROOT
from tests.support.pictures import white_png

# What pyarrow's client of S3 takes beside is not in these measurements: 10 to 25.
_WORKER_MIB, _S3_MIB = 640, 30


def white_bmp(side: int) -> bytes:
    """An uncompressed picture: the file is as large as its pixels."""
    size = side * side * 3
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + size, 0, 0, 54) + head + b"\xff" * size


def worst_folder(folder: Path) -> Path:
    """The largest pictures that are not refused, by mode, among files that are always in flight."""
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.png").write_bytes(os.urandom(1_500_000))
    (folder / "30.png").write_bytes(os.urandom(30_000_000))
    for number, side, colours in [(20, 9_940, 2), (25, 7_020, 6), (40, 5_500, 4)]:
        (folder / f"{number}.png").write_bytes(white_png(side, colour_type=colours))
    side = int((listing.MAX_PICTURE_BYTES // 3) ** 0.5) // 4 * 4 - 4
    for number in (21, 22):
        (folder / f"{number}.bmp").write_bytes(white_bmp(side))
    return folder


def full_shard(folder: Path) -> Path:
    """The largest pictures that are not refused, among small ones of as many bytes as a shard."""
    folder.mkdir()
    for number in range(42):
        (folder / f"{number:02}.png").write_bytes(os.urandom(1_500_000))
    for number in (3, 20):
        (folder / f"{number:02}.png").write_bytes(white_png(7_020, colour_type=6))
    return folder


def usual_shard(folder: Path) -> Path:
    """The same in row groups that are read at once."""
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:03}.png").write_bytes(os.urandom(28_500))
    for number in (3, 300):
        (folder / f"{number:03}.png").write_bytes(white_png(7_020, colour_type=6))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the memory of a process in /proc")
@pytest.mark.parametrize(
    ("make", "is_packed", "features", "rejected"),
    [
        pytest.param(worst_folder, False, 5, 57, id="folder"),
        pytest.param(worst_folder, True, 5, 57, id="packed"),
        pytest.param(full_shard, True, 2, 40, id="full shard"),
        pytest.param(usual_shard, True, 2, 598, id="usual shard"),
    ],
)
def test_the_worst_pictures_fit_into_a_worker(
    artefact_folder: Path,
    tmp_path: Path,
    make: Callable[[Path], Path],
    is_packed: bool,
    features: int,
    rejected: int,
) -> None:
    assert images.MAX_DECODING_BYTES == 384 * 2**20, "the pictures below are cut for this"
    folder = make(tmp_path / "worst")
    if is_packed:
        packed = tmp_path / "packed"
        packed.mkdir()
        pack_on_disk(folder, packed, extensions=["png", "bmp"])
        folder = packed

    command = [sys.executable, "-m", "tests.support.worker_peak", str(folder)]
    ended = subprocess.run(
        [*command, str(tmp_path / "run"), str(artefact_folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert (seen["features"], seen["rejected"]) == (
        features,
        {"not_a_picture": rejected},
    )
    assert seen["peak_mib"] < _WORKER_MIB - _S3_MIB
