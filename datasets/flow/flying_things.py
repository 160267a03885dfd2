"""FlyingThings3D: rendered objects on random 3D paths (Mayer et al.: A Large Dataset to Train Convolutional Networks
for Disparity, Optical Flow, and Scene Flow Estimation, CVPR 2016, arXiv:1512.02134)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from ..core.files import FilePattern
from ..examples import fake_flow_sequence
from ..formats.flow import write_flow
from ..formats.image import write_image
from .flow_pairs import FlowPairs, Pair, frame_numbers, with_successor

FLOWS = "optical_flow"


def file_patterns(rendering: str, sequence: str) -> tuple[FilePattern, FilePattern, FilePattern]:
    """File patterns of a sequence of the left camera: images, forward flow and backward flow."""
    flows = f"{FLOWS}/{sequence}"
    return (
        FilePattern(f"{rendering}/{sequence}/left"),
        FilePattern(f"{flows}/into_future/left", "OpticalFlowIntoFuture_", "_L.pfm"),
        FilePattern(f"{flows}/into_past/left", "OpticalFlowIntoPast_", "_L.pfm"),
    )


def pair_files(rendering: str, sequence: str, number: int, step: Literal[1, -1] = 1) -> Pair:
    """Files of a frame and the next one, or the previous one."""
    images, future, past = file_patterns(rendering, sequence)
    flows = future if step == 1 else past
    return Pair(images.file(f"{number:04}"), images.file(f"{number + step:04}"), flows.file(f"{number:04}"))


class FlyingThings(FlowPairs):
    """Sequences of ten frames of 540x960 of the left camera, with the flow to the next and to the previous frame.

    The root contains `frames_cleanpass/` or `frames_finalpass/`, and `optical_flow/`, each with `TRAIN` and `TEST`. A
    sequence gives eighteen pairs: forward flow of every frame but the last, backward flow of every frame but the first.
    TRAIN has 40,302 pairs per pass.
    """

    terms: ClassVar[str] = "research purposes only, no commercial use: research-only"
    rendering: ClassVar[str]

    def pairs(self) -> list[Pair]:
        pairs: list[Pair] = []
        for sequence in self._sequences():
            numbers = [frame_numbers(self.root, pattern) for pattern in file_patterns(self.rendering, sequence)]
            steps = with_successor(set().union(*numbers))
            pairs += [pair_files(self.rendering, sequence, number) for number in steps]
            pairs += [pair_files(self.rendering, sequence, number + 1, -1) for number in steps]
        return pairs

    def _sequences(self) -> list[str]:
        """Sequences with an existing folder, such as `TRAIN/A/0000`."""
        tops = [self.root / self.rendering, self.root / FLOWS]
        return sorted(
            {
                folder.relative_to(top).as_posix()
                for top in tops
                for folder in top.glob(f"{self.split.upper()}/*/*")
                if folder.is_dir()
            }
        )

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            sequence = fake_flow_sequence(index, frames=3)
            images, future, past = file_patterns(cls.rendering, f"{split.upper()}/A/0000")
            for number, frame in enumerate(sequence.frames, start=6):
                write_image(Path(root) / images.file(f"{number:04}"), frame)
                write_flow(Path(root) / future.file(f"{number:04}"), sequence.flow)
                write_flow(Path(root) / past.file(f"{number:04}"), -sequence.flow)


class FlyingThingsClean(FlyingThings):
    """Clean pass: with lighting and shading, without blur."""

    title: ClassVar[str] = "FlyingThings3D, clean pass"
    rendering: ClassVar[str] = "frames_cleanpass"
    layout: ClassVar[Pair] = pair_files(rendering, "TRAIN/A/0000", 6)


class FlyingThingsFinal(FlyingThings):
    """Final pass: with motion blur and depth of field."""

    title: ClassVar[str] = "FlyingThings3D, final pass"
    rendering: ClassVar[str] = "frames_finalpass"
    layout: ClassVar[Pair] = pair_files(rendering, "TRAIN/A/0000", 6)
