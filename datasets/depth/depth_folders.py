"""Folders of images and depth maps: a layout for your own depth data (`depth-folders`)."""

from __future__ import annotations

from functools import partial
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import IMAGE_SUFFIXES, files_by_name, read_lines
from ..core.problems import DatasetError, Problem, read_parts, require_same_size
from ..core.randomness import Purpose, generator
from ..core.splits import empty_split, in_split, is_test_sample, read_split_list
from ..dataset import Dataset, Sample
from ..examples import fake_depth_sample
from ..field_types import Depth, Image
from ..formats.image import read_image, write_image
from ..formats.npy import read_npy, write_npy
from ..formats.pfm import read_pfm
from ..formats.png import read_depth_png, write_depth_png

DEPTH_SUFFIXES = frozenset({".png", ".npy", ".pfm"})
UNIT_FILES = ("depth_unit.txt", "unit.txt")


class DepthFolders(Dataset):
    """Image and depth in meters, paired by file name without suffix.

    The root contains `images/` and `depths/`, or `train/` and `test/` with these two; files may be in subfolders.
    Without `train/` and `test/`, one name in ten is a test sample, chosen by a hash of the name: the same names on
    every machine, and adding files does not move others. `train.txt` and `test.txt` in the root (names without suffix,
    one per line) override the hash.

    A depth map is a 16-bit PNG with its unit in `depth_unit.txt`, in meters per step (`0.001` for millimeters), or
    `.npy` or `.pfm` with float meters. 0 means unknown in all three, nan in the two float formats; inf and negative
    depths are refused, because they are usually mistakes.
    """

    title: ClassVar[str] = "Folders of images and depth maps"
    terms: ClassVar[str] = "license of your files"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth()}
        has_split_folders = any((self.root / name).is_dir() for name in self.splits)
        self._folder = self.root / split if has_split_folders else self.root
        problems: list[Problem] = []
        images, depths = (
            files_by_name(self._folder, folder, suffixes, problems, self.skipped)
            for folder, suffixes in (("images", IMAGE_SUFFIXES), ("depths", DEPTH_SUFFIXES))
        )
        for folder, files, suffixes in (("images", images, IMAGE_SUFFIXES), ("depths", depths, DEPTH_SUFFIXES)):
            if not files:
                expected = f"a folder of files {', '.join(sorted(suffixes))}"
                problems.append(Problem(str(self._folder / folder), expected, "none"))
        if not (images and depths):
            raise DatasetError.from_problems([*problems, *self.skipped])
        names = all_names = sorted(images.keys() | depths.keys())
        if not has_split_folders:
            stated = read_split_list(self.root, split, "a name per line", self.skipped)
            names = stated[1] if stated else list(compress(names, in_split(names, split)))
        if not names:
            problems.append(empty_split(self._folder, "images and depth maps", split, len(all_names)))
        # A name in one folder only remains in the table, so that reading it reports the missing file.
        self._images = np.array([images.get(name, f"images/{name}") for name in names], dtype=np.str_)
        self._depths = np.array([depths.get(name, f"depths/{name}") for name in names], dtype=np.str_)
        self._steps_per_meter = 1.0
        if any(depths.get(name, "").lower().endswith(".png") for name in names):
            try:
                self._steps_per_meter = 1 / _meters_per_step(self.root)
            except DatasetError as error:
                problems.append(error.problem)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def __len__(self) -> int:
        return len(self._images)

    def sample_name(self, index: int) -> str:
        return (self._folder / str(self._images[index])).relative_to(self.root).as_posix()

    def read(self, index: int) -> Sample:
        stored = self._folder / str(self._depths[index])
        file = self.root / self.sample_name(index)
        image, depth = read_parts(partial(read_image, file), partial(self._depth, stored, file))
        require_same_size(image, depth, stored, "its image")
        return {"image": image, "depth": depth}

    def _depth(self, file: Path, image: Path) -> np.ndarray:
        match file.suffix.lower():
            case ".png":
                return read_depth_png(file, self._steps_per_meter)
            case ".npy":
                return _float_meters(read_npy(file), file)
            case ".pfm":
                return _float_meters(read_pfm(file), file)
            case _:
                name = image.relative_to(self.root).as_posix()
                raise DatasetError(file, f"a depth map .png, .npy or .pfm for {name}", "none")

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
        meters = float(words[0])
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
