"""Bytes of a picture file become uint8 pixels of one size, or the reason why not."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from spark_job import schema

# Without this list Pillow would start Ghostscript for an EPS file named .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000
# A worker has 640 MiB, of which a process with the model takes 180 before its first picture, and
# the files in flight up to 50 (measured).
MAX_DECODING_BYTES = 384 * 2**20
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
    "LA": 13,
}
_MOST_PIXEL_BYTES = 20
# What decoders hold beside the picture: frames, strips, the coefficients of a progressive JPEG.
_FORMAT_BYTES = {"WEBP": 12, "TIFF": 4}
_PROGRESSIVE_BYTES, _TURNED_BYTES, _TEXTS = 6, 4, (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# simplejpeg's array and the copy that Pillow makes of it, and coefficients.
_PLAIN_BYTES = 3 + 4 + _PROGRESSIVE_BYTES
# Tables, comment, JFIF; frames of 8 bits a sample, baseline and progressive; the first scan.
_PLAIN_SEGMENTS, _FRAMES, _SCAN = frozenset(b"\xc4\xdb\xdd\xe0\xfe"), frozenset(b"\xc0\xc2"), 0xDA

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
        return _resized(content, side_px)
    except ValueError as error:
        # Pillow limits the length of texts: without them the picture is still whole.
        if "MAX_TEXT" not in str(error):
            raise
    return _resized(_without_texts(content), side_px)


def _resized(content: bytes, side_px: int) -> npt.NDArray[np.uint8]:
    upright = plain_jpeg(content, side_px)
    if upright is None:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        _require_room(picture, len(content), side_px)
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
    frame, start = None, 2
    # Source: ITU-T T.81, B.1: segments of FF, marker, two bytes of length (its own included).
    while content[:2] == b"\xff\xd8" and content[start : start + 1] == b"\xff":
        head = content[start + 1 : start + 10]
        if len(head) < 9 or head[0] == _SCAN:
            return frame
        if head[0] in _FRAMES and head[3] == 8 and frame is None:
            frame = int.from_bytes(head[4:6]), int.from_bytes(head[6:8]), head[8]
        elif head[0] not in _PLAIN_SEGMENTS:
            return None
        start += 2 + int.from_bytes(head[1:3])
    return None


def _without_texts(png: bytes) -> bytes:
    kept, start = [png[:8]], 8
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4])
        if png[start + 4 : start + 8] not in _TEXTS:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _require_room(picture: Image.Image, file_bytes: int, side_px: int) -> None:
    """Raise Refusal where decoding would take more memory than a worker has."""
    pixels = picture.width * picture.height
    size = f"{picture.width} x {picture.height}"
    if pixels > MAX_PIXELS:
        raise Refusal(schema.TOO_LARGE, f"{size} pixels; the limit is {MAX_PIXELS:,}.")
    pixel_bytes = _PIXEL_BYTES.get(picture.mode, _MOST_PIXEL_BYTES)
    if picture.mode in ("L", "RGB") and "transparency" in picture.info:
        pixel_bytes = 12
    pixel_bytes += _FORMAT_BYTES.get(picture.format or "", 0)
    if picture.info.get("progressive"):
        pixel_bytes += _PROGRESSIVE_BYTES
    if _is_turned(picture):
        pixel_bytes += _TURNED_BYTES
    # Resizing makes the picture narrow first: of a tall line it makes side_px columns.
    needed = file_bytes + pixels * pixel_bytes + picture.height * side_px * 4
    if needed > MAX_DECODING_BYTES:
        limit = f"the limit is {MAX_DECODING_BYTES // 2**20} MiB"
        sentence = f"{size} {picture.mode} takes {needed // 2**20:,} MiB to decode; {limit}."
        raise Refusal(schema.TOO_LARGE, sentence)


def _is_turned(picture: Image.Image) -> bool:
    # Only a picture that carries EXIF or TIFF tags can be turned.
    if "exif" not in picture.info and picture.format not in ("TIFF", "MPO"):
        return False
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1)) in range(2, 9)
    except Exception:  # a broken EXIF block beside good pixels: the picture counts
        return False


def _upright(picture: Image.Image) -> Image.Image:
    if picture.format == "PNG":
        picture.load()  # EXIF may stand behind the pixels.
    return ImageOps.exif_transpose(picture) if _is_turned(picture) else picture


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
    """0 to 255 as they are; 0 to 1, and what reaches beyond 255 or below 0, by their range."""
    finite = np.isfinite(values)
    lowest = float(values.min(where=finite, initial=np.inf))
    highest = float(values.max(where=finite, initial=-np.inf))
    if lowest >= 0 and highest <= 1:
        values = values * np.float32(255)
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
