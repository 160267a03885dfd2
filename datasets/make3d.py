"""Make3D: outdoor scenes with a laser scan (Saxena, Sun, Ng, "Make3D", TPAMI 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .dataset import Dataset, Sample, problems_of
from .depth_maps import slanted_floor
from .fields import Depth, Image
from .formats.mat import read_mat, write_mat
from .formats.picture import read_picture, write_picture
from .geometry import plain_resize, warp_nearest, warp_picture
from .problems import DamagedData, Problem
from .randomness import Purpose, generator

PICTURE_SIZE = (2272, 1704)
GRID_SIZE = (55, 305)
"""Of the laser's grid: much finer across than down, over the same field of view as the picture."""

SIZE = (460, 345)
"""To which protocol C1 brings pictures (bilinear) and depths (nearest) before it compares them."""

PICTURE_FOLDERS = {"train": "Train400Img", "test": "Test134"}
DEPTH_FOLDERS = {"train": ("Train400Depth",), "test": ("Gridlaserdata", "Test134Depth")}
PICTURE_PREFIX, DEPTH_PREFIX = "img-", "depth_sph_corr-"
VARIABLE = "Position3DGrid"


class Make3D(Dataset):
    """Picture and depth in metres, both 460x345 (height x width); 400 to train, 134 to test, by folder.

    The root holds `Train400Img/img-*.jpg`, `Train400Depth/depth_sph_corr-*.mat`, `Test134/img-*.jpg` and
    `Gridlaserdata/depth_sph_corr-*.mat`; picture and depth are paired by the name after the prefix. A picture is
    2272x1704, a depth map the fourth slice of the 55x305x4 variable `Position3DGrid`: the fields of a sample must
    agree in size, so both are brought to the size of protocol C1, the depth by nearest neighbour.
    The laser saturates near 81 m; far depths are kept, the protocols mask them (C1 beyond 70 m).
    """

    title: ClassVar[str] = "Make3D"
    terms: ClassVar[str] = "no explicit licence, cite: treat as research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth()}
        pictures = self.root / PICTURE_FOLDERS[split]
        depths = [self.root / name for name in DEPTH_FOLDERS[split]]
        self._depth_folder = next((folder for folder in depths if folder.is_dir()), depths[0])
        problems = [
            Problem(str(folder), f"a folder of {what}", "none")
            for folder, what in ((pictures, "img-*.jpg"), (self._depth_folder, "depth_sph_corr-*.mat"))
            if not folder.is_dir()
        ]
        names = {file.stem.removeprefix(PICTURE_PREFIX) for file in pictures.glob(f"{PICTURE_PREFIX}*.jpg")}
        if not problems:
            # A name on one side alone stays in the table, so that reading it says which file is missing.
            names |= {file.stem.removeprefix(DEPTH_PREFIX) for file in self._depth_folder.glob(f"{DEPTH_PREFIX}*.mat")}
            if not names:
                problems.append(Problem(str(pictures), "pictures img-*.jpg", "none"))
        self._names = np.array(sorted(names), dtype=np.str_)
        if problems:
            raise DamagedData.of(problems)

    def __len__(self) -> int:
        return len(self._names)

    def label(self, index: int) -> str:
        return f"{PICTURE_FOLDERS[self.split]}/{PICTURE_PREFIX}{self._names[index]}.jpg"

    def read(self, index: int) -> Sample:
        image = read_picture(self.root / self.label(index))
        stored = self._depth_folder / f"{DEPTH_PREFIX}{self._names[index]}.mat"
        grid = read_mat(stored).get(VARIABLE)
        if grid is None or grid.shape != (*GRID_SIZE, 4):
            found = "none" if grid is None else "x".join(map(str, grid.shape))
            raise DamagedData(stored, f"a variable '{VARIABLE}' of 55x305x4", found)
        depth = grid[..., 3].astype(np.float32)
        depth[depth <= 0] = np.nan
        depth = warp_nearest(depth, plain_resize(GRID_SIZE, SIZE).matrix(), SIZE, np.nan)
        return {"image": warp_picture(image, plain_resize(image.shape[:2], SIZE).matrix(), SIZE), "depth": depth}

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for split in cls.splits:
            for frame in range(2):
                rng = generator(0, len(split), frame, Purpose.MINIATURE)
                # A quarter of the official picture's sides, to stay small; the grid has its official size.
                image, depth = slanted_floor(rng, (PICTURE_SIZE[0] // 4, PICTURE_SIZE[1] // 4), 3, 81)
                name = f"{split}-{frame:02}p{frame * 31}t0"
                grid = np.zeros((*GRID_SIZE, 4))
                grid[..., 3] = cv2.resize(depth, GRID_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
                write_picture(Path(root) / PICTURE_FOLDERS[split] / f"{PICTURE_PREFIX}{name}.jpg", image)
                write_mat(Path(root) / DEPTH_FOLDERS[split][0] / f"{DEPTH_PREFIX}{name}.mat", {VARIABLE: grid})
