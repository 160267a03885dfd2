"""What a network can be asked, and what its file answers beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...datasets.fields import Kind
from ...datasets.geometry import Size
from ...errors import UserError
from .asking import Asked, Freedom, drawn, first_sentence

FLOOR = 1e-2
"""Least range of a channel, of the range of all: one that hardly changes is not measured by its own noise."""
SMALLEST = 1e-12
"""Range of an answer that is the same everywhere."""

Run = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Compared:
    """How far a file's answer lies from PyTorch's, for inputs of one shape.

    Attributes:
        batch: how many at once.
        size: (height, width).
        difference: the largest, of the range of its channel.
    """

    batch: int
    size: Size
    difference: float


@torch.no_grad()
def freedom_of(asked: Asked, kinds: dict[str, Kind], tolerance: float) -> tuple[Freedom, tuple[str, ...]]:
    """What may vary, found by asking: another size, and several inputs at once.

    Returns:
        The freedom, and why it is not more.

    Raises:
        UserError: the network draws when it is asked, and a file has no seed: it would never answer twice alike.
    """
    answers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        answers.append(asked(*drawn(kinds, 2, asked.usual)))
    if not torch.equal(answers[0], answers[1]):
        raise UserError(
            "This network draws random numbers when it is asked (its dropout stays on), and an exported file has no "
            "seed; export one that was trained without (translation: --norm frozen or instance)."
        )
    reasons = []
    one_by_one = [asked(*(each[[place]] for each in drawn(kinds, 2, asked.usual))) for place in (0, 1)]
    batch = difference(answers[0], torch.cat(one_by_one)) <= tolerance
    if not batch:
        reasons.append("The batch is 1: what this network says of a picture depends on the others of its batch.")
    sides = True
    try:
        asked(*drawn(kinds, 1, asked.other))
    except (UserError, RuntimeError) as refusal:
        sides = False
        reasons.append(f"Height and width are fixed: {first_sentence(refusal)}")
    return Freedom(batch, sides), tuple(reasons)


def opened(path: Path, form: str) -> Run:
    """A file as its own runtime runs it."""
    if form == "torch-export":
        program = torch.export.load(path).module()
        return lambda inputs: program(*inputs)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: list[Tensor]) -> Tensor:
        fed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return run


@torch.no_grad()
def compare(asked: Asked, run: Run, inputs: list[Tensor]) -> Compared:
    """A file beside the network it came from."""
    batch, _, height, width = inputs[0].shape
    return Compared(batch, (height, width), difference(asked(*inputs), run(inputs)))


def difference(wanted: Tensor, found: Tensor) -> float:
    """The largest difference of two (B, C, ...), of the range of its channel; inf for another shape or nan."""
    if wanted.shape != found.shape or not found.isfinite().all():
        return math.inf
    wanted, found = (each.double().movedim(1, 0).flatten(1) for each in (wanted, found))
    ranges = wanted.amax(1) - wanted.amin(1)
    ranges = ranges.clamp_min(max(FLOOR * float(wanted.max() - wanted.min()), SMALLEST))
    return float(((wanted - found).abs().amax(1) / ranges).max())
