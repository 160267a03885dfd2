"""KITTI flow: street scenes with laser-measured motion (Geiger, Lenz, Urtasun, CVPR 2012; Menze, Geiger, CVPR 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .flow_files import read_flow, write_flow
from .flow_pairs import FlowPairs, Pair, drifting_frames
from .formats.picture import write_picture
from .paired import Side


def sides(pictures: str) -> tuple[Side, Side, Side, Side]:
    """Where first and second pictures lie, the flow, and the flow of what is not hidden in the second picture."""
    first, flow, unhidden = (Side(f"training/{name}", after="_10.png") for name in (pictures, "flow_occ", "flow_noc"))
    return first, Side(f"training/{pictures}", after="_11.png"), flow, unhidden


def files(pictures: str, key: str) -> Pair:
    """The files of one pair, such as 000000."""
    return Pair(*(side.file(key) for side in sides(pictures)))


class KITTIFlow(FlowPairs):
    """Pairs of about 375x1242 with flow where the laser hit.

    The root holds `training/` with the pictures (`000000_10.png` and its successor `000000_11.png`), `flow_occ/` and
    `flow_noc/`. `flow_occ` is the truth; a pixel is `visible` where `flow_noc` knows it too, so what the laser missed
    is not. There is one split, because the official test split has no public flow: who trains on it names another set
    to be scored on.
    """

    terms: ClassVar[str] = "CC BY-NC-SA 3.0: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    pictures: ClassVar[str]

    def pairs(self) -> list[Pair]:
        keys = set().union(*(side.keys(self.root) for side in sides(self.pictures)))
        return [files(self.pictures, key) for key in sorted(keys)]

    def visible(self, file: Path) -> np.ndarray:
        return np.isfinite(read_flow(file)[..., 0])

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for number in range(2):
            drift = drifting_frames(number, size=(48, 160))
            first, second, flow, unhidden = (Path(root) / file for file in files(cls.pictures, f"{number:06}"))
            for file, frame in zip((first, second), drift.frames, strict=True):
                write_picture(file, frame)
            # The laser does not reach the sky and misses two pixels in three.
            rows, columns = np.indices(drift.visible.shape)
            hit = (rows >= 16) & ((rows + columns) % 3 == 0)
            for file, known in ((flow, hit), (unhidden, hit & drift.visible)):
                write_flow(file, np.where(known[..., None], drift.flow, np.float32(np.nan)))


class KITTIFlow2012(KITTIFlow):
    """194 pairs in which nothing moves but the car that films."""

    title: ClassVar[str] = "KITTI flow 2012"
    pictures: ClassVar[str] = "colored_0"
    layout: ClassVar[Pair] = files(pictures, "000000")


class KITTIFlow2015(KITTIFlow):
    """200 pairs with other cars moving, their motion from models fitted to the scans."""

    title: ClassVar[str] = "KITTI flow 2015"
    pictures: ClassVar[str] = "image_2"
    layout: ClassVar[Pair] = files(pictures, "000000")
