"""Makes sprite sheets of thumbnails: WebP, all cells of a sheet square and of one size."""

from __future__ import annotations

import io
import itertools
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fruits_cli.report.pictures import Album

if TYPE_CHECKING:
    from PIL import Image

SMALL_PX, LARGE_PX = 32, 64
# A sheet of 2048 x 2048 pixels is decoded into 16 MiB.
_SHEET_PX = 2048
# So many files are held at once.
_QUALITY, _BLOCK = 50, 32
_MOST_PIXELS = 100_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_GRAY = (128, 128, 128)
# What Pillow's decoders raise on broken files; such a picture has no thumbnail.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    IndexError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Sheets:
    """WebP sheets of cells of `side_px`, and the cell number of each path; row by row."""

    side_px: int
    images: Sequence[bytes] = ()
    cells: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Cells side by side in a sheet, and one above the other."""
        return _SHEET_PX // self.side_px


class _Growing:
    """Sheets to which thumbnails are added one by one."""

    def __init__(self, paths: Iterable[str], side_px: int) -> None:
        self.paths, self.side_px, self.columns = frozenset(paths), side_px, _SHEET_PX // side_px
        self._cells: dict[str, int] = {}
        self._images: list[bytes] = []
        self._sheet: Image.Image | None = None

    def add(self, path: str, small: Image.Image) -> None:
        from PIL import Image

        place = len(self._cells) % self.columns**2
        if place == 0:
            self._images += [_encoded(self._sheet)] if self._sheet else []
            self._sheet = Image.new("RGB", (_SHEET_PX, _SHEET_PX), _GRAY)
        assert self._sheet is not None
        row, column = divmod(place, self.columns)
        self._sheet.paste(small, (column * self.side_px, row * self.side_px))
        self._cells[path] = len(self._cells)

    def finished(self) -> Sheets:
        if self._sheet:
            rows = -(-((len(self._cells) - 1) % self.columns**2 + 1) // self.columns)
            used = self._sheet.crop((0, 0, _SHEET_PX, rows * self.side_px))
            self._images.append(_encoded(used))
        return Sheets(self.side_px, tuple(self._images), self._cells)


def make_sheets(paths: Sequence[str], album: Album, *, side_px: int) -> Sheets:
    """Thumbnails of those of the pictures that can be had and decoded, each path once."""
    return make_all_sheets([(paths, side_px)], album)[0]


def make_all_sheets(wanted: Sequence[tuple[Sequence[str], int]], album: Album) -> list[Sheets]:
    """The same for several lists of paths, each with its side; a picture is read once for all."""
    growing = [_Growing(paths, side_px) for paths, side_px in wanted]

    def thumbnails(entry: tuple[str, bytes]) -> list[Image.Image | None]:
        path, content = entry
        return [thumbnail(content, to.side_px) if path in to.paths else None for to in growing]

    contents = album.contents(dict.fromkeys(path for paths, _ in wanted for path in paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while block := list(itertools.islice(contents, _BLOCK)):
            for (path, _), made in zip(block, pool.map(thumbnails, block), strict=True):
                for to, small in zip(growing, made, strict=True):
                    if small is not None:
                        to.add(path, small)
    return [to.finished() for to in growing]


def thumbnail(content: bytes, side_px: int) -> Image.Image | None:
    """The whole picture, upright, within a gray square; None where no decoder can read it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            # A JPEG can be decoded at an eighth of its size.
            picture.draft("RGB", (side_px * 2, side_px * 2))
            small = picture if picture.mode != "F" and picture.mode[0] != "I" else _gray(picture)
            small.thumbnail((side_px * 2, side_px * 2))
            return ImageOps.pad(_rgb(ImageOps.exif_transpose(small)), (side_px,) * 2, color=_GRAY)
    except _BROKEN:
        return None


def _rgb(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    white = Image.new("RGB", seen.size, "white")
    white.paste(seen, mask=seen)
    return white


def _gray(picture: Image.Image) -> Image.Image:
    """Gray of more than 8 bits, by the range of its values."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(picture, np.float64))
    span = float(np.ptp(values)) or 1.0
    return Image.fromarray(((values - values.min()) / span * 255).astype(np.uint8))


def _encoded(sheet: Image.Image) -> bytes:
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()
