"""Bytes of a picture file become uint8 pixels of one size, or the reason why not."""

from __future__ import annotations

import ctypes
import io
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from spark_job import headers, schema

# Raised where the same bytes become other pixels, or another refusal: rows of earlier runs are then
# not copied.
RULES = 3
# Without this list Pillow would start Ghostscript for an EPS file named .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000
# A worker has 640 MiB, of which a process with the model takes 180 before its first picture, and
# the files in flight up to 30 (measured).
MAX_DECODING_BYTES = 384 * 2**20
# From here on memory that is free but held back is worth the milliseconds of giving it back.
_LARGE_BYTES = 96 * 2**20
# Bytes a pixel at the peak of decoding and converting, at least as many as measured; what is not
# named here takes most.
_PIXEL_BYTES = {
    "1": 5,
    "L": 5,
    "RGB": 4,
    "P": 9,
    "RGBA": 8,
    "CMYK": 8,
    "YCbCr": 8,
    "LAB": 8,
    "I;16": 9,
    "I;16B": 9,
    "LA": 13,
}
_MOST_PIXEL_BYTES = 20
# What decoders hold beside the picture: frames, strips, the coefficients of a progressive JPEG.
_FORMAT_BYTES = {"WEBP": 12, "TIFF": 4}
_COEFFICIENT_BYTES, _TURNED_BYTES, _TEXTS = 6, 4, (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# The weights by which Pillow resizes: four of 8 bytes for each column and row.
_LINE_BYTES = 32
_COPIES = 3
# simplejpeg's array and the copy that Pillow makes of it, and coefficients.
_PLAIN_BYTES = 3 + 4 + _COEFFICIENT_BYTES
# Tables, comment, JFIF; frames of 8 bits a sample, baseline and progressive; the first scan.
_PLAIN_SEGMENTS, _PLAIN_FRAMES = frozenset(b"\xc4\xdb\xdd\xe0\xfe"), frozenset(b"\xc0\xc2")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The largest value of a picture in floats that is nearly black where 255 is white.
_FAINT = 16

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
        try:
            return _pixels(content, side_px)
        # Decoders raise whatever their parsers meet: OSError, SyntaxError, struct.error,
        # zlib.error, ValueError, IndexError, MemoryError ... None of it may end the job.
        except Refusal:
            raise
        except UnidentifiedImageError as error:
            known = ", ".join(FORMATS)
            sentence = f"No decoder knows it; known: {known}."
            raise Refusal(schema.NOT_A_PICTURE, sentence) from error
        except Exception as error:
            raise Refusal(_kind(error), _sentence(error)) from error


def _pixels(content: bytes, side_px: int) -> npt.NDArray[np.uint8]:
    try:
        return _resized(content, side_px, file_bytes=len(content))
    except ValueError as error:
        # Pillow limits the length of texts: without them the picture is still whole.
        if "MAX_TEXT" not in str(error):
            raise
    bare = _without_texts(content)
    return _resized(bare, side_px, file_bytes=len(content) + len(bare))


def _resized(content: bytes, side_px: int, *, file_bytes: int) -> npt.NDArray[np.uint8]:
    """file_bytes: of the file, with a copy of it that is held beside."""
    upright = plain_jpeg(content, side_px)
    if upright is None:
        reading = file_bytes + headers.reading_bytes(content)
        _require(reading, "The file's header")
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        _require_room(picture, content, reading, side_px)
        upright = _rgb(_upright(picture))
    resized = upright.resize((side_px, side_px), Image.Resampling.BICUBIC)
    # Gray is resized once, not three times over.
    return np.asarray(resized.convert("RGB") if resized.mode == "L" else resized)


def plain_jpeg(content: bytes, side_px: int) -> Image.Image | None:
    """The JPEG as simplejpeg decodes it, to Pillow's own pixels.

    None where Pillow shall judge: what is broken or large, or has EXIF, a profile, an Adobe mark.
    """
    if (frame := _plain_frame(content)) is None:
        return None
    height, width, components = frame
    needed = len(content) + height * width * _PLAIN_BYTES + height * side_px * 4
    if needed > MAX_DECODING_BYTES or components not in (1, 3):
        return None
    colours = "GRAY" if components == 1 else "RGB"
    try:
        # The fast flags are not faster, and give other pixels.
        pixels = simplejpeg.decode_jpeg(content, colours, fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return Image.fromarray(pixels[..., 0] if components == 1 else pixels)


def _plain_frame(content: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of a JPEG with nothing else before its first scan."""
    frame = None
    for marker, head in headers.segments(content):
        if marker == headers.SCAN:
            return frame
        if marker in _PLAIN_FRAMES and head[2] == 8 and frame is None:
            frame = int.from_bytes(head[3:5]), int.from_bytes(head[5:7]), head[7]
        elif marker not in _PLAIN_SEGMENTS:
            return None
    return None


def _without_texts(png: bytes) -> bytes:
    kept, start = [png[:8]], 8
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4])
        if png[start + 4 : start + 8] not in _TEXTS:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _require_room(picture: Image.Image, content: bytes, reading_bytes: int, side_px: int) -> None:
    """Raise Refusal where decoding would take more memory than a worker has."""
    pixels = picture.width * picture.height
    size = f"{picture.width} x {picture.height}"
    if pixels > MAX_PIXELS:
        raise Refusal(schema.TOO_LARGE, f"{size} pixels; the limit is {MAX_PIXELS:,}.")
    needed = reading_bytes + _held_bytes(picture, content)
    # Before the orientation is looked for, which reads all of the EXIF.
    _require(needed, f"{size} {picture.mode}")
    pixel_bytes = _PIXEL_BYTES.get(picture.mode, _MOST_PIXEL_BYTES)
    if picture.mode in ("1", "L", "RGB") and "transparency" in picture.info:
        pixel_bytes = 12
    pixel_bytes += _FORMAT_BYTES.get(picture.format or "", 0)
    if picture.format in ("JPEG", "MPO") and not (
        headers.is_read_at_once(content) and "progressive" not in picture.info
    ):
        pixel_bytes += _COEFFICIENT_BYTES
    if _orientation(picture) in _TURNS:
        pixel_bytes += _TURNED_BYTES
    # Resizing makes the picture narrow first: of a tall line it makes side_px columns.
    needed += pixels * pixel_bytes + picture.height * side_px * 4
    needed += (picture.width + picture.height) * _LINE_BYTES
    _require(needed, f"{size} {picture.mode}")
    if needed > _LARGE_BYTES:
        _release_unused()


def _release_unused() -> None:
    """Give the system back what freed objects have left with the allocators: up to 50 MiB."""
    pa.default_memory_pool().release_unused()
    # Only glibc has it.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _require(needed: int, what: str) -> None:
    if needed > MAX_DECODING_BYTES:
        limit = f"the limit is {MAX_DECODING_BYTES // 2**20} MiB"
        sentence = f"{what} takes {needed // 2**20:,} MiB to decode; {limit}."
        raise Refusal(schema.TOO_LARGE, sentence)


def _held_bytes(picture: Image.Image, content: bytes) -> int:
    """Bytes that the open picture holds beside its pixels and its file."""
    held = sum(map(sys.getsizeof, picture.info.values()))
    if exif := picture.info.get("exif"):
        held += _COPIES * len(exif) + headers.tag_bytes(exif.removeprefix(b"Exif\0\0"))
    if picture.format == "WEBP":
        # Pillow and its decoder have each a copy of the file.
        held += 2 * len(content)
    if picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        # Decoded as a whole, however small the picture is.
        tile = tags.get(TiffImagePlugin.TILEWIDTH, 0) * tags.get(TiffImagePlugin.TILELENGTH, 0)
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
        held += tile * max(-(-sum(bits) // 8), 4)
    return held


def _orientation(picture: Image.Image) -> int:
    # Only a picture that carries EXIF or TIFF tags can be turned.
    if "exif" not in picture.info and picture.format not in ("TIFF", "MPO"):
        return 1
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block beside good pixels: the picture counts
        return 1


def _upright(picture: Image.Image) -> Image.Image:
    # EXIF may stand behind the pixels of a PNG, and a TIFF is turned by loading it.
    picture.load()
    # Pillow's own exif_transpose writes the EXIF anew, and fails where that is broken.
    turn = _TURNS.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGB", "L") and "transparency" not in picture.info:
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
    scaled = _scaled_floats(values) if picture.mode == "F" else _scaled_integers(values)
    return Image.fromarray(scaled)


def _scaled_integers(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """By the bits that the largest value needs: 12-bit data in 16 bits is no black picture."""
    lowest, highest = min(int(values.min()), 0), int(values.max())
    if lowest < 0:
        # Modulo 2**32 the difference is right, in half the memory of 64 bits.
        values = values.astype(np.uint32) - np.uint32(lowest % 2**32)
    shift = max((highest - lowest).bit_length() - 8, 0)
    return (values >> shift).astype(np.uint8)


def _scaled_floats(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0 to 255 as they are; 0 to 1, and what reaches beyond 255 or below 0, by their range.

    0 to 1 may reach somewhat beyond 1, which between 0 and 255 would be black.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise Refusal(schema.NOT_A_PICTURE, "None of its values is a number.")
    lowest = float(values.min(where=finite, initial=np.inf))
    highest = float(values.max(where=finite, initial=-np.inf))
    if lowest >= 0 and highest <= _FAINT:
        values = values * np.float32(255 / max(highest, 1))
    elif lowest < highest and (lowest < 0 or highest > 255):
        values = (values - np.float32(lowest)) * np.float32(255 / (highest - lowest))
    return np.asarray(np.clip(np.nan_to_num(values), 0, 255), np.uint8)


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
