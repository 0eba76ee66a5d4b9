"""Distinct pictures for benchmarks: each a source picture turned, cut out, scaled and relit.

Seeded by its number: the first 12,000 of 24,000 are the 12,000. 100x100, JPEG quality 95.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from PIL import Image, ImageEnhance

from fruits_cli.dataset.sample import draw_sample

SIDE_PX = 100
_MADE = ".made-"


def sources(given: Path | None, folder: Path) -> Path:
    """The pictures to vary: those given, else the drawn sample, drawn once below `folder`."""
    if given is not None:
        return given
    drawn = folder / "sources"
    if not drawn.exists():
        draw_sample(drawn)
    return drawn


def make_pictures(source: Path, target: Path, count: int) -> Path:
    """`count` pictures below `target`, in folders `<label> <n mod 20>`; made once, then found."""
    made = [int(file.name.removeprefix(_MADE)) for file in target.glob(f"{_MADE}*")]
    first = max((number for number in made if number <= count), default=0)
    if first == count:
        return target
    originals = [(file.parent.name, _opened(file)) for file in sorted(source.rglob("*.jpg"))]
    originals = [(label, picture) for label, picture in originals if picture is not None]
    for number in range(first, count):
        label, picture = originals[number % len(originals)]
        folder = target / f"{label} {number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        assert picture is not None
        _varied(picture, Random(number)).save(folder / f"{number}_100.jpg", quality=95)
    (target / f"{_MADE}{count}").touch()
    return target


def _opened(file: Path) -> Image.Image | None:
    try:
        return Image.open(file).convert("RGB")
    except OSError:  # the sample holds two that cannot be decoded
        return None


def _varied(picture: Image.Image, dice: Random) -> Image.Image:
    angle = dice.uniform(0, 360)
    turned = picture.rotate(angle, resample=Image.Resampling.BICUBIC, fillcolor="white")
    side = dice.randint(70, SIDE_PX)
    left, top = dice.randint(0, SIDE_PX - side), dice.randint(0, SIDE_PX - side)
    cut = turned.resize((SIDE_PX, SIDE_PX), box=(left, top, left + side, top + side))
    return ImageEnhance.Brightness(cut).enhance(dice.uniform(0.7, 1.2))
