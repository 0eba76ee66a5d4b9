"""Small pictures for tests, drawn on the spot; no two seeds look alike."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from spark_job import images


def drawn(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A seeded RGB picture of soft colours, without any symmetry."""
    dice = np.random.default_rng(seed)
    cells = dice.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def draw_kinds(folder: Path, kinds: int, *, shades: tuple[float, ...], side: int = 96) -> None:
    """PNGs of discs below `folder`, each kind in some shades: alike enough to be neighbours."""
    for kind in range(kinds):
        dice = np.random.default_rng(kind)
        picture = Image.new("RGB", (side, side), _colour(dice))
        for _ in range(4):
            left, top, size = (int(n) for n in dice.integers((0, 0, 10), (80, 80, 50)))
            box = (left, top, left + size, top + size)
            ImageDraw.Draw(picture).ellipse(box, fill=_colour(dice))
        for number, shade in enumerate(shades):
            file = folder / f"kind {kind}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(saved(ImageEnhance.Brightness(picture).enhance(shade)))


def _colour(dice: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(part) for part in dice.integers(0, 256, 3))


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """The bytes of a seeded JPEG."""
    return saved(drawn(seed, size), "JPEG", quality=90)


def draw_folder(folder: Path, names: list[str]) -> None:
    """A JPEG of its own under each name below `folder`."""
    for seed, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(seed))


def png_header(width: int, height: int, *, colour_type: int = 2, bit_depth: int = 8) -> bytes:
    """The start of a PNG up to its pixels, with correct checksums."""
    head = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def white_png(side: int, *, colour_type: int = 2, bit_depth: int = 8) -> bytes:
    """A whole all-white PNG of side x side, made and held in little memory."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    row = b"\0" + b"\xff" * (side * samples * bit_depth // 8)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = png_header(side, side, colour_type=colour_type, bit_depth=bit_depth)
    return head + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def outcome(content: bytes, *, side_px: int = 32) -> str:
    """`pixels`, or why the picture is refused."""
    try:
        assert images.decoded(content, side_px).shape == (side_px, side_px, 3)
    except images.Refusal as refused:
        return refused.error
    return "pixels"
