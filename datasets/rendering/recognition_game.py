"""A recognition game: scenes, how memorable each is, and the score that simulated players give it.

The players are simulated: nothing here says what people remember. As in the game behind LaMem (Khosla, Raju, Torralba,
Oliva: Understanding and Predicting Image Memorability at a Large Scale, ICCV 2015), an image is presented twice to each
of N players. A player recognizes the repeat with the probability `hit` (a hit) and says so at the first sight with the
probability `false_alarm`; both depend only on what is visible:

    hit         = sigmoid(-0.5 + figure (0.6 + 1.1 figure_size) + 1.5 contrast + 1.0 colorfulness
                          - 1.3 clutter - 0.3 max(0, objects - 2) - 0.6 horizon)
    false_alarm = 0.02 + 0.16 (1 - colorfulness) (1 + horizon) (1 - figure) / 2

`figure` is 1 with a face-like figure and `horizon` is 1 with an open horizon; figure_size, contrast (the greatest of an
object to its ground), colorfulness and clutter are in [0, 1]; `objects` is 1 to 5. The score is (hits - false alarms) /
N, at least 0, or hits / N where false alarms are not counted. Infinitely many players would give max(0, hit -
false_alarm), or hit, and what remains is the noise of N players. So the ceiling of a rank correlation is known
(`CEILINGS`), and so is the correlation of the scores of two halves of the players (`SPLIT_HALF`). All proportions are
relative to the shorter side, and no draw depends on the size of the image: the same generator shows the same scene at
any size.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ..core.geometry import Size
from .materials import Dice

CEILINGS = {20: 0.905, 40: 0.949}
"""Spearman's rho of the expected score with the score, by number of players, over 100,000 scenes."""

CEILING_OF_HITS = 0.903
"""The same for hits of 20 players whose false alarms are not counted."""

SPLIT_HALF = {20: 0.694, 40: 0.821}
"""Spearman's rho of the scores of one half of the players with those of the other, by number of players, over the same
scenes."""

FIGURE_CHANCE = 0.5
HORIZON_CHANCE = 0.35
FIGURE_RADIUS = (0.12, 0.30)
"""Of the figure's head, for a figure_size of 0 and of 1."""

OBJECT_RADIUS = (0.07, 0.13)
MAX_OBJECTS = 5
MAX_STROKES = 36
"""Number of strokes for a clutter of 1."""

LUMA = np.array((0.299, 0.587, 0.114))
SKIN = (0.95, 0.80, 0.66)
INK = (0.12, 0.09, 0.08)
SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws."""


@dataclass(frozen=True)
class Scene:
    """What an image shows; positions and radii are fractions of the shorter side, from the center of the image.

    Attributes:
        figure: (x, y, radius) of the head, None without a figure.
        figure_size, contrast, colorfulness, clutter: in [0, 1].
        objects: (x, y, radius, luma difference to the ground, hue, number of corners) of each, 1 to 5.
        horizon: height of the open horizon below the center, None without.
        strokes: (N, 5) start, direction, length and luma of the clutter.
        hue, luma: of the ground.
    """

    figure: tuple[float, float, float] | None
    figure_size: float
    contrast: float
    colorfulness: float
    clutter: float
    objects: tuple[tuple[float, float, float, float, float, int], ...]
    horizon: float | None
    strokes: np.ndarray
    hue: float
    luma: float

    @property
    def hit(self) -> float:
        """Probability that a player recognizes the image when it is repeated."""
        z = -0.5 + 1.5 * self.contrast + self.colorfulness - 1.3 * self.clutter
        z += 0.6 + 1.1 * self.figure_size if self.figure else 0.0
        z -= 0.3 * max(0, len(self.objects) - 2) + (0.6 if self.horizon is not None else 0.0)
        return 1 / (1 + math.exp(-z))

    @property
    def false_alarm(self) -> float:
        """Probability that a player believes to recognize it at the first sight: of typical images."""
        typical = (1 - self.colorfulness) * (2 if self.horizon is not None else 1) * (0.0 if self.figure else 0.5)
        return 0.02 + 0.16 * typical

    @property
    def expected_score(self) -> float:
        """Score that infinitely many players would give, in [0, 1]."""
        return max(0.0, self.hit - self.false_alarm)


class Ratings(NamedTuple):
    """Scores of an image, all in [0, 1].

    Attributes:
        score: that of all players.
        halves: those of the two halves of the players.
        expected: that of infinitely many players.
    """

    score: float
    halves: tuple[float, float]
    expected: float


def play(scene: Scene, players: int, rng: np.random.Generator, *, count_false_alarms: bool = True) -> Ratings:
    """Let simulated players rate a scene.

    Args:
        scene: what they see.
        players: number of players, even.
        rng: source of everything random; the draws do not depend on what is counted.
        count_false_alarms: subtract false alarms from the hits.
    """
    hits, false_alarms = rng.binomial(players, scene.hit), rng.binomial(players, scene.false_alarm)
    half = players // 2
    # Which of the players had them, by chance: half of the players have a hypergeometric share.
    some_hits, some_alarms = (rng.hypergeometric(count, players - count, half) for count in (hits, false_alarms))

    def score(hits: int, false_alarms: int, players: int) -> float:
        return max(0.0, (hits - count_false_alarms * false_alarms) / players)

    return Ratings(
        score(hits, false_alarms, players),
        (score(some_hits, some_alarms, half), score(hits - some_hits, false_alarms - some_alarms, half)),
        scene.expected_score if count_false_alarms else scene.hit,
    )


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw what an image shows, each property independently of the others."""
    dice = Dice(rng, 512)
    figure_size, contrast, colorfulness, clutter = (dice.uniform() for _ in range(4))
    figure = None
    if dice.chance(FIGURE_CHANCE):
        radius = FIGURE_RADIUS[0] + (FIGURE_RADIUS[1] - FIGURE_RADIUS[0]) * figure_size
        reach = 0.48 - radius
        figure = dice.uniform(-reach, reach), dice.uniform(-reach, reach), radius
    horizon = dice.uniform(-0.1, 0.25) if dice.chance(HORIZON_CHANCE) else None
    luma = dice.pick((dice.uniform(0.25, 0.4), dice.uniform(0.6, 0.75)))
    taken = [figure] if figure else []
    objects = []
    for _ in range(dice.integer(1, MAX_OBJECTS)):
        # An object that finds no free place is left out; the first one always finds one.
        for _ in range(200 if not objects else 20):
            radius, x, y = dice.uniform(*OBJECT_RADIUS), dice.uniform(-0.38, 0.38), dice.uniform(-0.38, 0.38)
            if all(math.hypot(x - a, y - b) > radius + r + 0.02 for a, b, r in taken):
                taken.append((x, y, radius))
                # The first object has the greatest contrast; it leads away from the middle gray, so that it fits.
                difference = (0.05 + 0.5 * contrast) * (dice.uniform(0.3, 1.0) if objects else 1.0)
                sign = 1 if luma < 0.5 else -1
                objects.append((x, y, radius, sign * difference, dice.uniform(), dice.pick((3, 4, 32))))
                break
    count = round(MAX_STROKES * clutter)
    strokes = np.array([[dice.uniform() for _ in range(5)] for _ in range(count)]).reshape(count, 5)
    return Scene(
        figure, figure_size, contrast, colorfulness, clutter, tuple(objects), horizon, strokes, dice.uniform(), luma
    )


def find_cause(scene: Scene) -> tuple[float, float, float] | None:
    """The figure or the object without which the image would be forgotten most: (x, y, radius), as in `Scene`.

    None if no part is one: without an object that is hardly stronger than the next, there may be one less to count.
    """
    strengths = [abs(each[3]) for each in scene.objects]
    losses = [(0.6 + 1.1 * scene.figure_size, scene.figure)] if scene.figure else []
    for number, each in enumerate(scene.objects):
        others = strengths[:number] + strengths[number + 1 :]
        # As in `random_scene`: a contrast of 0 is a difference of 0.05, and of 1 is one of 0.55.
        weaker = (max(strengths) - max(others, default=0.05)) / 0.5
        losses.append((1.5 * max(0.0, weaker) - (0.3 if len(others) >= 2 else 0.0), each[:3]))
    loss, cause = max(losses)
    return cause if loss > 0 else None


def inside_circle(circle: tuple[float, float, float], size: Size) -> np.ndarray:
    """(H, W) bool: pixels inside (x, y, radius), in fractions of the shorter side from the center of the image."""
    x, y, radius = circle
    rows, columns = np.ogrid[: size[0], : size[1]]
    down, right = ((length - 1) / 2 + min(size) * part for length, part in zip(size, (y, x), strict=True))
    return np.hypot(rows - down, columns - right) <= min(size) * radius


def render_scene(scene: Scene, size: Size) -> np.ndarray:
    """Render a scene as (H, W, 3) uint8 RGB."""
    height, width = size
    side = min(size)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])

    def place(points: np.ndarray) -> np.ndarray:
        return np.round((middle + side * points) * 2**SHIFT).astype(np.int32)

    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = color(scene.hue, scene.colorfulness, scene.luma)
    if scene.horizon is not None:
        row = min(max(round(middle[1] + side * scene.horizon), 1), height - 1)
        # A second, lighter or darker half with the same mean.
        canvas[row:] = color(scene.hue + 0.5, scene.colorfulness, scene.luma - 0.12)
        canvas[:row] = color(scene.hue, scene.colorfulness, scene.luma + 0.06)
    thickness = max(1, round(side / 64))
    for x, y, angle, length, luma in scene.strokes:
        start = np.array([x - 0.5, y - 0.5]) * (width / side, height / side)
        turn = 2 * math.pi * angle
        end = start + (0.04 + 0.1 * length) * np.array([math.cos(turn), math.sin(turn)])
        # Strokes are gray and stand out less than the least contrast of an object.
        gray = color(0.0, 0.0, scene.luma + 0.25 * (luma - 0.5))
        first, last = place(np.stack([start, end])).tolist()
        cv2.line(canvas, first, last, gray, thickness, cv2.LINE_AA, SHIFT)
    for x, y, radius, difference, hue, corners in scene.objects:
        angles = 2 * math.pi * (np.arange(corners) / corners + hue)
        outline = np.array([x, y]) + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        fill(canvas, place(outline), color(hue, scene.colorfulness, scene.luma + difference))
    if scene.figure:
        draw_figure(canvas, scene.figure, side, middle)
    return canvas


def draw_figure(canvas: np.ndarray, figure: tuple[float, float, float], side: int, middle: np.ndarray) -> None:
    """Draw a face-like figure: a head with two eyes and a mouth."""
    x, y, radius = (side * value for value in figure)

    def ellipse(dx: float, dy: float, across: float, down: float, tone: tuple[float, float, float], end: int) -> None:
        center = [round(float(v) * 2**SHIFT) for v in (middle[0] + x + dx * radius, middle[1] + y + dy * radius)]
        axes = [max(1, round(part * radius * 2**SHIFT)) for part in (across, down)]
        shade = [round(255 * part) for part in tone]
        if end == 360:
            cv2.ellipse(canvas, center, axes, 0, 0, end, shade, -1, cv2.LINE_AA, SHIFT)
        else:
            cv2.ellipse(canvas, center, axes, 0, 0, end, shade, max(1, round(radius / 8)), cv2.LINE_AA, SHIFT)

    ellipse(0, 0, 0.88, 1.0, SKIN, 360)
    for eye in (-0.36, 0.36):
        ellipse(eye, -0.2, 0.15, 0.15, INK, 360)
    ellipse(0, 0.3, 0.4, 0.28, INK, 180)


def fill(canvas: np.ndarray, outline: np.ndarray, shade: tuple[int, int, int]) -> None:
    cv2.fillPoly(canvas, [outline], shade, cv2.LINE_AA, SHIFT)


def color(hue: float, saturation: float, luma: float) -> tuple[int, int, int]:
    """RGB in 0..255 of a hue and a saturation, with this luma in [0, 1] as far as the hue allows it."""
    tone = np.array(colorsys.hsv_to_rgb(hue % 1, 0.9 * saturation, 1.0))
    own = float(tone @ LUMA)
    tone = tone * luma / own if own > luma else 1 - (1 - tone) * (1 - luma) / (1 - own)
    red, green, blue = (round(255 * value) for value in np.clip(tone, 0, 1).tolist())
    return red, green, blue
