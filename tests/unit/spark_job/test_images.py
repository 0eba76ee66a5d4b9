from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from spark_job import images, schema
from tests.support.paths import ROOT
from tests.support.pictures import drawn, jpeg, outcome, png_chunk, png_header, saved, white_png

SIDE = 32
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/owned) (w) file closefile\n"


def pixels(content: bytes) -> npt.NDArray[np.int16]:
    return images.decoded(content, SIDE).astype(np.int16)


def expected(picture: Image.Image) -> npt.NDArray[np.int16]:
    resized = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(resized).astype(np.int16)


def refusal(content: bytes) -> images.Refusal:
    with pytest.raises(images.Refusal) as refused:
        images.decoded(content, SIDE)
    return refused.value


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", jpeg())
    return buffer.getvalue()


def on_white(picture: Image.Image) -> Image.Image:
    colour = np.asarray(picture.convert("RGBA"), np.float64)
    alpha = colour[..., 3:] / 255
    blended = colour[..., :3] * alpha + 255 * (1 - alpha)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def see_through(mode: str) -> Image.Image:
    picture = drawn(3).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)


@pytest.mark.parametrize("side", [96, 224, 320])
def test_pixels_are_rgb_bytes_of_the_asked_side(side: int) -> None:
    decoded = images.decoded(jpeg(), side)

    assert decoded.shape == (side, side, 3)
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_listed_format_decodes(kind: str) -> None:
    picture = drawn()
    content = saved(picture, kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))

    difference = np.abs(pixels(content) - expected(picture)).mean()

    assert difference < (6 if kind in ("JPEG", "WEBP", "GIF") else 0.01)


def test_what_a_file_is_called_does_not_matter() -> None:
    assert np.array_equal(pixels(saved(drawn(1), "PNG")), pixels(saved(drawn(1), "BMP")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_png_modes_equal_pillows_own_conversion(mode: str) -> None:
    picture = drawn(2).convert(mode)

    assert np.array_equal(pixels(saved(picture)), expected(picture))


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "TIFF"), ("CMYK", "JPEG"), ("L", "JPEG"), ("YCbCr", "TIFF")]
)
def test_other_colour_spaces_become_rgb(mode: str, kind: str) -> None:
    picture = drawn(2).convert(mode)

    assert np.abs(pixels(saved(picture, kind)) - expected(picture)).mean() < 6


def test_a_cmyk_jpeg_is_not_a_negative() -> None:
    bright = Image.new("RGB", (40, 40), (250, 240, 230)).convert("CMYK")

    assert pixels(saved(bright, "JPEG")).mean() > 225


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("PA", "TIFF"), ("RGBA", "WEBP")]
)
def test_alpha_shows_white_behind_it(mode: str, kind: str) -> None:
    picture = see_through(mode) if mode != "PA" else see_through("LA")
    content = saved(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))

    assert np.abs(pixels(content) - expected(on_white(picture))).max() <= 1


def test_pa_is_laid_on_white() -> None:
    picture = Image.new("PA", (4, 4))
    picture.putpalette([10, 20, 30])

    assert np.array_equal(images._rgb(picture), np.full((4, 4, 3), 255))


@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 0, 0, 0)])
def test_what_is_fully_transparent_is_white(colour: tuple[int, ...]) -> None:
    assert (pixels(saved(Image.new("RGBA", (20, 20), colour))) == 255).all()


def test_a_transparent_palette_entry_is_white() -> None:
    picture = Image.new("P", (20, 10), 1)
    picture.putpalette([200, 10, 10, 10, 10, 200])
    picture.paste(0, (0, 0, 10, 10))

    seen = pixels(saved(picture, transparency=0))

    assert (seen[:, :12] == 255).all()
    assert (seen[:, -12:] == (10, 10, 200)).all()


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (1, 2, 3)), ("L", 7)])
def test_a_transparent_colour_is_white(mode: str, colour: Any) -> None:
    assert (pixels(saved(Image.new(mode, (20, 20), colour), transparency=colour)) == 255).all()


def test_sixteen_bit_gray_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)

    for kind in ("PNG", "TIFF"):
        seen = pixels(saved(Image.fromarray(ramp), kind))

        assert np.abs(seen - expected(Image.fromarray((ramp >> 8).astype(np.uint8)))).max() <= 1


def test_sixteen_bit_big_endian_gray_is_scaled_too() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(">u2").reshape(64, 64)
    picture = Image.frombytes("I;16B", (64, 64), ramp.tobytes())

    seen = pixels(saved(picture, "TIFF"))

    assert np.abs(seen - expected(Image.fromarray((ramp >> 8).astype(np.uint8)))).max() <= 1


def test_sixteen_bit_rgb_is_scaled() -> None:
    values = (np.asarray(drawn(4)).astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = png_header(64, 48, colour_type=2, bit_depth=16)
    content = head + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")

    assert np.array_equal(pixels(content), expected(drawn(4)))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wide_gray_tiffs_decode(kind: type[np.generic]) -> None:
    flat = np.full((20, 20), 128 * (256 if kind is np.int32 else 1)).astype(kind)

    assert (pixels(saved(Image.fromarray(flat), "TIFF")) == 128).all()


def test_a_float_tiff_with_infinities_and_nans_decodes() -> None:
    values = np.array([[np.nan, np.inf], [-np.inf, 300.0]], np.float32).repeat(16, 0).repeat(16, 1)

    seen = images.decoded(saved(Image.fromarray(values), "TIFF"), 32)

    assert [int(seen[y, x, 0]) for y, x in ((2, 2), (2, 29), (29, 2), (29, 29))] == [0, 255, 0, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_exif_turned_picture_equals_its_upright_twin(kind: str, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = drawn(5)
    stored = upright.transpose(turns[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})

    seen = pixels(saved(stored, kind, exif=exif, **options))

    assert np.abs(seen - expected(upright)).mean() < (4 if kind == "JPEG" else 0.01)


def test_exif_behind_the_pixels_of_a_png_turns_it_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = saved(drawn(5).transpose(Image.Transpose.ROTATE_180))
    end = png_chunk(b"IEND", b"")
    block = exif.tobytes().removeprefix(b"Exif\0\0")

    seen = pixels(plain.removesuffix(end) + png_chunk(b"eXIf", block) + end)

    assert np.array_equal(seen, expected(drawn(5)))


def test_a_sixteen_bit_picture_can_be_turned() -> None:
    ramp = np.linspace(0, 65535, 64 * 32).astype(np.uint16).reshape(32, 64)
    exif = Image.Exif()
    exif[0x0112] = 6

    seen = pixels(saved(Image.fromarray(ramp), "TIFF", exif=exif))

    turned = np.rot90((ramp >> 8).astype(np.uint8), -1)
    assert np.abs(seen - expected(Image.fromarray(turned))).max() <= 1


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b""])
def test_broken_exif_beside_good_pixels_does_no_harm(exif: bytes) -> None:
    content = jpeg()
    block = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif

    assert np.array_equal(pixels(content[:2] + block + content[2:]), pixels(content))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    first, second = (Image.new("RGB", (30, 30), colour) for colour in ((250, 0, 0), (0, 0, 250)))
    options = {"lossless": True} if kind == "WEBP" else {}

    seen = pixels(saved(first, kind, save_all=True, append_images=[second], **options))

    assert (seen == (250, 0, 0)).all()


def test_the_first_picture_of_an_mpo_counts() -> None:
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ((250, 0, 0), (0, 0, 250)))

    seen = pixels(saved(first, "MPO", save_all=True, append_images=[second]))

    assert np.abs(seen - (250, 0, 0)).max() <= 3


def test_one_pixel_is_a_picture() -> None:
    assert (pixels(saved(Image.new("RGB", (1, 1), (9, 8, 7)))) == (9, 8, 7)).all()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_line_is_a_picture(size: tuple[int, int]) -> None:
    assert (pixels(saved(Image.new("L", size, 77))) == 77).all()


def test_no_bytes_are_empty() -> None:
    assert refusal(b"").error == schema.EMPTY


@pytest.mark.parametrize(
    "content",
    [b"Once upon a time", EPS, zipped(), b"\0" * 5000, b"%PDF-1.7\n", b"<svg/>", b"\xff\xd8\xff"],
    ids=["text", "eps", "zip", "zeros", "pdf", "svg", "jpeg-mark"],
)
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    assert refusal(content).error == schema.NOT_A_PICTURE


def test_a_format_outside_the_list_is_refused() -> None:
    assert refusal(saved(drawn(), "PPM")).error == schema.NOT_A_PICTURE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_half_a_picture_is_truncated(kind: str) -> None:
    content = saved(drawn(6, (200, 200)), kind)

    assert refusal(content[: len(content) // 2]).error == schema.TRUNCATED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_picture_cut_or_damaged_anywhere_never_crashes(kind: str) -> None:
    content = saved(drawn(7, (24, 24)), kind)
    dice = np.random.default_rng(7)
    cuts = [content[:cut] for cut in range(0, len(content), max(1, len(content) // 80))]
    for place in dice.integers(0, len(content), 150):
        damaged = bytearray(content)
        damaged[place] = int(dice.integers(0, 256))
        cuts.append(bytes(damaged))

    known = ("pixels", schema.EMPTY, schema.NOT_A_PICTURE, schema.TRUNCATED, schema.TOO_LARGE)
    for cut in cuts:
        assert outcome(cut) in known


def test_the_limit_of_pixels_is_exact() -> None:
    no_pixels = png_chunk(b"IDAT", b"")

    assert "pixels; the limit" in refusal(png_header(10_000, 10_001) + no_pixels).message
    assert refusal(png_header(10_000, 10_000) + no_pixels).error != schema.TOO_LARGE


@pytest.mark.parametrize(("colour_type", "side"), [(2, 9_900), (4, 5_500), (6, 7_000)])
def test_the_limit_is_the_memory_that_the_mode_takes(colour_type: int, side: int) -> None:
    no_pixels = png_chunk(b"IDAT", b"")

    above = png_header(side + 400, side + 400, colour_type=colour_type) + no_pixels
    below = png_header(side - 100, side - 100, colour_type=colour_type) + no_pixels

    assert refusal(above).error == schema.TOO_LARGE
    assert refusal(below).error != schema.TOO_LARGE


def test_a_tall_line_that_resizing_would_make_vast_is_too_large() -> None:
    assert refusal(png_header(1, 60_000_000) + png_chunk(b"IDAT", b"")).error == schema.TOO_LARGE


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
@pytest.mark.parametrize("is_behind", [False, True])
def test_long_texts_are_no_reason_to_reject(kind: bytes, is_behind: bool) -> None:
    content = saved(drawn())
    text = png_chunk(kind, b"Comment\0\0" + zlib.compress(b"A" * 2**24))
    place = len(content) - 12 if is_behind else 33

    assert np.array_equal(pixels(content[:place] + text + content[place:]), expected(drawn()))


@pytest.mark.parametrize(
    ("scale", "kind"),
    [
        (1 / 255, np.float32),
        (1.05 / 255, np.float32),
        (1, np.int32),
        (1, np.float32),
        (16, np.uint16),
        (2**20, np.int32),
    ],
    ids=["float-0-to-1", "float-beyond-1", "int32", "float", "12-bit", "int32-beyond-16-bit"],
)
def test_gray_is_scaled_by_its_own_range(scale: float, kind: type[np.generic]) -> None:
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64)

    seen = pixels(saved(Image.fromarray((ramp * scale).astype(kind)), "TIFF"))

    assert np.abs(seen - expected(Image.fromarray(ramp.astype(np.uint8)))).max() <= 1


def test_floats_that_are_no_numbers_are_no_picture() -> None:
    nothing = Image.fromarray(np.full((8, 8), np.nan, np.float32))

    assert refusal(saved(nothing, "TIFF")).error == schema.NOT_A_PICTURE


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_negative_gray_is_scaled_by_its_own_range(kind: type[np.generic]) -> None:
    ramp = np.linspace(-128, 127, 64 * 64).reshape(64, 64)

    seen = pixels(saved(Image.fromarray(ramp.astype(kind)), "TIFF"))

    assert seen.min() < 6
    assert seen.max() > 248


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (30_000, 30_000)])
def test_a_header_that_promises_too_much_is_too_large(size: tuple[int, int]) -> None:
    assert refusal(png_header(*size) + png_chunk(b"IDAT", b"")).error == schema.TOO_LARGE


def peak_growth_mib(content: str) -> tuple[str, float]:
    script = f"""
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from tests.support.pictures import white_png
from spark_job import images
images.decoded(white_png(8), 96)
content = {content}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    end = str(images.decoded(content, 96).min())
except images.Refusal as refusal:
    end = refusal.error
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([end, grown / (2**20 if sys.platform == "darwin" else 2**10)]))
"""
    tests = str(ROOT)
    child = subprocess.run(
        [sys.executable, "-c", script, tests], capture_output=True, text=True, check=True
    )
    end, grown = json.loads(child.stdout)
    return end, grown


@pytest.mark.slow
def test_30000_by_30000_is_refused_before_it_takes_memory() -> None:
    end, grown_mib = peak_growth_mib("white_png(30_000)")

    assert end == schema.TOO_LARGE
    assert grown_mib < 30


@pytest.mark.slow
def test_the_largest_picture_with_alpha_takes_bounded_memory() -> None:
    end, grown_mib = peak_growth_mib("white_png(6_900, colour_type=6)")

    assert end == "255"
    assert grown_mib < 400


def test_a_compressed_text_bomb_in_a_png_is_bounded() -> None:
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 2**28))
    content = saved(drawn())

    assert outcome(content[:33] + bomb + content[33:]) in ("pixels", schema.NOT_A_PICTURE)


def test_a_refusal_survives_pickling_and_context_managers() -> None:
    refused = images.Refusal(schema.EMPTY, "The file has no bytes.")

    @contextlib.contextmanager
    def block() -> Any:
        yield

    assert vars(pickle.loads(pickle.dumps(refused))) == vars(refused)
    with pytest.raises(images.Refusal), block():
        raise refused


def test_white_png_is_what_it_says() -> None:
    assert (pixels(white_png(64, colour_type=4)) == 255).all()
