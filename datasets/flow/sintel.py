"""MPI Sintel: scenes of an animated movie (Butler, Wulff, Stanley, Black: A Naturalistic Open Source Movie for Optical
Flow Evaluation, ECCV 2012)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import FilePattern
from ..core.problems import require_same_size
from ..dataset import Sample
from ..examples import fake_flow_sequence
from ..formats.flow import write_flow
from ..formats.image import read_image, write_image
from .flow_pairs import FlowPairs, Pair, frame_numbers, with_successor

TOP = "training"


def file_patterns(rendering: str, scene: str) -> tuple[FilePattern, FilePattern, FilePattern]:
    """File patterns of a scene: images, flow and occlusion masks."""
    images, occlusions = (FilePattern(f"{TOP}/{folder}/{scene}", "frame_") for folder in (rendering, "occlusions"))
    return images, FilePattern(f"{TOP}/flow/{scene}", "frame_", ".flo"), occlusions


def pair_files(rendering: str, scene: str, number: int) -> Pair:
    """Files of a frame and the next one."""
    images, flows, occlusions = file_patterns(rendering, scene)
    key, next_key = f"{number:04}", f"{number + 1:04}"
    return Pair(images.file(key), images.file(next_key), flows.file(key), occlusions.file(key))


def invalid_mask_path(flow: Path) -> Path:
    """Path of the mask of the invalid pixels of a flow file."""
    return flow.parents[2] / "invalid" / flow.parent.name / f"{flow.stem}.png"


class Sintel(FlowPairs):
    """1,041 pairs of 436x1024 from 23 scenes, with dense flow and occlusion masks.

    The root contains `training/` with `clean/` or `final/`, `flow/`, `occlusions/` and `invalid/`, each with one folder
    per scene: `alley_1/frame_0001.png` or `.flo`. There is one split, since the official test split has no public flow
    and the training split no official division: to train on it, evaluate on another dataset.

    Pixels marked in `invalid/` are nan here and do not count in scores; the evaluation of RAFT counts them.
    """

    terms: ClassVar[str] = "movie CC BY 3.0 (Blender Foundation), flow without explicit license: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    rendering: ClassVar[str]

    def pairs(self) -> list[Pair]:
        tops = [self.root / TOP / name for name in (self.rendering, "flow")]
        scenes = {folder.name for top in tops for folder in top.glob("[!.]*") if folder.is_dir()}
        pairs: list[Pair] = []
        for scene in sorted(scenes):
            images, flows, _ = file_patterns(self.rendering, scene)
            with_flow = frame_numbers(self.root, flows)
            numbers = frame_numbers(self.root, images) | with_flow | {number + 1 for number in with_flow}
            pairs += [pair_files(self.rendering, scene, number) for number in with_successor(numbers)]
        return pairs

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        mask_path = invalid_mask_path(self.root / self.pair(index).flow)
        invalid = read_image(mask_path)
        require_same_size(sample["first"], invalid, mask_path, "the first image")
        sample["flow"][invalid[..., 0] > 0] = np.nan
        return sample

    def visible(self, file: Path) -> np.ndarray:
        return read_image(file)[..., 0] == 0

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, scene in enumerate(("alley_1", "market_2")):
            sequence = fake_flow_sequence(index, frames=3)
            occluded = np.where(sequence.visible, 0, 255).astype(np.uint8)
            invalid = np.zeros_like(occluded)
            invalid[:3, :3] = 255
            for number, (frame, next_frame) in enumerate(pairwise(sequence.frames), start=1):
                first, second, flow, visible = (Path(root) / file for file in pair_files(cls.rendering, scene, number))
                images = {first: frame, second: next_frame, visible: occluded, invalid_mask_path(flow): invalid}
                for file, image in images.items():
                    write_image(file, image)
                write_flow(flow, sequence.flow)


class SintelClean(Sintel):
    """Clean pass: with lighting and shading, without blur."""

    title: ClassVar[str] = "MPI Sintel, clean pass"
    rendering: ClassVar[str] = "clean"
    layout: ClassVar[Pair] = pair_files(rendering, "alley_1", 1)


class SintelFinal(Sintel):
    """Final pass, as in the movie: with motion blur, depth of field and fog."""

    title: ClassVar[str] = "MPI Sintel, final pass"
    rendering: ClassVar[str] = "final"
    layout: ClassVar[Pair] = pair_files(rendering, "alley_1", 1)
