"""KITTI flow: street scenes with lidar-measured flow (Geiger, Lenz, Urtasun, CVPR 2012; Menze, Geiger, CVPR 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import FilePattern
from ..examples import fake_flow_sequence
from ..formats.flow import read_flow, write_flow
from ..formats.image import write_image
from .flow_pairs import FlowPairs, Pair


def file_patterns(images: str) -> tuple[FilePattern, FilePattern, FilePattern, FilePattern]:
    """File patterns: first image, second image, flow, and flow of the pixels that are not occluded."""
    first, flow, visible_flow = (
        FilePattern(f"training/{name}", after="_10.png") for name in (images, "flow_occ", "flow_noc")
    )
    return first, FilePattern(f"training/{images}", after="_11.png"), flow, visible_flow


def pair_files(images: str, key: str) -> Pair:
    """Files of one pair, such as 000000."""
    return Pair(*(pattern.file(key) for pattern in file_patterns(images)))


class KITTIFlow(FlowPairs):
    """Pairs of about 375x1242 with sparse flow, measured by lidar.

    The root contains `training/` with the images (`000000_10.png` and its successor `000000_11.png`), `flow_occ/` and
    `flow_noc/`. The ground truth is `flow_occ`; a pixel is `visible` if it is known in `flow_noc` too, so a pixel that
    the lidar missed is not. There is one split, since the official test split has no public flow: to train on it,
    evaluate on another dataset.
    """

    terms: ClassVar[str] = "CC BY-NC-SA 3.0: research-only"
    default_protocol: ClassVar[str] = "kitti"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    images: ClassVar[str]

    def pairs(self) -> list[Pair]:
        keys = set().union(*(pattern.keys(self.root) for pattern in file_patterns(self.images)))
        return [pair_files(self.images, key) for key in sorted(keys)]

    def visible(self, file: Path) -> np.ndarray:
        return np.isfinite(read_flow(file)[..., 0])

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for number in range(2):
            sequence = fake_flow_sequence(number, size=(48, 160))
            first, second, flow, visible_flow = (Path(root) / file for file in pair_files(cls.images, f"{number:06}"))
            for file, frame in zip((first, second), sequence.frames, strict=True):
                write_image(file, frame)
            # The lidar does not measure the sky, and misses two pixels in three.
            rows, columns = np.indices(sequence.visible.shape)
            measured = (rows >= 16) & ((rows + columns) % 3 == 0)
            for file, known in ((flow, measured), (visible_flow, measured & sequence.visible)):
                write_flow(file, np.where(known[..., None], sequence.flow, np.float32(np.nan)))


class KITTIFlow2012(KITTIFlow):
    """194 pairs of static scenes, recorded from a moving car."""

    title: ClassVar[str] = "KITTI flow 2012"
    images: ClassVar[str] = "colored_0"
    layout: ClassVar[Pair] = pair_files(images, "000000")


class KITTIFlow2015(KITTIFlow):
    """200 pairs with other moving cars, whose flow is from models fitted to the scans."""

    title: ClassVar[str] = "KITTI flow 2015"
    images: ClassVar[str] = "image_2"
    layout: ClassVar[Pair] = pair_files(images, "000000")
