"""Materials of a room, and the random numbers that select them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .textures import TEXTURES

T = TypeVar("T")
Color = tuple[float, float, float]


class Dice:
    """Single random numbers out of one block: drawing them one by one with numpy costs a microsecond each."""

    def __init__(self, rng: np.random.Generator, block: int = 2048) -> None:
        self._rng, self._block = rng, block
        self._values: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        if not self._values:
            self._values = self._rng.random(self._block).tolist()
        return low + (high - low) * self._values.pop()

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """One of low ... high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.uniform() * len(choices))]


class Material(NamedTuple):
    """A texture and its palette in linear light.

    `tile` is the size of one tile in meters, 0 to stretch the texture over the face. `emission` is the light that
    the surface gives, in units of the light that falls on a well-lit table; `gloss` is the strength of highlights.
    """

    texture: int
    first: Color
    second: Color
    third: Color
    tile: float
    emission: float = 0.0
    gloss: float = 0.0


def linear(red: float, green: float, blue: float) -> Color:
    """Linear light of an sRGB color in [0, 1]; the power stands in for the curve, which no eye could tell here."""
    return red**2.2, green**2.2, blue**2.2


def dimmed(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


# sRGB of the early wood and the late wood
WOODS = {
    "oak": ((0.56, 0.41, 0.26), (0.74, 0.58, 0.40)),
    "pine": ((0.74, 0.56, 0.35), (0.87, 0.71, 0.49)),
    "walnut": ((0.26, 0.17, 0.11), (0.41, 0.28, 0.19)),
    "cherry": ((0.43, 0.22, 0.13), (0.59, 0.34, 0.21)),
    "beech": ((0.68, 0.51, 0.35), (0.81, 0.65, 0.49)),
    "white": ((0.82, 0.81, 0.79), (0.91, 0.90, 0.88)),
    "black": ((0.09, 0.08, 0.07), (0.16, 0.14, 0.12)),
    "gray": ((0.43, 0.41, 0.39), (0.57, 0.55, 0.52)),
}
FLOORS = ("planks", "planks turned", "boards", "parquet", "tiles", "tiles", "checker", "carpet", "carpet",
          "carpet lines", "stone")  # fmt: skip
IMAGES = ("abstract", "second abstract", "third abstract", "landscape", "second landscape", "portrait", "document")


class Decor:
    """The materials of one room; every method returns the number of a material in `materials`.

    A room has few woods and fabrics, and its furniture shares them: `wood`, `other_wood`, `fabric`, `accent`.
    """

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.materials: list[Material] = []
        self.wood = self.new_wood()
        self.other_wood = self.new_wood()
        self.fabric = self.new_fabric(saturation=0.45)
        self.accent = self.new_fabric(saturation=0.8)
        self.lacquer = self.new_paint(saturation=dice.pick((0.06, 0.06, 0.3, 0.8)), low=0.25, high=0.92)
        self.white = self.flat(linear(*[dice.uniform(0.82, 0.93)] * 3))
        self.dark = self.flat(linear(*[dice.uniform(0.06, 0.2)] * 3))
        self.metal = self.flat(linear(*[dice.uniform(0.35, 0.7)] * 3))

    def add(self, material: Material) -> int:
        self.materials.append(material)
        return len(self.materials) - 1

    def flat(self, color: Color, emission: float = 0.0) -> int:
        shade = dimmed(color, 0.9)
        return self.add(Material(TEXTURES["plain"], color, shade, color, 1.0, emission))

    def color(self, saturation: float, low: float, high: float) -> Color:
        """Linear color of any hue; sRGB saturation up to `saturation`, value between `low` and `high`."""
        dice = self.dice
        hue = dice.pick((dice.uniform(0.0, 0.17), dice.uniform(0.5, 0.68), dice.uniform()))
        return linear(*colorsys.hsv_to_rgb(hue, saturation * dice.uniform(0.2, 1.0), dice.uniform(low, high)))

    def palette(self, saturation: float, low: float, high: float) -> tuple[Color, Color, Color]:
        first, second, third = (self.color(saturation, low, high) for _ in range(3))
        return first, second, third

    def new_wood(self, texture: str = "", tile: float = 0.0) -> int:
        dice = self.dice
        dark, light = WOODS[dice.pick(tuple(WOODS))]
        bright, warm = dice.uniform(0.85, 1.1), dice.uniform(0.95, 1.05)
        red, green, blue = bright * warm, bright, bright / warm
        first, second = (linear(min(r * red, 0.95), g * green, b * blue) for r, g, b in (dark, light))
        texture = texture or dice.pick(("wood", "wood upright"))
        tile, gloss = tile or dice.uniform(0.6, 1.2), dice.uniform(0.0, 0.3)
        return self.add(Material(TEXTURES[texture], first, second, dimmed(first, 0.4), tile, gloss=gloss))

    def new_paint(self, saturation: float = 0.3, low: float = 0.6, high: float = 0.95) -> int:
        color = self.color(saturation, low, high)
        shade, deep = dimmed(color, 0.88), dimmed(color, 0.35)
        return self.add(Material(TEXTURES["plain"], color, shade, deep, self.dice.uniform(1.5, 4.0)))

    def new_fabric(self, saturation: float = 0.6) -> int:
        dice = self.dice
        texture = dice.pick(("weave", "weave", "carpet", "plain", "stripes", "ornament"))
        first = self.color(saturation, 0.2, 0.85)
        second = dimmed(first, dice.uniform(0.5, 0.8))
        third = self.color(saturation, 0.2, 0.85)
        return self.add(Material(TEXTURES[texture], first, second, third, dice.uniform(0.4, 0.9)))

    def stretched(self, texture: str, saturation: float = 0.7, low: float = 0.15, high: float = 0.9) -> int:
        """An image, rug, screen ...: the texture fills the face once."""
        return self.add(Material(TEXTURES[texture], *self.palette(saturation, low, high), 0.0))

    def image(self) -> int:
        return self.stretched(self.dice.pick(IMAGES))

    def books(self) -> int:
        texture = self.dice.pick(("books", "more books"))
        return self.add(Material(TEXTURES[texture], *self.palette(0.8, 0.15, 0.85), 0.0))

    def door(self) -> int:
        color = self.color(0.2, 0.75, 0.92) if self.dice.chance(0.6) else self.materials[self.new_wood()].first
        shadow = dimmed(color, 0.45)
        return self.add(Material(TEXTURES["door"], color, shadow, (0.3, 0.28, 0.22), 0.0))

    def window(self, daylight: float) -> int:
        """A window pane; daylight 0 is night, 1 a bright day."""
        dice = self.dice
        texture = dice.pick(("window", "second window", "wide window", "blinds"))
        sky = linear(dice.uniform(0.75, 0.95), dice.uniform(0.82, 0.95), 0.97)
        land = linear(dice.uniform(0.2, 0.5), dice.uniform(0.3, 0.5), dice.uniform(0.15, 0.4))
        if texture == "blinds":
            land = linear(0.7, 0.7, 0.68)
        return self.add(Material(TEXTURES[texture], sky, land, linear(0.8, 0.8, 0.78), 0.0, 3.0 * daylight))

    def floor(self) -> int:
        dice = self.dice
        texture = dice.pick(FLOORS)
        if texture in ("planks", "planks turned", "boards", "parquet"):
            return self.new_wood(texture, tile=dice.uniform(0.8, 1.6))
        if texture.startswith("carpet"):
            first = self.color(0.4, 0.25, 0.75)
            second = dimmed(first, dice.uniform(0.6, 0.8))
            third = self.color(0.5, 0.2, 0.8)
            return self.add(Material(TEXTURES[texture], first, second, third, dice.uniform(0.8, 2.0)))
        first = self.color(0.25, 0.55, 0.9)
        darker = dice.uniform(0.1, 0.5) if texture == "checker" else dice.uniform(0.75, 0.9)
        second = dimmed(first, darker)
        grout = dimmed(first, dice.pick((0.4, 0.5, 1.1)))
        tile, gloss = dice.uniform(1.0, 2.4), dice.uniform(0.1, 0.5)
        return self.add(Material(TEXTURES[texture], first, second, grout, tile, gloss=gloss))

    def wall(self) -> int:
        """Mostly paint; sometimes wallpaper, brick, wood or tiles."""
        dice = self.dice
        texture = dice.pick(("plain",) * 8 + ("stripes", "ornament", "bricks", "boards", "small tiles"))
        if texture == "plain":
            return self.new_paint(saturation=dice.pick((0.08, 0.15, 0.15, 0.4)), low=0.5, high=0.95)
        if texture == "boards":
            return self.new_wood("boards", tile=dice.uniform(1.0, 1.8))
        if texture == "bricks":
            red, tone = dice.uniform(0.45, 0.68), dice.uniform(0.5, 0.95)
            first = linear(red, red * tone, red * tone * 0.85)
            second = dimmed(first, 0.6)
            return self.add(Material(TEXTURES[texture], first, second, linear(0.7, 0.68, 0.64), dice.uniform(0.9, 1.1)))
        first, contrast = self.color(0.25, 0.5, 0.92), dice.uniform(0.65, 0.9)
        second, third = dimmed(first, contrast), dimmed(first, contrast**2)
        return self.add(Material(TEXTURES[texture], first, second, third, dice.uniform(0.5, 1.2)))

    def seat_cover(self) -> int:
        return self.dice.pick((self.fabric, self.accent, self.dark))

    def rug(self) -> int:
        return self.stretched(self.dice.pick(("rug", "second rug", "ornament")), saturation=0.6)

    def screen(self) -> int:
        """A screen that is on."""
        return self.add(Material(TEXTURES["screen"], *self.palette(0.6, 0.15, 0.9), 0.0, self.dice.uniform(0.2, 0.8)))

    def lamp_shade(self) -> int:
        warm = linear(0.95, self.dice.uniform(0.8, 0.93), self.dice.uniform(0.6, 0.85))
        return self.flat(warm, emission=self.dice.pick((0.0, 0.8, 2.0)))

    def curtain(self) -> int:
        first = self.color(0.5, 0.4, 0.95)
        return self.add(Material(TEXTURES["stripes"], first, dimmed(first, 0.7), dimmed(first, 0.85), 0.4))

    def leaves(self) -> int:
        dice = self.dice
        first = linear(dice.uniform(0.2, 0.4), dice.uniform(0.4, 0.6), dice.uniform(0.12, 0.25))
        return self.add(Material(TEXTURES["carpet"], first, dimmed(first, 0.3), first, 0.5))

    def crate(self) -> int:
        if self.dice.chance(0.6):
            brown = linear(*(self.dice.uniform(0.9, 1.1) * channel for channel in (0.68, 0.52, 0.36)))
            return self.add(Material(TEXTURES["plain"], brown, dimmed(brown, 0.85), brown, 1.0))
        return self.new_paint(0.8, 0.3, 0.95)

    def splash(self) -> int:
        """The tiles behind a worktop."""
        first = self.color(0.3, 0.6, 0.95)
        tile = self.dice.uniform(0.8, 1.4)
        return self.add(Material(TEXTURES["small tiles"], first, dimmed(first, 0.85), dimmed(first, 0.6), tile))
