"""What a visitor gets: a picture for eyes, a sentence, and the files that `densevision predict` would write."""

from __future__ import annotations

import ctypes
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ...errors import UserError
from .networks import ASKING, Offer
from .uploads import Limits, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...tasks.task import Prediction

LONGEST_SHOWN = 1600
"""Pixels of the longer side of what is shown; the files hold everything."""


STEM = "answer"
"""Of the files' names; nothing that a visitor sends becomes part of a path."""


@dataclass(frozen=True)
class Answer:
    """What a visitor gets.

    Attributes:
        sentence: what was found, or why nothing.
        picture: (H, W, 3) uint8; None where there is none.
        files: to download, in a folder of this answer alone.
    """

    sentence: str
    picture: np.ndarray | None = None
    files: list[Path] = field(default_factory=list)


@contextmanager
def own_folder(under: Path) -> Iterator[Path]:
    """A folder for one answer, under a name that nobody guesses; nothing of it is left where the answer fails."""
    folder = under / secrets.token_urlsafe(18)
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def answered(offer: Offer, sent: Sequence[Path | None], limits: Limits, under: Path) -> Answer:
    """The network's answer to one visitor's pictures.

    Args:
        offer: the checkpoint.
        sent: files, one for each of its inputs, None where none was sent.
        limits: how much is taken.
        under: where answers have their folders.

    Raises:
        UserError: a picture is missing, is refused or does not fit.
    """
    pictures, remarks = taken(offer, sent, limits)
    with ASKING:
        prediction = offer.predictor().predict(*pictures)
    with own_folder(under) as folder:
        files = prediction.save(folder, STEM)
    return Answer(" ".join([said(prediction), *remarks]), at_most(prediction.picture(), LONGEST_SHOWN), files)


def taken(offer: Offer, sent: Sequence[Path | None], limits: Limits) -> tuple[list[Any], list[str]]:
    """The visitor's pictures as the network takes them, and remarks on them.

    Raises:
        UserError: one is missing or refused; of several it is said which.
    """
    kinds = offer.kinds
    pictures, remarks = [], []
    for (name, kind), file in zip(kinds.items(), sent, strict=False):
        which = f"{name.capitalize()}: " if len(kinds) > 1 else ""
        if file is None:
            raise UserError(f"{which}No picture yet; choose one, or an example.")
        try:
            found = opened(file, kind, limits)
        except UserError as mistake:
            raise UserError(f"{which}{mistake}") from None
        pictures.append(found.image)
        remarks += [f"{which}{remark}" for remark in found.remarks]
    return pictures, remarks


def said(prediction: Prediction) -> str:
    """What was found, and in what unit."""
    brief = prediction.brief()
    unit = "" if prediction.unit in brief else f" (unit: {prediction.unit})"
    return f"{brief[0].upper()}{brief[1:]}{unit}."


def at_most(picture: np.ndarray, longest: int) -> np.ndarray:
    """A picture, made smaller where its longer side has more pixels."""
    share = longest / max(picture.shape[:2])
    if share >= 1:
        return picture
    height, width = (max(1, round(side * share)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def filmed(
    offer: Offer, frame: bytes, held: tuple[np.ndarray, ...], limits: Limits
) -> tuple[Answer, tuple[np.ndarray, ...]]:
    """The answer to the newest picture of a visitor's camera, beside those that came before where the task takes more.

    Args:
        offer: the checkpoint.
        frame: the camera's picture, as a file's bytes.
        held: the pictures before, (H, W, 3) uint8, as this function gave them back.
        limits: how much is taken.

    Returns:
        The answer, and what is to be held until the next picture.

    Raises:
        UserError: the frame is no picture, or the network takes none.
    """
    if not offer.filmed:
        raise UserError(f"{offer.name} takes label maps, which no camera gives.")
    started = time.perf_counter()
    kinds = offer.kinds
    picture = np.asarray(opened(frame, next(iter(kinds.values())), limits).image.convert("RGB"))
    # A camera that was turned starts anew.
    before = tuple(one for one in held if one.shape == picture.shape)[-(len(kinds) - 1) :] if len(kinds) > 1 else ()
    together = (*before, picture)
    if len(together) < len(kinds):
        return Answer(f"Waiting for {len(kinds) - len(together)} more picture(s) of the camera."), together
    with ASKING:
        prediction = offer.predictor().predict(*together)
    drawn = prediction.picture()
    took = 1000 * (time.perf_counter() - started)
    return Answer(f"{said(prediction)} {took:.0f} ms.", drawn), together[1:]


def give_memory_back() -> None:
    """What an answer used and no longer needs, to the system; the C library would keep it, a share for every thread."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def in_sentences(answer: Callable[[], Answer], complain: Callable[[], None]) -> Answer:
    """An answer, or the sentence why there is none: nothing that a visitor does ends otherwise.

    Args:
        answer: makes it.
        complain: tells the server's owner of what is no visitor's mistake, while it is handled.
    """
    try:
        return answer()
    except UserError as mistake:
        return Answer(" ".join(str(mistake).split()))
    except MemoryError:
        return Answer("There is not enough memory for this picture here; send a smaller copy.")
    except Exception:  # a defect of ours: the visitor gets a sentence, the owner the stack
        complain()
        return Answer("Something went wrong here, which is no fault of the picture; the server's log says what.")
