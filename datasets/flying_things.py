"""FlyingThings3D: things on random paths through space (Mayer et al.: A Large Dataset to Train Convolutional Networks
for Disparity, Optical Flow, and Scene Flow Estimation, CVPR 2016, arXiv:1512.02134)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .flow_files import write_flow
from .flow_pairs import FlowPairs, Pair, drifting_frames, frame_numbers, with_successor
from .formats.picture import write_picture
from .paired import Side

FLOWS = "optical_flow"


def sides(rendering: str, sequence: str) -> tuple[Side, Side, Side]:
    """Where the left camera's pictures of a sequence lie, and its motions into the future and into the past."""
    flows = f"{FLOWS}/{sequence}"
    return (
        Side(f"{rendering}/{sequence}/left"),
        Side(f"{flows}/into_future/left", "OpticalFlowIntoFuture_", "_L.pfm"),
        Side(f"{flows}/into_past/left", "OpticalFlowIntoPast_", "_L.pfm"),
    )


def onward(rendering: str, sequence: str, number: int) -> Pair:
    """The files of a frame and the next."""
    pictures, future, _ = sides(rendering, sequence)
    return Pair(pictures.file(f"{number:04}"), pictures.file(f"{number + 1:04}"), future.file(f"{number:04}"))


def back(rendering: str, sequence: str, number: int) -> Pair:
    """The files of a frame and the one before."""
    pictures, _, past = sides(rendering, sequence)
    return Pair(pictures.file(f"{number:04}"), pictures.file(f"{number - 1:04}"), past.file(f"{number:04}"))


class FlyingThings(FlowPairs):
    """Sequences of ten frames of 540x960, of the left camera, with the motion to the next frame and to the one before.

    The root holds `frames_cleanpass/` or `frames_finalpass/`, and `optical_flow/`; `TRAIN` is trained on and `TEST`
    scored. A sequence gives eighteen pairs: into the future from every frame but the tenth, into the past from every
    frame but the first. TRAIN has 40,302 of them in each pass.
    """

    terms: ClassVar[str] = "research purposes only, no commercial use: research-only"
    rendering: ClassVar[str]

    def pairs(self) -> list[Pair]:
        found: list[Pair] = []
        for sequence in self._sequences():
            numbers = [frame_numbers(self.root, side) for side in sides(self.rendering, sequence)]
            steps = with_successor(set().union(*numbers))
            found += [onward(self.rendering, sequence, number) for number in steps]
            found += [back(self.rendering, sequence, number + 1) for number in steps]
        return found

    def _sequences(self) -> list[str]:
        """Such as `TRAIN/A/0000`: those of which anything is there."""
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
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            drift = drifting_frames(place, frames=3)
            pictures, future, past = sides(cls.rendering, f"{split.upper()}/A/0000")
            for number, frame in enumerate(drift.frames, start=6):
                write_picture(Path(root) / pictures.file(f"{number:04}"), frame)
                write_flow(Path(root) / future.file(f"{number:04}"), drift.flow)
                write_flow(Path(root) / past.file(f"{number:04}"), -drift.flow)


class FlyingThingsClean(FlyingThings):
    """Lit and shaded, no more."""

    title: ClassVar[str] = "FlyingThings3D, clean pass"
    rendering: ClassVar[str] = "frames_cleanpass"
    layout: ClassVar[Pair] = onward(rendering, "TRAIN/A/0000", 6)


class FlyingThingsFinal(FlyingThings):
    """With blur by motion and by depth of field."""

    title: ClassVar[str] = "FlyingThings3D, final pass"
    rendering: ClassVar[str] = "frames_finalpass"
    layout: ClassVar[Pair] = onward(rendering, "TRAIN/A/0000", 6)
