"""Anyone's own pictures and depth maps, in two folders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Dataset, Sample, problems_of
from .depth_maps import read_depth_png, require_same_size, slanted_floor, write_depth_png
from .fields import Depth, Image
from .formats.npy import read_npy, write_npy
from .formats.pfm import read_pfm
from .formats.picture import read_picture, write_picture
from .formats.reading import read_lines
from .problems import DamagedData, Problem
from .randomness import Purpose, generator

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp"})
DEPTH_SUFFIXES = frozenset({".png", ".npy", ".pfm"})
UNIT_FILES = ("depth_unit.txt", "unit.txt")
TEST_SHARE = 10
"""One name in this many is held back for testing where nothing else says what is."""


class DepthFolders(Dataset):
    """Picture and depth in metres, paired by the file's name without its suffix.

    The root holds `images/` and `depths/`, or `train/` and `test/` that each hold these two; names may lie in
    subfolders. Without `train/` and `test/` one name in ten is held back for testing, chosen by a hash of the name: the
    same names on every machine, and adding files moves no other file. `train.txt` and `test.txt` (names without
    suffix, one a line) in the root overrule the hash.

    A depth map is a 16-bit PNG whose unit stands in `depth_unit.txt`, in metres per step (`0.001` for millimetres),
    or `.npy` or `.pfm` with float metres. 0 means unknown in all three, nan in the two of floats; inf and negative
    depths are refused, because they are more often a mistake than a meaning.
    """

    title: ClassVar[str] = "Folders of pictures and depth maps"
    terms: ClassVar[str] = "whatever holds for your files"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth()}
        divided = [name for name in self.splits if (self.root / name).is_dir()]
        self._folder = self.root / split if divided else self.root
        problems: list[Problem] = []
        pictures = _files(self._folder / "images", PICTURE_SUFFIXES, problems)
        depths = _files(self._folder / "depths", DEPTH_SUFFIXES, problems)
        if not (pictures and depths):
            raise DamagedData.of(problems)
        names = sorted(pictures.keys() | depths.keys())
        if not divided:
            names = _names_of_split(self.root, split, names)
        if not names:
            problems.append(Problem(str(self._folder), f"pictures and depth maps for '{split}'", "none"))
        # A name on one side alone stays in the table, so that reading it says which file is missing.
        self._pictures = np.array([pictures.get(name, f"images/{name}") for name in names], dtype=np.str_)
        self._depths = np.array([depths.get(name, f"depths/{name}") for name in names], dtype=np.str_)
        self._steps_per_metre = 1.0
        if any(depths.get(name, "").lower().endswith(".png") for name in names):
            try:
                self._steps_per_metre = 1 / _metres_per_step(self.root)
            except DamagedData as damaged:
                problems.append(damaged.problem)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def __len__(self) -> int:
        return len(self._pictures)

    def label(self, index: int) -> str:
        return (self._folder / str(self._pictures[index])).relative_to(self.root).as_posix()

    def read(self, index: int) -> Sample:
        image = read_picture(self.root / self.label(index))
        stored = self._folder / str(self._depths[index])
        suffix = stored.suffix.lower()
        if suffix not in DEPTH_SUFFIXES:
            raise DamagedData(stored, f"a depth map .png, .npy or .pfm for {self.label(index)}", "none")
        if suffix == ".png":
            depth = read_depth_png(stored, self._steps_per_metre)
        else:
            depth = _float_metres(read_npy(stored) if suffix == ".npy" else read_pfm(stored), stored)
        require_same_size(image, depth, stored)
        return {"image": image, "depth": depth}

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        root, taken = Path(root), {split: 0 for split in cls.splits}
        for frame in range(200):
            name = f"room-{frame:03}"
            split = "test" if held_back(name) else "train"
            if taken[split] == 2:
                continue
            image, depth = slanted_floor(generator(0, 0, frame, Purpose.MINIATURE), (48, 64), 1, 6)
            depth[:4, :4] = np.nan
            write_picture(root / "images" / f"{name}.jpg", image)
            if taken[split]:
                write_npy(root / "depths" / f"{name}.npy", depth)
            else:
                write_depth_png(root / "depths" / f"{name}.png", depth, 1000)
            taken[split] += 1
        (root / UNIT_FILES[0]).write_text("0.001\n")


def _files(folder: Path, suffixes: frozenset[str], problems: list[Problem]) -> dict[str, str]:
    """From each name, relative and without suffix, to its file, relative to the folder's parent."""
    files: dict[str, str] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in suffixes:
            inside = file.relative_to(folder)
            name = inside.with_suffix("").as_posix()
            if name in files:
                problems.append(Problem(str(file), "one file of each name", f"also '{files[name]}'"))
            files[name] = f"{folder.name}/{inside.as_posix()}"
    if not files:
        problems.append(Problem(str(folder), f"a folder of files {', '.join(sorted(suffixes))}", "none"))
    return files


def held_back(name: str) -> bool:
    # Python's own hash() changes from process to process.
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % TEST_SHARE == 0


def _names_of_split(root: Path, split: str, names: list[str]) -> list[str]:
    listed = root / f"{split}.txt"
    if listed.is_file():
        return read_lines(listed, "a name per line")
    return [name for name in names if held_back(name) == (split == "test")]


def _metres_per_step(root: Path) -> float:
    stored = next((root / name for name in UNIT_FILES if (root / name).is_file()), root / UNIT_FILES[0])
    expected = "the metres per step of the depth PNGs in one number, such as 0.001 for millimetres"
    words = " ".join(read_lines(stored, expected)).split()
    try:
        metres = float(words[0])
    except ValueError:
        metres = 0.0
    if not 0 < metres <= 1:
        raise DamagedData(stored, expected, f"'{' '.join(words)}'")
    return metres


def _float_metres(stored: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) float32 metres, nan where unknown."""
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.dtype.kind != "f":
        found = f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
        raise DamagedData(path, "float metres of shape HxW", found)
    odd = np.isinf(stored) | (stored < 0)
    if odd.any():
        found = f"{stored[odd][0]:g} in {odd.sum()} pixels"
        raise DamagedData(path, "depths above 0 m, 0 or nan where unknown", found)
    return np.where(stored == 0, np.nan, stored).astype(np.float32)
