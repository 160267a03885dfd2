"""A folder of photographs, each brought to the same scale before a network sees it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ...datasets.geometry import Size
from ...errors import UserError
from ...tasks.pictures import PICTURE_ENDINGS, any_picture, picture_of
from .subject import Subject

LARGEST_ASPECT = 8
"""A strip is squeezed where a short side that is given would make it longer than this multiple of it."""


def pictures_in(folder: Path, subset: int | None = None) -> list[Path]:
    """The pictures of a folder and of all folders in it, by name.

    Args:
        folder: where they lie.
        subset: at most so many, spread evenly over the names; None: all.

    Raises:
        UserError: no folder, no picture in it, or a subset of none.
    """
    if subset is not None and subset < 1:
        raise UserError(f"--subset is {subset}; it must be at least 1.")
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}'.")
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_ENDINGS and file.is_file())
    if not found:
        raise UserError(f"The folder '{folder}' holds no picture ({', '.join(PICTURE_ENDINGS)}).")
    if subset is None or subset >= len(found):
        return found
    return [found[number * len(found) // subset] for number in range(subset)]


def resized(picture: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, C) uint8 at (height, width): averaged where it shrinks, smooth where it grows."""
    if picture.shape[:2] == size:
        return picture
    grows = size[0] * size[1] > picture.shape[0] * picture.shape[1]
    made = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return made.reshape(*size, picture.shape[2])


def size_with(source: Size, *, short: int | None = None, long: int | None = None) -> Size:
    """A size of the same aspect whose short or long side is given, in pixels; see `LARGEST_ASPECT`."""
    factor = short / min(source) if short is not None else (long or max(source)) / max(source)
    largest = LARGEST_ASPECT * short if short is not None else max(source) * factor
    height, width = (max(1, round(min(side * factor, largest))) for side in source)
    return height, width


def to_pixels(picture: np.ndarray) -> Tensor:
    """(H, W, C) uint8 as (1, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float() / 255


def at_scale(subject: Subject, source: Any, short: int) -> tuple[Tensor, ...]:
    """A whole photograph with a short side of so many pixels, as the network takes it: (1, C, H, W) in [0, 1].

    Classifiers see a window elsewhere; what is compared place by place is shown whole.

    Raises:
        UserError: no picture, or a network that takes something else.
    """
    if subject.task is not None and subject.task.name != "classification":
        picture = any_picture(source)
        size = size_with((picture.shape[0], picture.shape[1]), short=short)
        return replace(subject, size=size).pixels(resized(picture, size))
    channels = 3 if subject.trunk is None else subject.trunk.in_channels
    picture = picture_of(source, channels)
    size = size_with((picture.shape[0], picture.shape[1]), short=short)
    return (to_pixels(resized(picture, size)).to(subject.device),)


def counted(done: int, total: int, said: str = "") -> None:
    """How far a long work is, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done}/{total} {said}", end="" if done < total else "\n", file=sys.stderr, flush=True)
