"""What simplejpeg decodes is what Pillow would, and what it does not is refused in Pillow's words.

A segment that the job does not know makes Pillow decode: each file is decoded with it and without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spark_job import images
from tests.support.pictures import drawn, saved

SIDE = 40
UNKNOWN = b"\xff\xef\x00\x02"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"subsampling": 0},
    {"subsampling": 1},
    {"progressive": True, "subsampling": 2},
    {"optimize": True, "comment": b"a fig"},
    {"restart_marker_blocks": 2},
]
SIZES = [(64, 48), (33, 17), (8, 8), (1, 1), (1, 90)]


def outcome(content: bytes) -> Any:
    try:
        return images.decoded(content, SIDE).tobytes()
    except images.Refusal as refusal:
        return refusal.error, refusal.message


def by_pillow(content: bytes) -> bytes:
    return content[:2] + UNKNOWN + content[2:]


def drawn_jpegs() -> list[bytes]:
    return [
        saved(drawn(seed, size).convert(mode), "JPEG", quality=(95, 80, 40)[seed % 3], **options)
        for seed, options in enumerate(OPTIONS)
        for size in SIZES
        for mode in ("RGB", "L")
    ]


def damaged(content: bytes, dice: np.random.Generator) -> bytes:
    """The file cut, lengthened, or with some bytes of its header or anywhere replaced; its first
    three bytes stay, by which Pillow knows it."""
    act = dice.integers(0, 6)
    place = int(dice.integers(4, len(content)))
    if act == 0:
        return content[:place]
    if act == 1:
        return content + dice.bytes(int(dice.integers(1, 20)))
    if act == 2:
        return content[:place] + content[place + int(dice.integers(1, 30)) :]
    if act == 3:
        return content[:place] + content[place - 2 : place + 90] + content[place:]
    changed, reach = bytearray(content), 300 if act == 4 else len(content)
    for _ in range(int(dice.integers(1, 4))):
        spot = int(dice.integers(3, min(reach, len(content))))
        changed[spot] = int(dice.choice([0, 1, 2, 255, int(dice.integers(0, 256))]))
    return bytes(changed)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_jpegs_are_decoded_without_pillow(options: dict[str, Any], mode: str) -> None:
    content = saved(drawn(5).convert(mode), "JPEG", **options)

    assert images.plain_jpeg(content, SIDE) is not None
    assert images.plain_jpeg(by_pillow(content), SIDE) is None


@pytest.mark.parametrize(
    ("mode", "options"), [("CMYK", {}), ("RGB", {"icc_profile": b"x"}), ("RGB", {"exif": b"Exif"})]
)
def test_what_needs_more_than_decoding_is_left_to_pillow(mode: str, options: Any) -> None:
    content = saved(drawn().convert(mode), "JPEG", **options)

    assert images.plain_jpeg(content, SIDE) is None


def test_a_large_jpeg_is_left_to_pillow_whose_decoding_takes_less_memory() -> None:
    content = bytearray(saved(drawn(), "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = (6000).to_bytes(2) * 2

    assert images.plain_jpeg(bytes(content), SIDE) is None


def test_pixels_of_drawn_jpegs_equal_pillows() -> None:
    for content in drawn_jpegs():
        assert outcome(content) == outcome(by_pillow(content))


def test_damaged_jpegs_come_to_the_same_end_as_with_pillow() -> None:
    dice = np.random.default_rng(11)
    ends: set[type] = set()
    for content in drawn_jpegs():
        for _ in range(30):
            hostile = damaged(content, dice)
            seen = outcome(hostile)
            ends.add(type(seen))
            assert seen == outcome(by_pillow(hostile))
    assert ends == {bytes, tuple}


def test_every_frame_type_comes_to_the_same_end_as_with_pillow() -> None:
    for content in drawn_jpegs()[:20]:
        place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
        for marker in range(0xC0, 0xD0):
            other = content[: place + 1] + bytes([marker]) + content[place + 2 :]
            assert outcome(other) == outcome(by_pillow(other))
