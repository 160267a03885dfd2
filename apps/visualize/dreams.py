"""What can be dreamt of besides probes: all that a level sees, or what it saw in another picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UserError
from .measures import OfLevel, Probe
from .probes import parse_probe
from .subject import BareTrunk, Seen, Subject


@dataclass(frozen=True)
class Activity(OfLevel):
    """Half the sum of the squared activations of a level: its gradient at the level is the level itself."""

    def measure(self, seen: Seen) -> Tensor:
        # A trunk that sees two pictures a sample makes twice as many maps, the first pictures' first.
        maps = seen.levels[self.level].float()
        return maps.square().flatten(1).sum(1).view(-1, len(seen.pixels[0])).sum(0) / 2

    def __str__(self) -> str:
        return self.level


@dataclass(frozen=True, eq=False)
class Alike(Activity):
    """How much every place of a level is like the guide's activation that is most like it: the sum of their products.

    Attributes:
        guide: (C, N), the guide's activations at its N places.
    """

    guide: Tensor

    def measure(self, seen: Seen) -> Tensor:
        maps = seen.levels[self.level].float().flatten(2)
        # The largest product's gradient at a place is the guide's activation, which stays what it is.
        products = torch.einsum("bcm,cn->bmn", maps, self.guide.to(maps))
        return products.amax(2).sum(1).view(-1, len(seen.pixels[0])).sum(0)

    def __str__(self) -> str:
        return f"{self.level} like the guide"


def levels_only(subject: Subject, probe: Probe) -> Subject:
    """The trunk alone where the probe asks for no more: classifiers refuse sizes that levels do not mind."""
    if subject.trunk is None or probe.asks or (subject.task is not None and subject.task.name != "classification"):
        return subject
    return Subject(subject.name, BareTrunk(subject.trunk), subject.trunk, None, subject.size)


def parse_dream(text: str, subject: Subject, guide: tuple[Tensor, ...] | None = None) -> Probe:
    """What a text names: a whole level by its name alone, else a probe.

    Args:
        text: as it is typed.
        subject: whose levels and answers are meant.
        guide: pixels of a picture whose activations are wanted, as `subject.pixels` makes them; None: no guide.

    Raises:
        UserError: nothing of that name, or a guide for what is no whole level.
    """
    text = text.strip()
    whole = text in subject.known_levels()
    if guide is None:
        return Activity(text) if whole else parse_probe(text, subject)
    if not whole:
        raise UserError(f"A guide is for a whole level, and '{text}' is none; name one, like {_some(subject)}.")
    with torch.no_grad():
        maps = subject.look(guide, (text,), answer=False).levels[text]
    if maps.ndim != 4:
        raise UserError(
            f"'{text}' of {subject.name} has no places; name a level that makes maps, like {_some(subject)}."
        )
    return Alike(text, maps.detach().float().movedim(1, 0).flatten(1))


def _some(subject: Subject) -> str:
    return subject.known_levels()[0]
