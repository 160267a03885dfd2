"""A trained network as a file that other runtimes read: ONNX, or a program of torch.export.

What is exported is the network as inference asks it: inputs as a kind's `arrive` leaves them (pictures in [0, 1]), the
trunk's normalisation inside, the raw answer out, at the size of the inputs where it is a map of them. What callers do
before and may know after stands in the file, see `metadata.py`.

No translation is believed: every file is run by its own runtime beside PyTorch before it takes its name.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError, unknown_name
from ...writing import written_aside
from ..inference import Predictor
from .asking import Asked, Freedom, drawn
from .comparing import Compared, compare, freedom_of, opened
from .metadata import facts_of
from .translating import save, translate

TOLERANCE = 1e-3
"""Largest difference from PyTorch, of the range of the channel at hand."""

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}
NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        facts: the metadata of the file.
        freedom: what may differ from question to question.
        reasons: why the rest may not, a sentence each.
        compared: with PyTorch, at two sizes where the sizes are free.
    """

    facts: dict[str, Any]
    freedom: Freedom
    reasons: tuple[str, ...]
    compared: tuple[Compared, ...]


def export(predictor: Predictor, path: str | Path, form: str, terms: list[str] | None = None) -> Exported:
    """Write a network as a file that other runtimes read, and compare it with PyTorch.

    Args:
        predictor: on the CPU. It is left as it was.
        path: of the file, with the ending of its form. It is written aside and takes its name only when it agrees.
        form: "onnx" or "torch-export".
        terms: what data and weights ask of users, a sentence each, for the metadata.

    Raises:
        UserError: an unknown form, a wrong ending, a package that is missing, a network that draws when it is asked or
            that cannot be translated, or a file that disagrees with PyTorch.
    """
    path = Path(path)
    require(form, path)
    with quiet():
        task = predictor.task
        asked = Asked(copy.deepcopy(task.asked(predictor.model, task.views[0])), predictor.size)
        prepared = task.prepared(predictor.fields)
        kinds = {name: prepared[name] for name in task.inputs(predictor.fields)}
        freedom, reasons = freedom_of(asked, kinds, TOLERANCE)
        translated = translate(asked, kinds, form, freedom)
        freedom, reasons = translated.freedom, (*reasons, *translated.reasons)
        facts = facts_of(predictor, asked, kinds, freedom, terms or [])
        with written_aside(path) as aside:
            save(translated, aside, json.dumps(facts, ensure_ascii=False))
            run = opened(aside, form)
            shapes = (1, asked.usual), (3 if freedom.batch else 1, asked.other if freedom.sides else asked.usual)
            compared = tuple(
                compare(asked, run, drawn(kinds, batch, size, seed)) for seed, (batch, size) in enumerate(shapes)
            )
            refuse_disagreement(compared, form)
    return Exported(facts, freedom, reasons, compared)


def require(form: str, path: Path) -> None:
    """See, before anything is loaded, that a file of this form can be written there.

    Raises:
        UserError: an unknown form, a wrong ending, or a package that is missing.
    """
    if form not in ENDINGS:
        raise unknown_name("form to export to", form, ENDINGS)
    if path.suffix != ENDINGS[form]:
        raise UserError(f"--out is '{path}'; a file of {form} ends in {ENDINGS[form]}.")
    missing = [name for name in NEEDED if find_spec(name) is None] if form == "onnx" else []
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}, not installed here: pip install {' '.join(missing)}.")


def refuse_disagreement(compared: tuple[Compared, ...], form: str) -> None:
    """Keep no file that answers otherwise than PyTorch.

    Raises:
        UserError: it does.
    """
    worst = max(compared, key=lambda one: one.difference)
    if worst.difference > TOLERANCE:
        how = "nan or of another shape" if math.isinf(worst.difference) else f"{worst.difference:.1e} of its range off"
        another = next(one for one in ENDINGS if one != form)
        raise UserError(
            f"At {worst.size[0]}x{worst.size[1]} the answer of the {form} file is {how}, and {TOLERANCE:g} is the "
            f"limit: it was not kept; try --to {another}."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch says of its own work: what matters to a user is compared and said in a sentence."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng([]):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
