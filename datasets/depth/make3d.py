"""Make3D: outdoor scenes with a laser scan (Saxena, Sun, Ng, "Make3D", TPAMI 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ..core.files import FilePattern
from ..core.geometry import plain_resize, warp_image, warp_nearest
from ..core.problems import DatasetError, Problem
from ..core.randomness import Purpose, generator
from ..dataset import FileDataset, Sample
from ..examples import fake_depth_sample
from ..field_types import Depth, Image
from ..formats.image import read_image, write_image
from ..formats.mat import read_mat, write_mat

IMAGE_SIZE = (2272, 1704)
GRID_SIZE = (55, 305)
"""(height, width) of the laser scan: much finer vertically than horizontally in the image's field of view."""

SIZE = (460, 345)
"""(height, width) to which protocol C1 resizes images (bilinear) and depths (nearest) before the comparison."""

IMAGE_FOLDERS = {"train": "Train400Img", "test": "Test134"}
DEPTH_FOLDERS = {"train": ("Train400Depth",), "test": ("Gridlaserdata", "Test134Depth")}
IMAGE_PREFIX, DEPTH_PREFIX = "img-", "depth_sph_corr-"
VARIABLE = "Position3DGrid"


class Make3D(FileDataset):
    """Image and depth in meters, both 460x345 (height x width); 400 training and 134 test samples, by folder.

    The root contains `Train400Img/img-*.jpg`, `Train400Depth/depth_sph_corr-*.mat`, `Test134/img-*.jpg` and
    `Gridlaserdata/depth_sph_corr-*.mat`; image and depth are paired by the name after the prefix. An image is
    2272x1704, a depth map is the fourth slice of the 55x305x4 variable `Position3DGrid`. The fields of a sample must
    have one size, so both are resized to the size of protocol C1, the depth by nearest neighbor.
    The laser saturates near 81 m; these depths are not removed here, the protocols mask them (C1 beyond 70 m).
    """

    title: ClassVar[str] = "Make3D"
    default_protocol: ClassVar[str] = "make3d-c1"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth()}
        image = FilePattern(IMAGE_FOLDERS[split], IMAGE_PREFIX, ".jpg")
        depths = [FilePattern(folder, DEPTH_PREFIX, ".mat") for folder in DEPTH_FOLDERS[split]]
        depth = next((pattern for pattern in depths if (self.root / pattern.folder).is_dir()), depths[0])
        problems = [
            Problem(str(self.root / pattern.folder), f"a folder of {pattern.before}*{pattern.after}", "none")
            for pattern in (image, depth)
            if not (self.root / pattern.folder).is_dir()
        ]
        # A name in one folder only remains in the list, so that reading it reports the missing file.
        keys = image.keys(self.root) | depth.keys(self.root)
        if not (keys or problems):
            problems.append(Problem(str(self.root / image.folder), "images img-*.jpg", "none"))
        if problems:
            raise DatasetError.from_problems(problems)
        self.set_files([(image.file(key), depth.file(key)) for key in sorted(keys)])

    def read(self, index: int) -> Sample:
        file, stored = (self.root / name for name in self.files(index))
        image = read_image(file)
        grid = read_mat(stored).get(VARIABLE)
        if grid is None or grid.shape != (*GRID_SIZE, 4):
            found = "none" if grid is None else "x".join(map(str, grid.shape))
            raise DatasetError(stored, f"a variable '{VARIABLE}' of 55x305x4", found)
        depth = grid[..., 3].astype(np.float32)
        depth[depth <= 0] = np.nan
        depth = warp_nearest(depth, plain_resize(GRID_SIZE, SIZE).matrix(), SIZE, np.nan)
        return {"image": warp_image(image, plain_resize(image.shape[:2], SIZE).matrix(), SIZE), "depth": depth}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for split in cls.splits:
            for frame in range(2):
                rng = generator(0, len(split), frame, Purpose.EXAMPLE)
                # A quarter of the official image size, for small files; the grid has its official size.
                image, depth = fake_depth_sample(rng, (IMAGE_SIZE[0] // 4, IMAGE_SIZE[1] // 4), 3, 81)
                name = f"{split}-{frame:02}p{frame * 31}t0"
                grid = np.zeros((*GRID_SIZE, 4))
                grid[..., 3] = cv2.resize(depth, GRID_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
                write_image(Path(root) / IMAGE_FOLDERS[split] / f"{IMAGE_PREFIX}{name}.jpg", image)
                write_mat(Path(root) / DEPTH_FOLDERS[split][0] / f"{DEPTH_PREFIX}{name}.mat", {VARIABLE: grid})
