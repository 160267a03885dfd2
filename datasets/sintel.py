"""MPI Sintel: scenes of an animated film (Butler, Wulff, Stanley, Black: A Naturalistic Open Source Movie for Optical
Flow Evaluation, ECCV 2012)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Sample
from .flow_files import write_flow
from .flow_pairs import FlowPairs, Pair, drifting_frames, frame_numbers, require_same_size, with_successor
from .formats.picture import read_picture, write_picture
from .paired import Side

TOP = "training"


def sides(rendering: str, scene: str) -> tuple[Side, Side, Side]:
    """Where a scene's pictures lie, its flow, and what becomes hidden."""
    pictures, hidden = (Side(f"{TOP}/{folder}/{scene}", "frame_") for folder in (rendering, "occlusions"))
    return pictures, Side(f"{TOP}/flow/{scene}", "frame_", ".flo"), hidden


def files(rendering: str, scene: str, number: int) -> Pair:
    """The files of a frame and the next."""
    pictures, flows, hidden = sides(rendering, scene)
    this, following = f"{number:04}", f"{number + 1:04}"
    return Pair(pictures.file(this), pictures.file(following), flows.file(this), hidden.file(this))


def marks(flow: Path) -> Path:
    """The picture that marks what a file of flow only guesses."""
    return flow.parents[2] / "invalid" / flow.parent.name / f"{flow.stem}.png"


class Sintel(FlowPairs):
    """1,041 pairs of 436x1024 from 23 scenes, with dense flow and what becomes hidden.

    The root holds `training/` with `clean/` or `final/`, `flow/`, `occlusions/` and `invalid/`, each with a folder for
    a scene: `alley_1/frame_0001.png` or `.flo`. There is one split, because the official test split has no public flow
    and the training split no official division: who trains on it names another set to be scored on.

    Pixels that `invalid/` marks are nan here and enter no score; RAFT's evaluation counts them.
    """

    terms: ClassVar[str] = "film CC BY 3.0 (Blender Foundation), flow without explicit licence: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    rendering: ClassVar[str]

    def pairs(self) -> list[Pair]:
        tops = [self.root / TOP / name for name in (self.rendering, "flow")]
        scenes = {folder.name for top in tops for folder in top.glob("[!.]*") if folder.is_dir()}
        found: list[Pair] = []
        for scene in sorted(scenes):
            pictures, flows, _ = sides(self.rendering, scene)
            moving = frame_numbers(self.root, flows)
            numbers = frame_numbers(self.root, pictures) | moving | {number + 1 for number in moving}
            found += [files(self.rendering, scene, number) for number in with_successor(numbers)]
        return found

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        marked = marks(self.root / self.pair(index).flow)
        invalid = read_picture(marked)
        require_same_size(sample["first"], invalid, marked)
        sample["flow"][invalid[..., 0] > 0] = np.nan
        return sample

    def visible(self, file: Path) -> np.ndarray:
        return read_picture(file)[..., 0] == 0

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, scene in enumerate(("alley_1", "market_2")):
            drift = drifting_frames(place, frames=3)
            hidden = np.where(drift.visible, 0, 255).astype(np.uint8)
            invalid = np.zeros_like(hidden)
            invalid[:3, :3] = 255
            for number, (frame, following) in enumerate(pairwise(drift.frames), start=1):
                first, second, flow, visible = (Path(root) / file for file in files(cls.rendering, scene, number))
                pictures = {first: frame, second: following, visible: hidden, marks(flow): invalid}
                for file, picture in pictures.items():
                    write_picture(file, picture)
                write_flow(flow, drift.flow)


class SintelClean(Sintel):
    """Lit and shaded, no more."""

    title: ClassVar[str] = "MPI Sintel, clean pass"
    rendering: ClassVar[str] = "clean"
    layout: ClassVar[Pair] = files(rendering, "alley_1", 1)


class SintelFinal(Sintel):
    """As in the film, with blur by motion and by depth of field, and with mist."""

    title: ClassVar[str] = "MPI Sintel, final pass"
    rendering: ClassVar[str] = "final"
    layout: ClassVar[Pair] = files(rendering, "alley_1", 1)
