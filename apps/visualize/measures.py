"""What can be measured of a network that has been looked at: one number a picture, written as it is typed.

A probe's pixels and units stay where they are while the picture changes: nothing is searched for again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UserError
from .subject import Seen

SHARPNESS = 20.0
"""A heat map is about 1 at the joint: its place is the mean over the map under softmax(20 * map)."""


class Probe:
    """What is measured: one number a picture. Probes are added, subtracted and multiplied by numbers.

    Attributes:
        levels: names that `Subject.look` has to keep for it.
        asks: whether it reads the network's answer.
    """

    @property
    def levels(self) -> tuple[str, ...]:
        return ()

    @property
    def asks(self) -> bool:
        return True

    def measure(self, seen: Seen) -> Tensor:
        """(B,) numbers, differentiable.

        Raises:
            UserError: the place lies outside of the picture or the level.
        """
        raise NotImplementedError

    def __add__(self, other: Probe) -> Probe:
        return Sum((*_terms(self), *_terms(other)))

    def __sub__(self, other: Probe) -> Probe:
        return self + -1.0 * other

    def __rmul__(self, factor: float) -> Probe:
        return Sum(tuple((factor * own, probe) for own, probe in _terms(self)))

    def __neg__(self) -> Probe:
        return -1.0 * self


@dataclass(frozen=True)
class Score(Probe):
    """The score of a class before the softmax; the softmax would mix the classes."""

    name: str
    index: int

    def measure(self, seen: Seen) -> Tensor:
        return seen.output[:, self.index]

    def __str__(self) -> str:
        return f"class:{self.name}"


@dataclass(frozen=True)
class OfLevel(Probe):
    """What is measured at a level alone."""

    level: str

    @property
    def levels(self) -> tuple[str, ...]:
        return (self.level,)

    @property
    def asks(self) -> bool:
        return False


@dataclass(frozen=True)
class Channel(OfLevel):
    """The mean of a channel of a level over its places; of a layer without places, one unit."""

    index: int

    def measure(self, seen: Seen) -> Tensor:
        channel = self.of(seen)
        return channel.reshape(len(channel), -1).mean(1)

    def of(self, seen: Seen) -> Tensor:
        """The channel itself: (B, h, w), or (B,) of a layer without places."""
        # A trunk that sees two pictures a sample makes twice as many maps, the first picture's first.
        maps = seen.levels[self.level][: len(seen.pixels[0])]
        if not 0 <= self.index < maps.shape[1]:
            raise UserError(f"{self.level} has the channels 0 to {maps.shape[1] - 1}, and no {self.index}.")
        return maps[:, self.index]

    def __str__(self) -> str:
        return f"{self.level}:{self.index}"


@dataclass(frozen=True)
class Unit(Channel):
    """One unit of a level: a channel at x, y, counted in units of the level."""

    x: int
    y: int

    def measure(self, seen: Seen) -> Tensor:
        channel = self.of(seen)
        height, width = channel.shape[1:] if channel.ndim == 3 else (1, 1)
        if not (0 <= self.x < width and 0 <= self.y < height):
            raise UserError(f"{self} lies outside of {self.level}, which is {width} wide and {height} high here.")
        return channel.reshape(-1, height, width)[:, self.y, self.x]

    def __str__(self) -> str:
        return f"{self.level}:{self.index}@{self.x},{self.y}"


@dataclass(frozen=True)
class Region(Probe):
    """The mean of a channel of a dense answer over a box of the shown picture's pixels."""

    name: str
    index: int
    x: int
    y: int
    width: int = 1
    height: int = 1

    def measure(self, seen: Seen) -> Tensor:
        answer = seen.output[:, self.index]
        height, width = answer.shape[-2:]
        inside = self.x >= 0 and self.y >= 0 and self.x + self.width <= width and self.y + self.height <= height
        if not inside:
            raise UserError(
                f"{self} lies outside of the picture, which is {width} wide and {height} high as the network sees it."
            )
        return answer[:, self.y : self.y + self.height, self.x : self.x + self.width].mean((1, 2))

    def __str__(self) -> str:
        box = f",{self.width},{self.height}" if (self.width, self.height) != (1, 1) else ""
        return f"{self.name}@{self.x},{self.y}{box}"


@dataclass(frozen=True)
class Joint(Probe):
    """Where a joint is along an axis, in pixels of the shown picture.

    It is the coordinate that a network answers, or the mean place under its heat map, which has a gradient where the
    place of a peak has none.
    """

    name: str
    index: int
    axis: str

    def measure(self, seen: Seen) -> Tensor:
        from ...tasks.pose.heatmaps import from_cells

        answer = seen.output
        axis = "xy".index(self.axis)
        if answer.ndim == 3:
            return answer[:, self.index, axis]
        maps = answer[:, self.index]
        shares = (SHARPNESS * maps.flatten(1)).softmax(1).view_as(maps)
        along = shares.sum(1 if self.axis == "x" else 2)
        return from_cells((along * torch.arange(along.shape[1], device=along.device, dtype=along.dtype)).sum(1))

    def __str__(self) -> str:
        return f"{self.name} {self.axis}"


@dataclass(frozen=True)
class Sum(Probe):
    """Other probes, each with a factor."""

    parts: tuple[tuple[float, Probe], ...]

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(level for _, probe in self.parts for level in probe.levels))

    @property
    def asks(self) -> bool:
        return any(probe.asks for _, probe in self.parts)

    def measure(self, seen: Seen) -> Tensor:
        return torch.stack([factor * probe.measure(seen) for factor, probe in self.parts]).sum(0)

    def __str__(self) -> str:
        text = ""
        for factor, probe in self.parts:
            size = "" if abs(factor) == 1 else f"{abs(factor):g} * "
            sign = " - " if factor < 0 else " + "
            text += (sign if text else sign.strip().strip("+")) + size + str(probe)
        return text


@dataclass(frozen=True)
class Each(Probe):
    """A probe of its own for every picture of a batch, in their order."""

    probes: tuple[Probe, ...]

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(level for probe in self.probes for level in probe.levels))

    @property
    def asks(self) -> bool:
        return any(probe.asks for probe in self.probes)

    def measure(self, seen: Seen) -> Tensor:
        return torch.stack([probe.measure(seen)[number] for number, probe in enumerate(self.probes)])

    def __str__(self) -> str:
        return ", ".join(map(str, self.probes))


def _terms(probe: Probe) -> tuple[tuple[float, Probe], ...]:
    return probe.parts if isinstance(probe, Sum) else ((1.0, probe),)
