import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fruits_cli.report.pictures import Album
from fruits_cli.report.thumbnails import Sheets, make_all_sheets, make_sheets, thumbnail
from fruits_cli.s3uri import S3Uri
from tests.support.datasets import row, write_manifest, write_shard
from tests.support.fakes import FakeAws
from tests.support.pictures import draw_folder, drawn, jpeg, png_header, saved

NAMES = [f"Kiwi/{number:03}.jpg" for number in range(7)]


def cell(sheets: Sheets, path: str) -> np.ndarray:
    number = sheets.cells[path]
    side, columns = sheets.side_px, sheets.columns
    sheet = Image.open(io.BytesIO(sheets.images[number // columns**2]))
    left, top = number % columns * side, number % columns**2 // columns * side
    return np.asarray(sheet.crop((left, top, left + side, top + side)), np.float32)


def near(one: np.ndarray, content: bytes, side: int) -> float:
    made = thumbnail(content, side)
    assert made is not None
    return float(np.abs(one - np.asarray(made, np.float32)).mean())


def from_folder(folder: Path) -> Album:
    return Album(str(folder))


def packed(folder: Path, names: list[str], *, each: int) -> list[str]:
    """A dataset beside the folder, with so many pictures in each shard; the shards' names."""
    rows = [row(name, "Kiwi", (folder / name).read_bytes()) for name in names]
    parts = [rows[start : start + each] for start in range(0, len(rows), each)]
    shards = [write_shard(folder.parent / "set", part) for part in parts]
    write_manifest(folder.parent / "set", shards)
    return [str(shard["name"]) for shard in shards]


def from_dataset(folder: Path) -> Album:
    packed(folder, NAMES, each=3)
    return Album(str(folder.parent / "set"), all_paths=NAMES)


def from_s3(folder: Path) -> Album:
    packed(folder, NAMES, each=3)
    aws = FakeAws()
    aws.storage.create_bucket("bucket")
    for file in (folder.parent / "set").iterdir():
        aws.storage.put_bytes(file.read_bytes(), S3Uri("bucket", f"sets/x/{file.name}"))
    return Album("s3://bucket/sets/x/", aws.storage, NAMES)


@pytest.mark.parametrize("album", [from_folder, from_dataset, from_s3])
def test_each_picture_is_in_its_cell(album: Callable[[Path], Album], tmp_path: Path) -> None:
    draw_folder(tmp_path / "in", NAMES)

    sheets = make_sheets(NAMES[:5], album(tmp_path / "in"), side_px=32)

    assert set(sheets.cells) == set(NAMES[:5])
    for seed, path in enumerate(NAMES[:5]):
        errors = [near(cell(sheets, path), jpeg(other), 32) for other in range(7)]
        assert int(np.argmin(errors)) == seed


def test_only_the_shards_that_hold_wanted_pictures_are_read(tmp_path: Path) -> None:
    draw_folder(tmp_path / "in", NAMES)
    first, second, _ = packed(tmp_path / "in", NAMES, each=3)
    (tmp_path / "set" / first).unlink()
    told: list[str] = []
    album = Album(str(tmp_path / "set"), all_paths=NAMES, warn=told.append)

    assert [path for path, _ in album.contents([NAMES[4], NAMES[6]])] == [NAMES[4], NAMES[6]]
    (tmp_path / "set" / second).unlink()
    assert told == []
    assert list(album.contents([NAMES[4]])) == []
    assert told[0].startswith("Thumbnails are missing: ")


def test_no_more_is_fetched_from_s3_than_is_worth_it(tmp_path: Path) -> None:
    draw_folder(tmp_path / "in", NAMES)
    whole = from_s3(tmp_path / "in")
    told: list[str] = []
    first = next((tmp_path / "set").glob("*.parquet")).stat().st_size
    few = replace(whole, most_fetched=int(first * 1.5), warn=told.append)

    found = [path for path, _ in few.contents(NAMES)]

    assert found == NAMES[:3]
    assert told[0].endswith("would be fetched. --images FOLDER takes them from this machine.")
    assert [path for path, _ in whole.contents(NAMES)] == NAMES


def test_sheets_of_two_sides_come_of_one_reading(tmp_path: Path) -> None:
    draw_folder(tmp_path / "in", NAMES)
    read: list[str] = []

    class Counting(Album):
        def contents(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
            for path, content in super().contents(paths):
                read.append(path)
                yield path, content

    small, large = make_all_sheets(
        [(NAMES[:5], 32), (NAMES[3:], 64)], Counting(str(tmp_path / "in"))
    )

    assert sorted(read) == NAMES
    assert (set(small.cells), set(large.cells)) == (set(NAMES[:5]), set(NAMES[3:]))
    assert near(cell(large, NAMES[4]), jpeg(4), 64) < near(cell(large, NAMES[4]), jpeg(5), 64)


def test_what_is_missing_broken_or_elsewhere_has_no_thumbnail(tmp_path: Path) -> None:
    draw_folder(tmp_path / "in", ["a.jpg"])
    (tmp_path / "outside.jpg").write_bytes(jpeg(1))
    (tmp_path / "in" / "broken.jpg").write_bytes(jpeg(2)[:200])
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    wanted = ["a.jpg", "b.jpg", "broken.jpg", "pipe.jpg", "../outside.jpg", "nul\0.jpg"]
    wanted.append(str(tmp_path / "outside.jpg"))

    sheets = make_sheets(wanted, Album(str(tmp_path / "in")), side_px=32)

    assert set(sheets.cells) - {"broken.jpg"} == {"a.jpg"}


def test_without_pictures_there_is_no_sheet() -> None:
    assert make_sheets(["a.jpg"], Album(), side_px=32) == Sheets(32)


def test_more_pictures_than_a_sheet_holds_make_another(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    dot = saved(Image.new("RGB", (2, 2), "red"))
    names = [f"{number}.png" for number in range(1030)]
    for name in names:
        (tmp_path / "in" / name).write_bytes(dot)

    sheets = make_sheets(names, Album(str(tmp_path / "in")), side_px=64)

    assert len(sheets.images) == 2
    assert Image.open(io.BytesIO(sheets.images[1])).size == (2048, 64)
    assert sheets.cells["1029.png"] == 1029


@pytest.mark.parametrize(
    "picture",
    [
        saved(drawn(), "PNG"),
        saved(drawn().convert("L"), "JPEG"),
        saved(drawn().convert("P"), "GIF"),
        saved(drawn().convert("RGBA"), "WEBP"),
        saved(drawn().convert("CMYK"), "JPEG"),
        saved(Image.fromarray(np.arange(0, 60000, 100, np.uint16).reshape(20, 30)), "PNG"),
        saved(Image.fromarray(np.linspace(-1, 3, 600, dtype=np.float32).reshape(20, 30)), "TIFF"),
        saved(drawn().convert("1"), "PNG"),
    ],
    ids=["png", "gray", "palette", "alpha", "cmyk", "16 bit", "float", "1 bit"],
)
def test_every_kind_of_picture_becomes_a_square(picture: bytes) -> None:
    made = thumbnail(picture, 32)

    assert made is not None
    assert (made.size, made.mode) == ((32, 32), "RGB")
    assert np.ptp(np.asarray(made)) > 20


def test_a_turned_picture_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.new("RGB", (40, 20), "red")

    made = thumbnail(saved(turned, "JPEG", exif=exif), 32)

    assert made is not None
    assert made.getpixel((16, 2))[0] > 200
    assert made.getpixel((1, 16)) == (128, 128, 128)


@pytest.mark.parametrize("content", [b"", b"text", png_header(100_000, 100_000), jpeg()[:30]])
def test_what_no_decoder_reads_is_none(content: bytes) -> None:
    assert thumbnail(content, 32) is None
