"""A small set of fruit pictures, drawn here: something to run on without any download."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from fruits_cli.dataset.sample_easel import Easel
from fruits_cli.dataset.sample_fruits import KINDS
from fruits_cli.errors import MachineError
from fruits_cli.files import cache_dir, replacing

if TYPE_CHECKING:
    from PIL import Image


SIDE_PX = 100
# What a run of it does where no ImageNet weights are in the cache: nothing is downloaded.
IF_ABSENT = "the sample runs with random ones"
_NAME = "sample-1"
# Fruits are painted larger than they are shown, and a few times each: no two look alike.
_MASTER_PX, _MASTERS = 136, 2


def draw_sample(folder: Path, *, count: int = 360) -> None:
    """Write `count` files <Kind>/<n>_100.jpg, 100x100 pixels on white, the same bytes each time.

    The last three are special: one is grayscale, one truncated, one is text.
    Raises MachineError where the disk refuses.
    """
    masters = {kind: [_painted(kind, number) for number in range(_MASTERS)] for kind in KINDS}
    kinds = list(masters)
    for number in range(count):
        kind, left = kinds[number % len(kinds)], count - number
        dice = Random(f"{kind} {number}")
        picture = _photographed(dice.choice(masters[kind]), dice)
        content = _encoded(picture.convert("L") if left == 3 else picture)
        if left == 2:
            content = content[: len(content) // 3]
        elif left == 1:
            content = b"This is a text and no picture.\n"
        with replacing(folder / kind / f"{number // len(kinds)}_100.jpg") as scratch:
            scratch.write_bytes(content)


def sample_folder(environ: Mapping[str, str]) -> Path:
    """Where the sample lies, or will lie once it has been drawn."""
    return Path(os.path.abspath(cache_dir(environ) / _NAME))


def ensure_sample(folder: Path) -> Path:
    """The folder, with the sample in it: drawn now unless it is there. Raises MachineError."""
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="drawing-"))
        draw_sample(scratch)
        # Another process may have drawn the same pictures meanwhile.
        with contextlib.suppress(OSError):
            os.rename(scratch, folder)
        shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise MachineError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def _painted(kind: str, number: int) -> Image.Image:
    easel = Easel(Random(f"{kind} master {number}"))
    KINDS[kind](easel, easel.dice)
    return easel.image.resize((_MASTER_PX, _MASTER_PX))


def _photographed(master: Image.Image, dice: Random) -> Image.Image:
    """The fruit turned, scaled, shifted and relit, on white."""
    from PIL import Image, ImageEnhance, ImageOps

    fruit = ImageOps.mirror(master) if dice.random() < 0.5 else master
    fruit = fruit.rotate(dice.uniform(-40, 40), resample=Image.Resampling.BICUBIC)
    side = dice.randint(84, 98)
    fruit = fruit.resize((side, round(side * dice.uniform(0.93, 1))))
    light = ImageEnhance.Brightness(fruit.convert("RGB")).enhance(dice.uniform(0.86, 1.1))
    relit = ImageEnhance.Color(light).enhance(dice.uniform(0.85, 1.15))
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    left, top = (dice.randint(0, SIDE_PX - length) for length in fruit.size)
    picture.paste(relit, (left, top), fruit.getchannel("A"))
    return picture


def _encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=92)
    return stream.getvalue()
