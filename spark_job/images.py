"""Bytes of a picture file become uint8 pixels of one size, or the reason why not."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from spark_job import schema

# Without this list Pillow would start Ghostscript for an EPS file named .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000

# Our own limit is checked before decoding; Pillow's would warn below it and raise above.
Image.MAX_IMAGE_PIXELS = None


@dataclass(eq=False)
class Refusal(Exception):
    """Why a picture cannot be used: one of the words of schema.py, and a sentence."""

    error: str
    message: str


def decoded(content: bytes, side_px: int) -> npt.NDArray[np.uint8]:
    """The picture's first frame, upright, on white, as (side_px, side_px, 3) RGB.

    Resized bicubically, without keeping its proportions. Raises Refusal.
    """
    if not content:
        raise Refusal(schema.EMPTY, "The file has no bytes.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = _opened(content)
        try:
            resized = _rgb(_upright(picture)).resize((side_px, side_px), Image.Resampling.BICUBIC)
        # Decoders raise whatever their parsers meet: OSError, SyntaxError, struct.error,
        # zlib.error, ValueError, IndexError, MemoryError ... None of it may end the job.
        except Exception as error:
            raise Refusal(_kind(error), _sentence(error)) from error
    return np.asarray(resized)


def _opened(content: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise Refusal(schema.NOT_A_PICTURE, f"No decoder knows it; known: {formats}.") from error
    except Exception as error:  # as in `decoded`
        raise Refusal(_kind(error), _sentence(error)) from error
    if picture.width * picture.height > MAX_PIXELS:
        size = f"{picture.width} x {picture.height}"
        raise Refusal(schema.TOO_LARGE, f"{size} pixels; the limit is {MAX_PIXELS:,}.")
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    if picture.format == "PNG":
        picture.load()  # EXIF may stand behind the pixels.
    # Only a picture that carries EXIF or TIFF tags can be turned.
    if "exif" not in picture.info and picture.format not in ("TIFF", "MPO"):
        return picture
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block beside good pixels: the picture counts
        return picture
    return ImageOps.exif_transpose(picture) if orientation in range(2, 9) else picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":
        return _eight_bit(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return _on_white(picture)
    return picture.convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    # Pasted, not composited: the same pixels, without two more copies of a large picture.
    seen = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    white = Image.new("RGB", seen.size, "white")
    white.paste(seen, mask=seen)
    return white


def _eight_bit(picture: Image.Image) -> Image.Image:
    # Pillow's own conversion of 16-bit gray clips everything above 255 to white.
    values = np.asarray(picture)
    if picture.mode != "F":
        values = values // 256
    return Image.fromarray(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8))


def _kind(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, OSError) and ("truncated" in text or "unexpected end" in text):
        return schema.TRUNCATED
    if isinstance(error, EOFError):
        return schema.TRUNCATED
    if isinstance(error, MemoryError):
        return schema.TOO_LARGE
    return schema.NOT_A_PICTURE


def _sentence(error: Any) -> str:
    return f"{type(error).__name__}: {error}"[:500]
