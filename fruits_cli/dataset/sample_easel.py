"""Shapes and shading for the pictures of the sample, with Pillow alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


EASEL_PX = 320

Colour = tuple[int, int, int]
Point = tuple[float, float]
Tones = tuple[Colour, Colour, Colour]

LEAF = ((150, 200, 85), (75, 145, 45), (30, 85, 25))


class Easel:
    """A transparent square to paint on; coordinates run from -1 to 1, y downwards."""

    def __init__(self, dice: Random) -> None:
        from PIL import Image

        self.dice = dice
        self.image = Image.new("RGBA", (EASEL_PX, EASEL_PX))

    def mask(self, *shapes: Sequence[Point], melt: float = 0) -> Image.Image:
        """The union of polygons; `melt` rounds the corners where they meet."""
        from PIL import Image, ImageDraw, ImageFilter

        mask = Image.new("L", self.image.size)
        pen = ImageDraw.Draw(mask)
        for shape in shapes:
            pen.polygon([_pixel(point) for point in shape], fill=255)
        if melt:
            blurred = mask.filter(ImageFilter.BoxBlur(melt * EASEL_PX / 2))
            mask = blurred.point([max(0, min(255, (level - 118) * 12)) for level in range(256)])
        return mask

    def solid(self, mask: Image.Image, tones: Tones, *, grain: int = 14) -> None:
        """A body lit from the upper left: bright there, dark at the far rim, a little uneven."""
        from PIL import Image, ImageChops, ImageOps

        left, top, right, bottom = mask.getbbox() or (0, 0, 1, 1)
        width, height = right - left, bottom - top
        glow = Image.radial_gradient("L").resize((round(width * 1.75), round(height * 1.75)))
        shade = Image.new("L", self.image.size, 255)
        shade.paste(
            glow,
            (
                round(left + 0.36 * width - glow.width / 2),
                round(top + 0.32 * height - glow.height / 2),
            ),
        )
        uneven = Image.frombytes("L", (24, 24), bytes(self.dice.choices(range(grain), k=576)))
        shade = ImageChops.add(shade, uneven.resize(shade.size, Image.Resampling.BICUBIC))
        light, base, dark = tones
        body = ImageOps.colorize(shade, light, dark, base, midpoint=105)
        body.putalpha(mask)
        self.image.alpha_composite(body)

    def flat(
        self, mask: Image.Image, colour: Colour, *, opacity: float = 1, blur: float = 0
    ) -> None:
        """One colour where the mask is and where something was painted before, if it is blurred."""
        from PIL import Image, ImageChops, ImageFilter

        if blur:
            soft = mask.filter(ImageFilter.BoxBlur(blur * EASEL_PX / 2))
            mask = ImageChops.multiply(soft, self.image.getchannel("A"))
        layer = Image.new("RGB", self.image.size, colour)
        layer.putalpha(mask.point([round(level * opacity) for level in range(256)]))
        self.image.alpha_composite(layer)

    def gloss(self, x: float, y: float, size: float) -> None:
        """A soft highlight."""
        shape = ellipse(x, y, size, size * 0.6, turn=-0.6)
        self.flat(self.mask(shape), (255, 255, 255), opacity=0.62, blur=size * 0.5)

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A round-ended line."""
        dots = [ellipse(x, y, width / 2, width / 2) for x, y in along(points)]
        self.flat(self.mask(*dots), colour)

    def leaf(self, x: float, y: float, length: float, turn: float) -> None:
        """A pointed leaf that grows from (x, y)."""
        blade = [(t, 0.24 * math.sin(math.pi * t)) for t in steps(20)]
        blade += [(t, -0.24 * math.sin(math.pi * t)) for t in reversed(steps(20))]
        self.solid(self.mask(turned(x, y, length, turn, blade)), LEAF)
        vein = turned(x, y, length * 0.9, turn, [(0.05, 0), (1, 0)])
        self.stroke(vein, 0.018, LEAF[2])


def _pixel(point: Point) -> Point:
    return (point[0] + 1) * EASEL_PX / 2, (point[1] + 1) * EASEL_PX / 2


def steps(count: int) -> list[float]:
    return [number / (count - 1) for number in range(count)]


def along(points: Sequence[Point]) -> Iterable[Point]:
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        yield from ((x + t * (to_x - x), y + t * (to_y - y)) for t in steps(12))


def turned(x: float, y: float, size: float, turn: float, points: Sequence[Point]) -> list[Point]:
    cos, sin = size * math.cos(turn), size * math.sin(turn)
    return [(x + cos * px - sin * py, y + sin * px + cos * py) for px, py in points]


def ellipse(x: float, y: float, rx: float, ry: float, *, turn: float = 0) -> list[Point]:
    corners = 9 + round(48 * max(rx, ry))
    angles = [2 * math.pi * t for t in steps(corners)]
    return turned(x, y, 1, turn, [(rx * math.cos(a), ry * math.sin(a)) for a in angles])


def polar(radius: Callable[[float], float]) -> list[Point]:
    """An outline by its radius; the angle is 0 at the top and runs clockwise from -pi to pi."""
    angles = [math.pi * (2 * t - 1) for t in steps(120)]
    return [(radius(a) * math.sin(a), -radius(a) * math.cos(a)) for a in angles]


def dip(angle: float, width: float) -> float:
    return math.exp(-((angle / width) ** 2))
