"""A file of a megabyte or less must not take a worker's memory, whatever its header says."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from spark_job import headers, images, schema
from tests.support.pictures import drawn, jpeg, outcome, png_chunk, png_header, saved

SIDE = 32
_NO_PIXELS = png_chunk(b"IDAT", b"")


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_in_scans(side: int, *, filled: bytes = b"") -> bytes:
    """A gray-green baseline JPEG, each of whose three components has a scan of its own."""
    blocks = (-(-side // 8)) ** 2
    scan = b"\0" * (blocks // 4) + bytes([0xFF >> (blocks % 4 * 2)] if blocks % 4 else b"")
    # A single code of one bit: no difference, and no coefficients.
    code = b"\1" + bytes(15) + b"\0"
    frame = struct.pack(">BHHB", 8, side, side, 3)
    frame += b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame)
    head += segment(0xC4, b"\0" + code) + segment(0xC4, b"\x10" + code)
    scans = [segment(0xDA, bytes([1, number, 0, 0, 63, 0])) + scan for number in (1, 2, 3)]
    return b"\xff\xd8" + filled + head + b"".join(scans) + b"\xff\xd9"


def tiff(tags: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    """A gray TIFF of 16 x 16 with these tags; `body` begins at its eighth byte."""
    usual = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries = sorted([*usual, *tags])
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + bytes(4)


def test_a_jpeg_in_several_scans_counts_what_libjpeg_holds_of_it() -> None:
    assert outcome(jpeg_in_scans(48)) == "pixels"
    assert outcome(jpeg_in_scans(9_600)) == schema.TOO_LARGE


def test_a_jpeg_in_one_scan_is_told_from_one_in_several() -> None:
    assert headers.is_read_at_once(jpeg())
    assert headers.is_read_at_once(saved(drawn().convert("L"), "JPEG"))
    assert not headers.is_read_at_once(jpeg_in_scans(48))
    assert not headers.is_read_at_once(jpeg()[:200])


def test_a_wide_line_whose_resizing_takes_much_is_too_large() -> None:
    assert outcome(png_header(20_000_000, 1, colour_type=0) + _NO_PIXELS) == schema.TOO_LARGE


def test_a_transparent_picture_of_one_bit_takes_as_much_as_others() -> None:
    head = png_header(6_500, 6_500, colour_type=0, bit_depth=1)
    clear = png_chunk(b"tRNS", b"\0\1")

    assert outcome(head + clear + _NO_PIXELS) == schema.TOO_LARGE
    assert outcome(head + _NO_PIXELS) != schema.TOO_LARGE


def test_sixteen_bits_take_the_same_in_either_order_of_bytes() -> None:
    ramp = np.zeros((4_300, 4_300), np.uint16)

    for kind in ("<u2", ">u2"):
        assert outcome(saved(Image.fromarray(ramp.astype(kind)), "TIFF")) == "pixels"


def test_a_small_tiff_in_a_vast_tile_is_too_large() -> None:
    def tiled(side: int) -> bytes:
        body = zlib.compress(bytes(side * side), 1)
        tags = [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(body))]
        return tiff([*tags, (259, 3, 1, 8)], body)

    assert outcome(tiled(64)) == "pixels"
    assert outcome(tiled(11_008)) == schema.TOO_LARGE


def test_a_tiff_of_millions_of_strips_is_too_large() -> None:
    def with_strips(count: int) -> bytes:
        body = bytes([255]) * 256 + struct.pack("<I", 8) * count
        strips = [(273, 4, count, 8 + 256), (278, 4, 1, 16), (279, 4, 1, 256), (259, 3, 1, 1)]
        return tiff(strips, body)

    assert outcome(with_strips(2)) != schema.TOO_LARGE
    assert outcome(with_strips(11_000_000)) == schema.TOO_LARGE


def test_exif_of_millions_of_numbers_is_too_large() -> None:
    count = 11_000_000
    exif = b"II*\0" + struct.pack("<IHHHII", 8, 1, 274, 4, count, 26) + bytes(4 + 4 * count)
    content = png_header(8, 8) + png_chunk(b"eXIf", exif) + _NO_PIXELS

    assert outcome(content) == schema.TOO_LARGE


def test_a_jpeg_of_nothing_but_exif_is_too_large() -> None:
    block = segment(0xE1, b"Exif\0\0" + bytes(65_000))

    assert outcome(jpeg_in_scans(48, filled=block * 2)) == "pixels"
    assert outcome(jpeg_in_scans(48, filled=block * 1_600)) == schema.TOO_LARGE


def test_a_png_without_its_texts_counts_beside_the_whole_one() -> None:
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 2**24))
    file = png_header(9_800, 9_800) + png_chunk(b"juNk", bytes(12 * 2**20))

    assert outcome(file + _NO_PIXELS) != schema.TOO_LARGE
    assert outcome(file + text + _NO_PIXELS) == schema.TOO_LARGE


def exif_block(*entries: tuple[int, int, int, int]) -> bytes:
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)


@pytest.mark.parametrize(
    "broken", [(256, 9, 1, 2**32 - 1), (258, 2, 4, 0x41414141)], ids=["negative", "text"]
)
def test_a_picture_is_turned_whatever_else_its_exif_says(
    broken: tuple[int, int, int, int],
) -> None:
    def turned(block: bytes) -> bytes:
        whole = jpeg()
        return whole[:2] + segment(0xE1, b"Exif\0\0" + block) + whole[2:]

    orientation = (274, 3, 1, 6)
    seen = images.decoded(turned(exif_block(broken, orientation)), SIDE)

    assert np.array_equal(seen, images.decoded(turned(exif_block(orientation)), SIDE))
    assert not np.array_equal(seen, images.decoded(jpeg(), SIDE))


@pytest.mark.parametrize("content", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0+\0\0\0\0", b"XY"])
def test_a_directory_that_is_broken_tells_of_nothing(content: bytes) -> None:
    assert headers.tag_bytes(content) == 0


def test_a_jpeg_of_nothing_but_short_segments_is_too_large() -> None:
    filled = segment(0xE4, b"xy") * 1_600_000

    assert outcome(jpeg()[:2] + filled + jpeg()[2:]) == schema.TOO_LARGE


def test_a_directory_that_is_named_thousands_of_times_is_read_once() -> None:
    entries = struct.pack("<HHII", 34665, 4, 1, 8) * 60_000
    content = b"II*\0" + struct.pack("<IH", 8, 60_000) + entries

    assert headers.tag_bytes(content) < 16 * len(content)


def test_the_entries_of_a_bigtiff_are_not_held() -> None:
    entries = struct.pack("<HHQQ", 300, 3, 0, 0) * 200_000
    content = b"II" + struct.pack("<HHHQQ", 43, 8, 0, 16, 2**63) + entries
    tracemalloc.start()

    assert headers.tag_bytes(content) == 0

    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 1 << 20


@pytest.mark.parametrize("pointer", [2**32 - 1, 2**63, 2**64 - 1])
def test_a_broken_pointer_does_not_hide_what_the_other_tags_take(pointer: int) -> None:
    entries = struct.pack("<HHQQ", 34665, 4, 1, pointer) + struct.pack("<HHQQ", 300, 3, 900, 0)
    content = b"II" + struct.pack("<HHHQQ", 43, 8, 0, 16, 2) + entries + bytes(2_000)

    assert headers.tag_bytes(content) > 900 * 30


@pytest.mark.parametrize("start", [2**32, 2**63, 2**64 - 1])
def test_a_first_directory_beyond_the_file_tells_of_nothing(start: int) -> None:
    assert headers.tag_bytes(b"II" + struct.pack("<HHHQ", 43, 8, 0, start)) == 0
