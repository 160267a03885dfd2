"""Middlebury flow: small scenes, measured or rendered (Baker et al.: A Database and Evaluation Methodology for Optical
Flow, IJCV 2011)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..examples import fake_flow_sequence
from ..formats.flow import write_flow
from ..formats.image import write_image
from .flow_pairs import FlowPairs, Pair

IMAGES, FLOWS = "other-data", "other-gt-flow"


class MiddleburyFlow(FlowPairs):
    """The eight scenes with public flow. Scenes without flow are ignored; the twelve scenes of the benchmark have none.

    The root contains `other-data/NAME/frame10.png`, `frame11.png` and `other-gt-flow/NAME/flow10.flo`; flow may also be
    `flow10.npz` with the array `flow` (not an official format). There is one split, for evaluation: eight pairs are too
    few for training.
    """

    title: ClassVar[str] = "Middlebury flow"
    default_protocol: ClassVar[str] = "image-mean"
    terms: ClassVar[str] = "free for research, no explicit license, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    layout: ClassVar[Pair] = Pair(
        f"{IMAGES}/Venus/frame10.png", f"{IMAGES}/Venus/frame11.png", f"{FLOWS}/Venus/flow10.flo"
    )

    def pairs(self) -> list[Pair]:
        pairs = []
        for scene in sorted(folder.name for folder in (self.root / FLOWS).glob("[!.]*") if folder.is_dir()):
            images, flow = f"{IMAGES}/{scene}", f"{FLOWS}/{scene}/flow10"
            suffix = ".npz" if (self.root / f"{flow}.npz").is_file() else ".flo"
            pairs.append(Pair(f"{images}/frame10.png", f"{images}/frame11.png", flow + suffix))
        return pairs

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, scene in enumerate(("Grove2", "Venus")):
            sequence = fake_flow_sequence(index)
            sequence.flow[:2] = float("nan")
            for number, frame in enumerate(sequence.frames, start=10):
                write_image(Path(root) / IMAGES / scene / f"frame{number}.png", frame)
            write_flow(Path(root) / FLOWS / scene / "flow10.flo", sequence.flow)
