"""NYU Depth v2: indoor scenes recorded with a Kinect (Silberman, Hoiem, Kohli, Fergus, ECCV 2012), in two layouts.

`NYUDepth` reads the labeled part, one MATLAB file; `NYURaw` reads the frames of the raw videos that BTS (Lee et al.,
2019, arXiv:1907.10326) lists and most later papers train on. Both have the same 654 test frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError, Problem, require_same_size
from ..core.randomness import Purpose, generator
from ..dataset import Dataset, FileDataset, Sample
from ..examples import fake_depth_sample
from ..field_types import Camera, Depth, Image
from ..formats.image import read_image, write_image
from ..formats.mat import Mat73, read_mat, write_mat, write_mat73
from ..formats.png import read_depth_png, write_depth_png

SIZE = (480, 640)

KINECT_CAMERA = np.array([[518.8579, 0, 324.5824], [0, 519.4696, 252.7362], [0, 0, 1]])
"""Intrinsic matrix of the color camera from camera_params.m of the toolbox, where the first pixel is (1, 1); here it is
(0, 0)."""

KINDS = {"u": "unsigned integers", "f": "floats"}
LABELED = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
SPLIT_VARIABLES = {"train": "trainNdxs", "test": "testNdxs"}
OFFICIAL_COUNTS = {"train": 795, "test": 654}

RAW_LISTS = {"train": "nyudepthv2_train_files_with_gt.txt", "test": "nyudepthv2_test_files_with_gt.txt"}


class NYUDepth(Dataset):
    """The 1449 labeled frames: image, depth in meters, camera matrix; 795 training and 654 test samples.

    The root contains two files: `nyu_depth_v2_labeled.mat` (2.8 GB, MATLAB v7.3) and `splits.mat`. Frames are read one
    by one; each worker opens the file itself.

    Args:
        root: the folder of the two files.
        split: "train" or "test".
        depths: "depths", the in-painted dense maps that papers report on, or "rawDepths", with nan where nothing was
            measured.
    """

    title: ClassVar[str] = "NYU Depth v2 (labeled)"
    default_protocol: ClassVar[str] = "nyu-laina"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"

    def __init__(self, root: str | Path, split: str = "train", depths: str = "depths") -> None:
        super().__init__(root, split)
        if depths not in ("depths", "rawDepths"):
            raise ValueError(f"NYU Depth v2 contains 'depths' and 'rawDepths', not '{depths}'.")
        self.fields = {"image": Image(), "depth": Depth(), "camera": Camera()}
        self.depths = depths
        self._file = Mat73(self.root / LABELED)
        self._indices = self._official_indices()
        self._file.close()

    def _official_indices(self) -> np.ndarray:
        frames = (self._file.shape(self.depths) or (0,))[-1]
        for name, shape, kind in (("images", (*SIZE, 3, frames), "u"), (self.depths, (*SIZE, frames), "f")):
            if self._file.shape(name) != shape:
                expected = f"'{name}' of MATLAB size {'x'.join(map(str, shape))}"
                raise DatasetError(self._file.path, expected, "x".join(map(str, self._file.shape(name))))
            if self._file.kind(name) != kind:
                raise DatasetError(self._file.path, f"{KINDS[kind]} in '{name}'", f"'{self._file.kind(name)}'")
        splits = self.root / SPLITS
        variables = read_mat(splits)
        lists = {}
        for split, name in SPLIT_VARIABLES.items():
            if name not in variables:
                raise DatasetError(splits, f"a variable '{name}'", f"only {', '.join(variables) or 'nothing'}")
            # MATLAB counts from 1.
            if variables[name].dtype.kind not in "iuf" or not np.isfinite(variables[name]).all():
                raise DatasetError(splits, f"frame numbers in '{name}'", f"{variables[name].dtype}")
            lists[split] = variables[name].ravel().astype(np.int64) - 1
        numbers = np.concatenate(list(lists.values()))
        if numbers.size == 0 or numbers.min() < 0 or numbers.max() >= frames:
            found = f"numbers from {numbers.min() + 1} to {numbers.max() + 1}" if numbers.size else "none"
            raise DatasetError(splits, f"frame numbers from 1 to {frames}", found)
        if np.unique(numbers).size != numbers.size:
            raise DatasetError(splits, "training and test frames that are all different", "repeated frames")
        if frames == sum(OFFICIAL_COUNTS.values()):
            for split, count in OFFICIAL_COUNTS.items():
                if lists[split].size != count:
                    raise DatasetError(splits, f"{count} frames in '{SPLIT_VARIABLES[split]}'", f"{lists[split].size}")
        return lists[self.split]

    def __len__(self) -> int:
        return len(self._indices)

    def sample_name(self, index: int) -> str:
        return f"{LABELED}/{self._indices[index] + 1:04}"

    def read(self, index: int) -> Sample:
        frame = int(self._indices[index])
        depth = self._file.read(self.depths, frame).astype(np.float32)
        if self.depths == "rawDepths":
            depth[depth == 0] = np.nan
        return {"image": self._file.read("images", frame), "depth": depth, "camera": KINECT_CAMERA.copy()}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        frames = [fake_depth_sample(generator(0, 0, frame, Purpose.EXAMPLE), SIZE, 1, 9) for frame in range(4)]
        images, depths = np.stack([image for image, _ in frames], -1), np.stack([depth for _, depth in frames], -1)
        raw = depths.copy()
        raw[:, :8] = 0
        scenes = [f"kitchen_{frame:04}" for frame in range(4)]
        write_mat73(Path(root) / LABELED, {"images": images, "depths": depths, "rawDepths": raw, "scenes": scenes})
        numbers = {"trainNdxs": np.array([[4], [1]], np.uint16), "testNdxs": np.array([[2], [3]], np.uint16)}
        write_mat(Path(root) / SPLITS, numbers)


class NYURaw(FileDataset):
    """Frames of the raw videos, by the lists of BTS: image, depth in meters (nan where not measured), camera matrix.

    The root contains `nyudepthv2_train_files_with_gt.txt` (24,231 lines in full), `nyudepthv2_test_files_with_gt.txt`
    (654), each line `rgb depth focal`, and the folders of the scenes. Leading slashes of the paths (training list) are
    removed. Files are looked up under the root, else under `sync/` (training) and `official_splits/test/` of BTS.
    Depth is 16-bit millimeters, 0 where nothing was measured.
    """

    title: ClassVar[str] = "NYU Depth v2 (raw frames, BTS lists)"
    default_protocol: ClassVar[str] = "nyu-eigen-bts"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth(), "camera": Camera()}
        rows, problems = read_bts_list(self.root / RAW_LISTS[split])
        self._focals = np.array([focal for _, _, focal in rows], dtype=np.float64)
        self._folder = self.root
        for folder in ("sync", "official_splits/test"):
            if rows and not (self.root / rows[0][0]).exists() and (self.root / folder / rows[0][0]).exists():
                self._folder = self.root / folder
        self.set_files([(image, depth) for image, depth, _ in rows], problems)

    def read(self, index: int) -> Sample:
        file, stored = (self._folder / name for name in self.files(index))
        image = read_image(file)
        depth = read_depth_png(stored, 1000)
        require_same_size(image, depth, stored, "its image")
        camera = KINECT_CAMERA.copy()
        camera[(0, 1), (0, 1)] *= self._focals[index] / KINECT_CAMERA[0, 0]
        return {"image": image, "depth": depth, "camera": camera}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for split, slash in (("train", "/"), ("test", "")):
            lines = []
            for frame in range(2):
                rng = generator(0, len(split), frame, Purpose.EXAMPLE)
                image, depth = fake_depth_sample(rng, (48, 64), 0.8, 9)
                depth[:, :3] = np.nan
                image_path, stored = f"{split}_kitchen/rgb_{frame:05}.jpg", f"{split}_kitchen/sync_depth_{frame:05}.png"
                write_image(Path(root) / image_path, image)
                write_depth_png(Path(root) / stored, depth, 1000)
                lines.append(f"{slash}{image_path} {slash}{stored} 518.8579\n")
            (Path(root) / RAW_LISTS[split]).write_text("".join(lines))


def read_bts_list(path: Path) -> tuple[list[tuple[str, str, float]], list[Problem]]:
    """Read a list of BTS, with lines `image depth focal`; leading slashes of the paths are removed.

    Raises:
        DatasetError: the list is missing or empty.
    """
    rows, problems = [], []
    for number, line in enumerate(read_lines(path, "a list with lines 'image depth focal'"), start=1):
        words = line.split()
        try:
            image, depth, focal = words
            # os.path.join(root, "/a") would drop the root.
            rows.append((image.lstrip("/"), depth.lstrip("/"), float(focal)))
            if not 0 < rows[-1][2] < math.inf:
                raise ValueError(f"the focal length {rows.pop()[2]}")
        except ValueError:
            problems.append(Problem(f"{path} line {number}", "'image depth focal'", f"'{line}'"))
    return rows, problems
