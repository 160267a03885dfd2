"""Folders of images and depth maps: a layout for your own depth data (`depth-folders`)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import IMAGE_SUFFIXES, read_lines
from ..core.problems import DatasetError, Problem, read_parts, require_same_size
from ..core.randomness import Purpose, generator
from ..core.splits import is_test_sample
from ..dataset import Sample
from ..examples import fake_depth_sample
from ..field_types import Depth, Image
from ..formats.arrays import read_npy, read_pfm, write_npy
from ..formats.image import read_image, write_image
from ..formats.png import read_depth_png, write_depth_png
from ..paired_folders import MatchedFiles

UNIT_FILES = ("depth_unit.txt", "unit.txt")


class DepthFolders(MatchedFiles):
    """Images in `images/` and depth in meters in `depths/`.

    A depth map is a 16-bit PNG with its unit in `depth_unit.txt`, in meters per step (`0.001` for millimeters), or
    `.npy` or `.pfm` with float meters. 0 means unknown in all three, nan in the two float formats; inf and negative
    depths are refused, because they are usually mistakes.
    """

    title: ClassVar[str] = "Folders of images and depth maps"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    folder_names = ("images", "depths")
    suffixes: ClassVar[tuple[Collection[str], Collection[str]]] = (IMAGE_SUFFIXES, (".npy", ".pfm", ".png"))

    def __init__(self, root: str | Path, split: str = "train", folders: tuple[str, str] | None = None) -> None:
        self.fields = {"image": Image(), "depth": Depth()}
        self._steps_per_meter = 1.0
        super().__init__(root, split, folders)

    def check(self, pairs: list[tuple[str, str]], problems: list[Problem]) -> None:
        if any(depth.lower().endswith(".png") for _, depth in pairs):
            try:
                self._steps_per_meter = 1 / _meters_per_step(self.root)
            except DatasetError as error:
                problems.append(error.problem)

    def read(self, index: int) -> Sample:
        file, stored = (self.root / name for name in self.files(index))
        image, depth = read_parts(partial(read_image, file), partial(self._depth, stored))
        require_same_size(image, depth, stored, "its image")
        return {"image": image, "depth": depth}

    def _depth(self, file: Path) -> np.ndarray:
        match file.suffix.lower():
            case ".png":
                return read_depth_png(file, self._steps_per_meter)
            case ".npy":
                return _float_meters(read_npy(file), file)
            case _:
                return _float_meters(read_pfm(file), file)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        root, count = Path(root), {split: 0 for split in cls.splits}
        for frame in range(200):
            name = f"room-{frame:03}"
            split = "test" if is_test_sample(name) else "train"
            if count[split] == 2:
                continue
            image, depth = fake_depth_sample(generator(0, 0, frame, Purpose.EXAMPLE), (48, 64), 1, 6)
            depth[:4, :4] = np.nan
            write_image(root / "images" / f"{name}.jpg", image)
            if count[split]:
                write_npy(root / "depths" / f"{name}.npy", depth)
            else:
                write_depth_png(root / "depths" / f"{name}.png", depth, 1000)
            count[split] += 1
        (root / UNIT_FILES[0]).write_text("0.001\n")


def _meters_per_step(root: Path) -> float:
    stored = next((root / name for name in UNIT_FILES if (root / name).is_file()), root / UNIT_FILES[0])
    expected = "the meters per step of the depth PNGs as one number, such as 0.001 for millimeters"
    words = " ".join(read_lines(stored, expected)).split()
    try:
        # "1 mm" is not one meter.
        meters = float(words[0]) if words[1:2] in ([], ["m"], ["meter"], ["meters"]) else 0.0
    except ValueError:
        meters = 0.0
    if not 0 < meters <= 1:
        raise DatasetError(stored, expected, f"'{' '.join(words)}'")
    return meters


def _float_meters(stored: np.ndarray, path: Path) -> np.ndarray:
    """Check and convert float depth to (H, W) float32 meters, nan where unknown."""
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.dtype.kind != "f":
        found = f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
        raise DatasetError(path, "float meters of shape HxW", found)
    invalid = np.isinf(stored) | (stored < 0)
    if invalid.any():
        found = f"{stored[invalid][0]:g} in {invalid.sum()} pixels"
        raise DatasetError(path, "depths above 0 m, 0 or nan where unknown", found)
    return np.where(stored == 0, np.nan, stored).astype(np.float32)
