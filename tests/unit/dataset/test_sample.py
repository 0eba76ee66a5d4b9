from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fruits_cli.config import JobConfig
from fruits_cli.dataset.listing import count_pictures
from fruits_cli.dataset.sample import draw_sample
from fruits_cli.errors import MachineError


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    draw_sample(folder)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.*"))


def decoded(file: Path) -> Image.Image | None:
    try:
        with Image.open(file) as picture:
            picture.load()
            return picture
    except OSError:
        return None


def test_a_dozen_kinds_make_360_pictures(sample: Path) -> None:
    assert len(list(sample.iterdir())) == 12
    assert count_pictures(sample, JobConfig().extensions).pictures == 360
    assert {len(list(kind.iterdir())) for kind in sample.iterdir()} == {30}


def test_pictures_are_100x100_jpegs_on_white(sample: Path) -> None:
    for file in files(sample):
        if (picture := decoded(file)) is not None:
            assert (picture.format, picture.size) == ("JPEG", (100, 100))
            corner = picture.convert("RGB").getpixel((0, 0))
            assert isinstance(corner, tuple)
            assert min(corner) > 240


def test_exactly_one_is_grayscale_and_two_cannot_be_decoded(sample: Path) -> None:
    pictures = [decoded(file) for file in files(sample)]

    modes = [picture.mode if picture else "broken" for picture in pictures]
    assert {mode: modes.count(mode) for mode in set(modes)} == {"RGB": 357, "L": 1, "broken": 2}


def test_one_broken_file_is_a_jpeg_cut_short_and_one_is_text(sample: Path) -> None:
    starts = {file.read_bytes()[:3] for file in files(sample) if decoded(file) is None}

    assert starts == {b"\xff\xd8\xff", b"Thi"}


def test_no_two_pictures_are_equal(sample: Path) -> None:
    digests = {hashlib.sha256(file.read_bytes()).digest() for file in files(sample)}

    assert len(digests) == 360


def test_the_same_bytes_are_drawn_each_time(sample: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path)

    drawn = {file.relative_to(tmp_path): file.read_bytes() for file in files(tmp_path)}
    assert drawn == {file.relative_to(sample): file.read_bytes() for file in files(sample)}


@pytest.mark.parametrize(
    ("kind", "is_so"),
    [
        ("Apple Red", lambda red, green, blue: red > 1.5 * green),
        ("Apple Green", lambda red, green, blue: green > red > blue),
        ("Orange", lambda red, green, blue: red > 1.3 * green > 2 * blue),
        ("Lemon", lambda red, green, blue: min(red, green) > 1.5 * blue),
        ("Grapes", lambda red, green, blue: blue > red > green),
    ],
)
def test_a_fruit_has_its_colour(
    sample: Path, kind: str, is_so: Callable[[float, float, float], bool]
) -> None:
    for file in files(sample / kind):
        with Image.open(file) as picture:
            red, green, blue = np.asarray(picture)[35:65, 35:65].reshape(-1, 3).mean(axis=0)
        assert is_so(red, green, blue)


def test_a_smaller_sample_still_has_its_three_odd_files(tmp_path: Path) -> None:
    draw_sample(tmp_path, count=24)

    pictures = [decoded(file) for file in files(tmp_path)]
    assert len(pictures) == 24
    assert pictures.count(None) == 2
    assert [picture.mode for picture in pictures if picture].count("L") == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(MachineError, match="cannot be written"):
        draw_sample(tmp_path / "file", count=12)
