"""The tab that looks into networks: the verbs of `densevision visualize` that need one question and end in seconds."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UserError, unknown_name
from ..visualize.asked import Asked
from ..visualize.asked import Opened as Question
from ..visualize.back_propagation import show_guided
from ..visualize.drawing import enlarged, write_both
from ..visualize.grad_cam import show_grad_cam
from ..visualize.gradients import show_gradient_input, show_integrated_gradients
from ..visualize.occlusion import show_occlusion
from ..visualize.probes import dense_words, parse_probe, probes_of
from ..visualize.saliency import show_saliency
from .answering import LONGEST_SHOWN, Answer, at_most, own_folder, taken
from .networks import ASKING, Offer
from .uploads import Limits

if TYPE_CHECKING:
    from ..visualize.subject import Subject

LONGEST_PROBE = 200
"""Letters; a sum of five units has a hundred."""
MOST_CLASSES = 50
"""How many classes the list offers; every other may be typed."""
PATCHES_ACROSS = 6
"""Patches of occlusion side by side on the picture's short side; they move by half of their own."""
STEPS = 25
"""Of integrated gradients, whose paper takes 20 to 300."""


def _occlusion(asked: Asked) -> None:
    patch = max(2, min(asked.opened().pixels[0].shape[-2:]) // PATCHES_ACROSS)
    show_occlusion(asked, patch=patch, stride=max(1, patch // 2))


METHODS: dict[str, Callable[[Asked], None]] = {
    "saliency": show_saliency,
    "guided": show_guided,
    "gradient-input": show_gradient_input,
    "integrated-gradients": lambda asked: show_integrated_gradients(asked, steps=STEPS),
    "grad-cam": show_grad_cam,
    "occlusion": _occlusion,
}
"""Verbs by the name that the command line gives them."""


@dataclass(kw_only=True)
class Visitor(Asked):
    """A question of a visitor, in the form in which the verbs ask it: already opened, its answer kept.

    Attributes:
        question: network, pictures and probe.
        folder: of the answer's files.
        picture, files: the answer.
    """

    network: str = ""
    image: tuple[Path, ...] = ()
    probe: str = ""
    out: Path = Path("probed.png")
    question: Question
    folder: Path
    picture: np.ndarray | None = None
    files: list[Path] = field(default_factory=list)

    def opened(self) -> Question:
        return self.question

    def write(self, picture: np.ndarray, array: Any) -> None:
        self.picture, self.files = enlarged(picture), write_both(self.folder / self.out, picture, array)


def probed(offer: Offer, method: str, probe: str, sent: Sequence[Path | None], limits: Limits, under: Path) -> Answer:
    """What a method draws of one visitor's pictures.

    Args:
        offer: the checkpoint.
        method: one of `METHODS`.
        probe: what is measured, as the visitor chose or typed it.
        sent: files, one for each of the network's inputs, None where none was sent.
        limits: how much is taken.
        under: where answers have their folders.

    Raises:
        UserError: no such method or probe, or a picture is missing, is refused or does not fit.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if len(probe) > LONGEST_PROBE:
        raise UserError(f"The probe has {len(probe)} letters; at most {LONGEST_PROBE} are read here.")
    pictures, remarks = taken(offer, sent, limits)
    with ASKING, own_folder(under) as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        subject = offer.subject()
        measured = parse_probe(probe, subject)
        asked = Visitor(question=Question(subject, subject.shown(*pictures), measured), folder=folder)
        METHODS[method](asked)
    assert asked.picture is not None, f"{method} draws nothing"
    # Verbs say on stdout what is odd about an answer (a map that is empty, a sum that is not reached).
    spoken = " ".join(printed.getvalue().split())
    sentence = " ".join(filter(None, [f"{method} of {measured}.", spoken, *remarks]))
    return Answer(sentence, at_most(asked.picture, LONGEST_SHOWN), asked.files)


def probes_for(offer: Offer) -> list[str]:
    """Probes of a network that a visitor may choose, ready to be asked: the task's own words, classes, then levels."""
    with ASKING:
        subject = offer.subject()
        words, levels = (
            dense_words(subject),
            {f"{each.name}:" for each in subject.trunk.levels} if subject.trunk else (),
        )
        listed = [_filled_in(line, subject) for line in probes_of(subject)]
    inside = [line for line in listed if any(line.startswith(level) for level in levels)]
    own = [line for line in listed if line not in inside]
    dense = [line for line in own if line.split("@")[0] in words]
    named = [line for line in own if line not in dense]
    return [*dense, *named[:MOST_CLASSES], *inside]


def _filled_in(line: str, subject: Subject) -> str:
    """A line of `probes_of` with numbers in it: the middle of the picture, the first channel's first unit."""
    height, width = subject.size
    middle = "0,0" if "CHANNEL" in line else f"{width // 2},{height // 2}"
    box = f"{width // 4},{height // 4},{width // 2},{height // 2}"
    return line.replace("X,Y,WIDTH,HEIGHT", box).replace("X,Y", middle).replace("CHANNEL", "0")
