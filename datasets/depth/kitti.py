"""KITTI depth: street scenes with annotated lidar depth (Geiger et al. 2013; Uhrig et al. 2017), Eigen split."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.problems import Problem, require_same_size
from ..core.randomness import Purpose, generator
from ..dataset import FileDataset, Sample
from ..examples import fake_depth_sample
from ..field_types import Depth, Image
from ..formats.image import read_image, write_image
from ..formats.png import read_depth_png, write_depth_png
from .nyu_depth import read_bts_list

LISTS = {"train": "eigen_train_files_with_gt.txt", "test": "eigen_test_files_with_gt.txt"}

IMAGE_FOLDERS = (".", "raw", "input", "kitti_dataset")
DEPTH_FOLDERS = (".", "data_depth_annotated", "data_depth_annotated/train", "data_depth_annotated/val", "gt_depth")

STEPS_PER_METER = 256

OFFICIAL_TEST_LINES, OFFICIAL_TEST_DEPTHS = 697, 652
"""45 of the 697 test frames of the Eigen split have no annotated depth; the list contains `None` for them."""


class KITTIDepth(FileDataset):
    """Image and sparse depth in meters, by the lists of the Eigen split from BTS (Lee et al., arXiv:1907.10326).

    The root contains `eigen_train_files_with_gt.txt` (23,158 lines in full) and `eigen_test_files_with_gt.txt` (697),
    each line `image depth focal`. Images are `<date>/<drive>_sync/image_02/data/N.png` under the root itself, `raw/`,
    `input/` or `kitti_dataset/` (lists without the date are supported); depths are
    `<drive>_sync/proj_depth/groundtruth/image_02/N.png` under the root, `data_depth_annotated/` (also its official
    `train/` and `val/`) or `gt_depth/`. Drives may be in any of these. Images may be JPEG of the same name.
    Depth is 16-bit, meters times 256; 0 means no measurement.

    Attributes:
        without_depth: number of lines with `None` as depth (45 of the official 697 test lines); they are not part of
            the split.
    """

    title: ClassVar[str] = "KITTI depth (Eigen split)"
    default_protocol: ClassVar[str] = "kitti-garg-80"
    terms: ClassVar[str] = "CC BY-NC-SA 3.0: research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        # The third column of the lists is only the focal length; a camera matrix needs the calibration of the drive.
        self.fields = {"image": Image(), "depth": Depth()}
        list_file = self.root / LISTS[split]
        rows, problems = read_bts_list(list_file)
        with_depth = [(image, depth) for image, depth, _ in rows if depth != "None"]
        self.without_depth = len(rows) - len(with_depth)
        if len(rows) == OFFICIAL_TEST_LINES and split == "test" and len(with_depth) != OFFICIAL_TEST_DEPTHS:
            expected = f"{OFFICIAL_TEST_DEPTHS} of {OFFICIAL_TEST_LINES} lines with depth"
            problems.append(Problem(str(list_file), expected, f"{len(with_depth)}"))
        if not with_depth:
            problems.append(Problem(str(list_file), "at least one line with a depth file", "none"))
        self.set_files(with_depth, problems)

    def read(self, index: int) -> Sample:
        name, depth_name = self.files(index)
        jpeg = f"{name.removesuffix('.png')}.jpg"
        # The name of a drive begins with its date of ten characters.
        names = [name, jpeg, f"{name[:10]}/{name}", f"{name[:10]}/{jpeg}"]
        image = read_image(_first_existing(self.root, IMAGE_FOLDERS, names))
        stored = _first_existing(self.root, DEPTH_FOLDERS, [depth_name])
        depth = read_depth_png(stored, STEPS_PER_METER)
        require_same_size(image, depth, stored, "its image")
        return {"image": image, "depth": depth}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        root, date = Path(root), "2011_09_26"
        for split, drive, folder in (("train", "0057", "train"), ("test", "0002", "val")):
            drive, lines = f"{date}_drive_{drive}_sync", []
            for frame in range(2):
                rng = generator(0, len(split), frame, Purpose.EXAMPLE)
                image, depth = fake_depth_sample(rng, (48, 160), 5, 80)
                # The lidar does not measure the sky, and hits about one pixel in six.
                depth[:16], depth[rng.uniform(size=depth.shape) > 1 / 6] = np.nan, np.nan
                image_path = f"{date}/{drive}/image_02/data/{frame:010}.png"
                stored = f"{drive}/proj_depth/groundtruth/image_02/{frame:010}.png"
                write_image(root / "raw" / image_path, image)
                write_depth_png(root / "data_depth_annotated" / folder / stored, depth, STEPS_PER_METER)
                lines.append(f"{image_path} {stored} 721.5377\n")
            if split == "test":
                lines.append(f"{date}/{drive}/image_02/data/{2:010}.png None 721.5377\n")
            (root / LISTS[split]).write_text("".join(lines))


def _first_existing(root: Path, folders: tuple[str, ...], names: list[str]) -> Path:
    """Path of a listed file; the path under the root itself if there is none, for the error message."""
    candidates = (root / folder / name for name in names for folder in folders)
    return next((candidate for candidate in candidates if candidate.is_file()), root / names[0])
