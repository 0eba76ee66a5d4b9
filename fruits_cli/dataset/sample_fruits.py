"""How a dozen kinds of fruit look."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from fruits_cli.dataset.sample_easel import (
    LEAF,
    Colour,
    Easel,
    Point,
    Tones,
    along,
    dip,
    ellipse,
    polar,
    steps,
    turned,
)

_RED = ((255, 150, 110), (205, 30, 35), (95, 5, 20))
_GREEN = ((225, 245, 140), (140, 190, 45), (65, 110, 15))
_ORANGE = ((255, 205, 105), (250, 145, 20), (190, 80, 0))
_YELLOW = ((255, 252, 165), (250, 220, 45), (195, 150, 5))
_PLUM = ((190, 135, 190), (105, 40, 105), (40, 8, 50))
_PEAR = ((250, 248, 165), (208, 205, 75), (135, 130, 25))
_GRAPE = ((190, 140, 205), (95, 45, 125), (40, 10, 65))
_CHERRY = ((250, 110, 110), (170, 10, 35), (75, 0, 20))
_STEM, _DARK_STEM = (110, 75, 40), (75, 50, 25)


def _apple(easel: Easel, dice: Random, tones: Tones, streak: Colour) -> None:
    def radius(angle: float) -> float:
        return 0.8 - 0.17 * dip(angle, 0.42) - 0.07 * dip(abs(angle) - math.pi, 0.3)

    body = easel.mask(polar(radius))
    easel.solid(body, tones)
    marks = []
    for bend in (dice.uniform(-1, 1) for _ in range(26)):
        line = [(bend * 0.62 * math.sin(0.3 + 2.4 * t), -0.6 + 1.25 * t) for t in steps(6)]
        marks += [ellipse(x, y, 0.012, 0.05) for x, y in along(line)]
    easel.flat(easel.mask(*marks), streak, opacity=0.34, blur=0.03)
    easel.flat(easel.mask(ellipse(0, -0.6, 0.26, 0.08)), tones[2], opacity=0.75, blur=0.06)
    lean = dice.uniform(-0.12, 0.16)
    easel.stroke([(0, -0.58), (lean / 2, -0.76), (lean, -0.93)], 0.06, _STEM)
    easel.leaf(lean / 2, -0.76, 0.42, dice.uniform(-0.5, -0.1))
    easel.gloss(-0.32, -0.28, 0.15)


def _red_apple(easel: Easel, dice: Random) -> None:
    _apple(easel, dice, _RED, (250, 190, 90))


def _green_apple(easel: Easel, dice: Random) -> None:
    _apple(easel, dice, _GREEN, (235, 250, 170))


def _banana(easel: Easel, dice: Random) -> None:
    bow = dice.uniform(0.85, 1.0)

    def spine(t: float, lift: float = 0) -> Point:
        angle = math.pi * (0.06 + 0.84 * t)
        reach = 0.78 + lift
        return reach * math.cos(angle), -0.42 + bow * reach * math.sin(angle)

    def thickness(t: float) -> float:
        return 0.07 + 0.15 * math.pow(math.sin(math.pi * (0.08 + 0.84 * t)), 0.8)

    body = [ellipse(*spine(t), thickness(t), thickness(t)) for t in steps(60)]
    easel.solid(easel.mask(*body), _YELLOW)
    for lift, colour, opacity in ((0.1, _YELLOW[2], 0.55), (-0.07, (255, 250, 190), 0.8)):
        ridge = [ellipse(*spine(t, lift), 0.03, 0.03) for t in steps(80) if 0.1 < t < 0.9]
        easel.flat(easel.mask(*ridge), colour, opacity=opacity, blur=0.05)
    for _ in range(9):
        x, y = spine(dice.uniform(0.15, 0.85), dice.uniform(-0.12, 0.14))
        spot = ellipse(x, y, dice.uniform(0.012, 0.03), 0.012, turn=dice.uniform(0, 3))
        easel.flat(easel.mask(spot), (120, 80, 20), opacity=0.6, blur=0.008)
    easel.stroke([spine(0.99), spine(1.07)], 0.13, (150, 130, 30))
    easel.stroke([spine(1.05), spine(1.09)], 0.12, _DARK_STEM)
    easel.stroke([spine(0.005), spine(-0.015)], 0.11, _DARK_STEM)


def _pores(easel: Easel, dice: Random, tones: Tones, *, reach: Point, count: int) -> None:
    spots = []
    for _ in range(count):
        distance, angle = math.sqrt(dice.random()), dice.uniform(0, 2 * math.pi)
        x, y = reach[0] * distance * math.cos(angle), reach[1] * distance * math.sin(angle)
        spots.append(ellipse(x, y, 0.013, 0.013))
    easel.flat(easel.mask(*spots), tones[2], opacity=0.5, blur=0.01)


def _orange(easel: Easel, dice: Random) -> None:
    easel.solid(easel.mask(ellipse(0, 0, 0.8, 0.77)), _ORANGE, grain=24)
    _pores(easel, dice, _ORANGE, reach=(0.76, 0.73), count=260)
    x, y = dice.uniform(-0.15, 0.25), -0.5
    easel.flat(easel.mask(ellipse(x, y, 0.17, 0.1)), _ORANGE[2], opacity=0.7, blur=0.05)
    star = polar(lambda a: 0.065 + 0.03 * math.cos(5 * a))
    easel.flat(easel.mask(turned(x, y, 1, 0, star)), (95, 125, 50))
    easel.gloss(-0.3, -0.3, 0.16)


def _lemon(easel: Easel, dice: Random) -> None:
    tip = dice.uniform(0.12, 0.17)
    shape = (
        ellipse(0, 0, 0.74, 0.55),
        ellipse(0.78, 0.02, tip, 0.1),
        ellipse(-0.76, 0, 0.1, 0.1),
    )
    easel.solid(easel.mask(*shape, melt=0.08), _YELLOW, grain=24)
    _pores(easel, dice, _YELLOW, reach=(0.68, 0.5), count=170)
    easel.flat(easel.mask(ellipse(-0.83, 0, 0.035, 0.05)), (120, 130, 50))
    easel.gloss(-0.25, -0.22, 0.13)


def _kiwi(easel: Easel, dice: Random) -> None:
    wide = dice.uniform(0.8, 0.86)
    easel.solid(
        easel.mask(ellipse(0, 0, wide, 0.78)), ((165, 130, 80), (125, 90, 50), (75, 50, 25))
    )
    flesh = ((200, 225, 105), (140, 190, 45), (95, 150, 25))
    easel.solid(easel.mask(ellipse(0, 0, wide - 0.06, 0.72)), flesh)
    rays = [
        [(0.2 * math.cos(a), 0.2 * math.sin(a)), (0.66 * math.cos(a), 0.62 * math.sin(a))]
        for a in (2 * math.pi * t + dice.uniform(-0.05, 0.05) for t in steps(37))
    ]
    lines = [ellipse(x, y, 0.012, 0.012) for ray in rays for x, y in along(ray)]
    easel.flat(easel.mask(*lines), (225, 240, 160), opacity=0.55, blur=0.015)
    easel.flat(easel.mask(ellipse(0, 0, 0.3, 0.24)), (240, 245, 205), blur=0.06)
    seeds = [
        ellipse(*turned(0, 0, dice.uniform(0.31, 0.47), a, [(1, 0)])[0], 0.042, 0.02, turn=a)
        for a in (2 * math.pi * t + dice.uniform(-0.07, 0.07) for t in steps(33))
    ]
    easel.flat(easel.mask(*seeds), (30, 25, 15))


def _plum(easel: Easel, dice: Random) -> None:
    easel.solid(easel.mask(ellipse(0, 0.05, 0.66, 0.78)), _PLUM, grain=30)
    bend = dice.uniform(0.16, 0.26)
    crease = [(bend * math.sin(math.pi * t) + 0.04, -0.7 + 1.35 * t) for t in steps(12)]
    easel.flat(
        easel.mask(*(ellipse(x, y, 0.022, 0.04) for x, y in along(crease))),
        _PLUM[2],
        opacity=0.75,
        blur=0.03,
    )
    easel.flat(easel.mask(ellipse(-0.2, -0.1, 0.3, 0.42)), (205, 195, 230), opacity=0.28, blur=0.2)
    easel.stroke([(0.04, -0.7), (0.07, -0.9)], 0.05, _STEM)
    easel.gloss(-0.26, -0.32, 0.11)


def _pear(easel: Easel, dice: Random) -> None:
    lean = dice.uniform(-0.06, 0.06)
    shape = (ellipse(0, 0.32, 0.58, 0.54), ellipse(lean, -0.3, 0.3, 0.42))
    easel.solid(easel.mask(*shape, melt=0.16), _PEAR, grain=26)
    blush = easel.mask(ellipse(0.3, 0.3, 0.2, 0.34))
    easel.flat(blush, (215, 95, 55), opacity=0.45, blur=0.17)
    _pores(easel, dice, ((0, 0, 0), (0, 0, 0), (125, 95, 30)), reach=(0.5, 0.8), count=60)
    easel.stroke([(lean, -0.68), (lean + 0.03, -0.82), (lean + 0.12, -0.95)], 0.055, _DARK_STEM)
    easel.gloss(-0.24, 0.12, 0.13)


def _strawberry(easel: Easel, dice: Random) -> None:
    tip = dice.uniform(0.68, 0.76)
    cone = [(-0.62, -0.3), (0.62, -0.3), (0.3, 0.4), (0.1, tip), (-0.1, tip), (-0.3, 0.4)]
    shape = (cone, ellipse(-0.3, -0.3, 0.36, 0.3), ellipse(0.3, -0.3, 0.36, 0.3))
    easel.solid(easel.mask(*shape, melt=0.14), ((255, 120, 100), (225, 30, 40), (130, 5, 20)))
    pits, seeds = [], []
    for row in range(7):
        y = -0.38 + 0.155 * row
        half = 0.58 - 0.075 * row
        for column in range(-3, 4):
            x = (column + 0.5 * (row % 2)) * 0.2
            if abs(x) < half - 0.03:
                pits.append(ellipse(x, y, 0.04, 0.052))
                seeds.append(ellipse(x, y + 0.008, 0.02, 0.032))
    easel.flat(easel.mask(*pits), (125, 5, 20), opacity=0.5, blur=0.02)
    easel.flat(easel.mask(*seeds), (250, 215, 110))
    for number in range(7):
        easel.leaf(0, -0.56, dice.uniform(0.42, 0.55), -0.35 + 0.64 * number)
    easel.stroke([(0, -0.58), (0.05, -0.86)], 0.05, LEAF[1])
    easel.gloss(-0.3, -0.12, 0.11)


def _grapes(easel: Easel, dice: Random) -> None:
    easel.stroke([(0, -0.5), (0.03, -0.75), (0.1, -0.93)], 0.06, _STEM)
    easel.leaf(0.03, -0.7, 0.5, -0.25)
    for row, berries in enumerate((4, 5, 4, 3, 2, 1)):
        for number in range(berries):
            x = (number - (berries - 1) / 2) * 0.31 + dice.uniform(-0.03, 0.03)
            y = -0.46 + 0.235 * row + dice.uniform(-0.03, 0.03)
            easel.solid(easel.mask(ellipse(x, y, 0.185, 0.19)), _GRAPE, grain=20)
            easel.flat(easel.mask(ellipse(x - 0.06, y - 0.07, 0.035, 0.025)), (240, 225, 250))


def _cherry(easel: Easel, dice: Random) -> None:
    top = (dice.uniform(-0.05, 0.1), -0.86)
    body = polar(lambda angle: 0.41 - 0.06 * dip(angle, 0.45))
    for x, y in ((-0.42, 0.36), (0.38, 0.46)):
        bow = [(x + (top[0] - x) * t**1.6, y - 0.34 + (top[1] - y + 0.34) * t) for t in steps(9)]
        easel.stroke(bow, 0.04, (105, 125, 45))
        easel.solid(easel.mask(turned(x, y, 1, 0, body)), _CHERRY)
        easel.flat(easel.mask(ellipse(x, y - 0.33, 0.11, 0.035)), _CHERRY[2], blur=0.03)
        easel.stroke(bow[:2], 0.04, (105, 125, 45))
        easel.gloss(x - 0.14, y - 0.13, 0.075)
    easel.leaf(*top, 0.62, dice.uniform(0.1, 0.45))


def _watermelon(easel: Easel, dice: Random) -> None:
    def half(radius: float) -> list[Point]:
        return [
            (radius * math.cos(math.pi * t), radius * math.sin(math.pi * t) - 0.4)
            for t in steps(60)
        ]

    easel.solid(easel.mask(half(0.92)), ((90, 165, 70), (40, 120, 45), (15, 70, 25)))
    easel.flat(easel.mask(half(0.84)), (225, 240, 190))
    easel.solid(easel.mask(half(0.78)), ((255, 140, 120), (240, 65, 70), (215, 40, 55)), grain=30)
    seeds = []
    for radius, number in ((0.34, 4), (0.6, 7)):
        for t in steps(number):
            angle = math.pi * (0.12 + 0.76 * t) + dice.uniform(-0.07, 0.07)
            x, y = radius * math.cos(angle), radius * math.sin(angle) - 0.38
            seeds.append(ellipse(x, y, 0.055, 0.03, turn=angle))
    easel.flat(easel.mask(*seeds), (35, 20, 15))


KINDS: dict[str, Callable[[Easel, Random], None]] = {
    "Apple Green": _green_apple,
    "Apple Red": _red_apple,
    "Banana": _banana,
    "Cherry": _cherry,
    "Grapes": _grapes,
    "Kiwi": _kiwi,
    "Lemon": _lemon,
    "Orange": _orange,
    "Pear": _pear,
    "Plum": _plum,
    "Strawberry": _strawberry,
    "Watermelon": _watermelon,
}
