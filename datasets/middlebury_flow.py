"""Middlebury's flow: small scenes, measured or rendered (Baker et al.: A Database and Evaluation Methodology for
Optical Flow, IJCV 2011)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .flow_files import write_flow
from .flow_pairs import FlowPairs, Pair, drifting_frames
from .formats.picture import write_picture

PICTURES, FLOWS = "other-data", "other-gt-flow"


class MiddleburyFlow(FlowPairs):
    """The eight scenes whose flow is public. Scenes without flow are left out; the evaluation's twelve have none.

    The root holds `other-data/NAME/frame10.png`, `frame11.png` and `other-gt-flow/NAME/flow10.flo`; a flow may also be
    `flow10.npz` with the array `flow`, which is not an official form. There is one split, for scores: eight pairs train
    nothing.
    """

    title: ClassVar[str] = "Middlebury flow"
    terms: ClassVar[str] = "free for research, no explicit licence, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    layout: ClassVar[Pair] = Pair(
        f"{PICTURES}/Venus/frame10.png", f"{PICTURES}/Venus/frame11.png", f"{FLOWS}/Venus/flow10.flo"
    )

    def pairs(self) -> list[Pair]:
        found = []
        for scene in sorted(folder.name for folder in (self.root / FLOWS).glob("[!.]*") if folder.is_dir()):
            pictures, flow = f"{PICTURES}/{scene}", f"{FLOWS}/{scene}/flow10"
            suffix = ".npz" if (self.root / f"{flow}.npz").is_file() else ".flo"
            found.append(Pair(f"{pictures}/frame10.png", f"{pictures}/frame11.png", flow + suffix))
        return found

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, scene in enumerate(("Grove2", "Venus")):
            drift = drifting_frames(place)
            drift.flow[:2] = float("nan")
            for number, frame in enumerate(drift.frames, start=10):
                write_picture(Path(root) / PICTURES / scene / f"frame{number}.png", frame)
            write_flow(Path(root) / FLOWS / scene / "flow10.flo", drift.flow)
