"""Folders of images and depth maps: a layout for your own depth data (`depth-folders`)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Dataset, Sample, validate_all
from .depth_maps import fake_depth_sample, read_depth_png, require_same_size, write_depth_png
from .field_types import Depth, Image
from .formats.image import read_image, write_image
from .formats.npy import read_npy, write_npy
from .formats.pfm import read_pfm
from .formats.reading import read_lines
from .problems import DatasetError, Problem
from .randomness import Purpose, generator

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp"})
DEPTH_SUFFIXES = frozenset({".png", ".npy", ".pfm"})
UNIT_FILES = ("depth_unit.txt", "unit.txt")
TEST_SHARE = 10
"""One name in this many is a test sample, if neither folders nor lists define the splits."""


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
        images = _files_by_name(self._folder / "images", IMAGE_SUFFIXES, problems)
        depths = _files_by_name(self._folder / "depths", DEPTH_SUFFIXES, problems)
        if not (images and depths):
            raise DatasetError.from_problems(problems)
        names = sorted(images.keys() | depths.keys())
        if not has_split_folders:
            names = _names_of_split(self.root, split, names)
        if not names:
            problems.append(Problem(str(self._folder), f"images and depth maps for '{split}'", "none"))
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
        image = read_image(self.root / self.sample_name(index))
        stored = self._folder / str(self._depths[index])
        suffix = stored.suffix.lower()
        if suffix not in DEPTH_SUFFIXES:
            raise DatasetError(stored, f"a depth map .png, .npy or .pfm for {self.sample_name(index)}", "none")
        if suffix == ".png":
            depth = read_depth_png(stored, self._steps_per_meter)
        else:
            depth = _float_meters(read_npy(stored) if suffix == ".npy" else read_pfm(stored), stored)
        require_same_size(image, depth, stored)
        return {"image": image, "depth": depth}

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        return validate_all(cls, root)

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


def _files_by_name(folder: Path, suffixes: frozenset[str], problems: list[Problem]) -> dict[str, str]:
    """Relative name without suffix to file, relative to the parent of the folder; missing or double names: problems."""
    files: dict[str, str] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in suffixes:
            relative = file.relative_to(folder)
            name = relative.with_suffix("").as_posix()
            if name in files:
                problems.append(Problem(str(file), "one file of each name", f"also '{files[name]}'"))
            files[name] = f"{folder.name}/{relative.as_posix()}"
    if not files:
        problems.append(Problem(str(folder), f"a folder of files {', '.join(sorted(suffixes))}", "none"))
    return files


def is_test_sample(name: str) -> bool:
    """Whether a name belongs to the test split, by its hash: one in `TEST_SHARE`."""
    # hash() of Python changes from process to process.
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % TEST_SHARE == 0


def _names_of_split(root: Path, split: str, names: list[str]) -> list[str]:
    list_file = root / f"{split}.txt"
    if list_file.is_file():
        return read_lines(list_file, "a name per line")
    return [name for name in names if is_test_sample(name) == (split == "test")]


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
