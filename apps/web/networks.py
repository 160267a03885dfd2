"""The checkpoints that visitors choose among: loaded when first asked, once, and shared by everybody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.fields import Kind, Labels
from ...tasks import list_tasks
from ...tasks.blueprint import Blueprint
from ...tasks.inference import SHIPPED, Predictor, load
from ...tasks.task import Task
from ...tasks.training.checkpoint import read_header
from ..predict import terms_of

if TYPE_CHECKING:
    from ..visualize.subject import Subject

ASKING = threading.Lock()
"""Held while any network runs. They draw from torch's one stream of random numbers, looking into one changes its
modes for a moment, and two at once on the same cores are no faster."""


class Offer:
    """A checkpoint that visitors may choose.

    Attributes:
        name: what they choose it by.
        task, fields, header: as the checkpoint says.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        fields: dict[str, Kind],
        header: dict[str, Any],
        open_network: Callable[[], Predictor],
    ) -> None:
        self.name, self.task, self.fields, self.header = name, task, fields, header
        self._open = open_network
        self._predictor: Predictor | None = None
        self._subject: Subject | None = None

    @property
    def kinds(self) -> dict[str, Kind]:
        """What goes in, by name."""
        return self.task.inputs(self.fields)

    @property
    def filmed(self) -> bool:
        """Whether a camera gives what goes in, which of label maps none does."""
        return not any(isinstance(kind, Labels) for kind in self.kinds.values())

    @property
    def terms(self) -> list[str]:
        """What the weights ask of their users, a sentence each."""
        return terms_of(self.header)

    def predictor(self) -> Predictor:
        """The network. Call it, and whatever it gives, while `ASKING` is held."""
        self._predictor = self._predictor or self._open()
        return self._predictor

    def subject(self) -> Subject:
        """The same network, to be looked into."""
        from ..visualize.subject import subject_of

        self._subject = self._subject or subject_of(self.predictor(), self.name)
        return self._subject


def offers_of(named: Sequence[str], device: str, amp: str) -> dict[str, list[Offer]]:
    """What can be chosen for every task: the checkpoints that ship, then those that were named.

    Args:
        named: as `load` takes them; they are opened at once, so that a mistake shows before anybody visits.
        device, amp: as everywhere.

    Raises:
        UserError: no such file, or a damaged one.
    """
    offers: dict[str, list[Offer]] = {task: [] for task in list_tasks()}
    for task, held in offers.items():
        for path in sorted((SHIPPED / task / "weights").glob("*.safetensors")):
            header = read_header(path)
            blueprint = Blueprint.from_json(header)
            held.append(
                Offer(path.stem, blueprint.task, blueprint.fields, header, lambda path=path: load(path, device, amp))
            )
    for source in named:
        predictor = load(source, device, amp)
        held = offers[predictor.task.name]
        name = _unlike(Path(source).stem if Path(source).suffix else source.strip("/"), [one.name for one in held])
        held.append(
            Offer(name, predictor.task, predictor.fields, predictor.header, lambda predictor=predictor: predictor)
        )
    return offers


def _unlike(name: str, taken: list[str]) -> str:
    """The name, with a number where it is taken."""
    number, made = 2, name
    while made in taken:
        number, made = number + 1, f"{name} ({number})"
    return made
