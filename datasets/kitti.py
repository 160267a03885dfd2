"""KITTI depth: street scenes with annotated laser depth (Geiger et al. 2013; Uhrig et al. 2017), Eigen's split."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Dataset, Sample, problems_of
from .depth_maps import read_depth_png, require_same_size, slanted_floor, write_depth_png
from .fields import Depth, Image
from .formats.picture import read_picture, write_picture
from .formats.reading import read_lines
from .problems import DamagedData, Problem
from .randomness import Purpose, generator

LISTS = {"train": "eigen_train_files_with_gt.txt", "test": "eigen_test_files_with_gt.txt"}

IMAGE_FOLDERS = (".", "raw", "input", "kitti_dataset")
DEPTH_FOLDERS = (".", "data_depth_annotated", "data_depth_annotated/train", "data_depth_annotated/val", "gt_depth")

STEPS_PER_METRE = 256

OFFICIAL_TEST_LINES, OFFICIAL_TEST_DEPTHS = 697, 652
"""Of Eigen's 697 test frames 45 have no annotated depth; the list says `None` there."""


class KITTIDepth(Dataset):
    """Picture and sparse depth in metres by Eigen's split, in the lists' form of BTS (Lee et al., arXiv:1907.10326).

    The root holds `eigen_train_files_with_gt.txt` (23,158 lines in full) and `eigen_test_files_with_gt.txt` (697),
    each line `image depth focal`. Images are `<date>/<drive>_sync/image_02/data/N.png` under the root itself, `raw/`,
    `input/` or `kitti_dataset/` (lists without the date are understood); depths are
    `<drive>_sync/proj_depth/groundtruth/image_02/N.png` under the root, `data_depth_annotated/` (also its official
    `train/` and `val/`) or `gt_depth/`. A drive may lie in any of these. Pictures may be JPEG of the same name.
    Depth is 16-bit, metres times 256; 0 means no measurement.

    Attributes:
        without_depth: how many lines of the list say `None` for their depth (45 of the official 697 test lines); they
            are not part of the split.
    """

    title: ClassVar[str] = "KITTI depth (Eigen split)"
    terms: ClassVar[str] = "CC BY-NC-SA 3.0: research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        # The lists' third column is the focal length alone; a camera matrix would need the drive's calibration.
        self.fields = {"image": Image(), "depth": Depth()}
        listed = self.root / LISTS[split]
        lines = [line.split() for line in read_lines(listed, "a list with lines 'image depth focal'")]
        problems = [
            Problem(f"{listed} line {number}", "'image depth focal'", f"'{' '.join(words)}'")
            for number, words in enumerate(lines, start=1)
            if len(words) < 2
        ]
        pairs = [(words[0].lstrip("/"), words[1].lstrip("/")) for words in lines if len(words) >= 2]
        known = [(image, depth) for image, depth in pairs if depth != "None"]
        self.without_depth = len(pairs) - len(known)
        if len(lines) == OFFICIAL_TEST_LINES and split == "test" and len(known) != OFFICIAL_TEST_DEPTHS:
            expected = f"{OFFICIAL_TEST_DEPTHS} of {OFFICIAL_TEST_LINES} lines with depth"
            problems.append(Problem(str(listed), expected, f"{len(known)}"))
        if not known:
            problems.append(Problem(str(listed), "at least one line with a depth file", "none"))
        self._images = np.array([image for image, _ in known], dtype=np.str_)
        self._depths = np.array([depth for _, depth in known], dtype=np.str_)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def __len__(self) -> int:
        return len(self._images)

    def label(self, index: int) -> str:
        return str(self._images[index])

    def read(self, index: int) -> Sample:
        listed = self.label(index)
        jpeg = f"{listed.removesuffix('.png')}.jpg"
        # A drive's name begins with its date, ten characters long.
        names = [listed, jpeg, f"{listed[:10]}/{listed}", f"{listed[:10]}/{jpeg}"]
        image = read_picture(_first(self.root, IMAGE_FOLDERS, names))
        stored = _first(self.root, DEPTH_FOLDERS, [str(self._depths[index])])
        depth = read_depth_png(stored, STEPS_PER_METRE)
        require_same_size(image, depth, stored)
        return {"image": image, "depth": depth}

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        root, date = Path(root), "2011_09_26"
        for split, drive, folder in (("train", "0057", "train"), ("test", "0002", "val")):
            drive, lines = f"{date}_drive_{drive}_sync", []
            for frame in range(2):
                rng = generator(0, len(split), frame, Purpose.MINIATURE)
                image, depth = slanted_floor(rng, (48, 160), 5, 80)
                # The laser does not reach the sky and hits about one pixel in six.
                depth[:16], depth[rng.uniform(size=depth.shape) > 1 / 6] = np.nan, np.nan
                picture = f"{date}/{drive}/image_02/data/{frame:010}.png"
                stored = f"{drive}/proj_depth/groundtruth/image_02/{frame:010}.png"
                write_picture(root / "raw" / picture, image)
                write_depth_png(root / "data_depth_annotated" / folder / stored, depth, STEPS_PER_METRE)
                lines.append(f"{picture} {stored} 721.5377\n")
            if split == "test":
                lines.append(f"{date}/{drive}/image_02/data/{2:010}.png None 721.5377\n")
            (root / LISTS[split]).write_text("".join(lines))


def _first(root: Path, folders: tuple[str, ...], names: list[str]) -> Path:
    """Where a listed file lies; the place under the root itself where it lies nowhere, for the sentence."""
    candidates = (root / folder / name for name in names for folder in folders)
    return next((candidate for candidate in candidates if candidate.is_file()), root / names[0])
