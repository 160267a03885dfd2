"""7-Scenes: seven small indoor scenes filmed with a Kinect (Shotton et al., CVPR 2013)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Dataset, Sample, problems_of
from .depth_maps import read_depth_png, require_same_size, slanted_floor, write_depth_png
from .fields import Camera, Depth, Image
from .formats.picture import read_picture, write_picture
from .formats.reading import read_lines
from .problems import DamagedData, Problem
from .randomness import Purpose, generator

FOCAL_PX = 585.0
"""Of the 640 pixels wide picture, with the centre at (320, 240), as the set's page states it."""

INVALID = (0, 65535)
SEQUENCE_LISTS = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
FRAME_LISTS = {"train": "split_train.txt", "test": "split_test.txt"}


class SevenScenes(Dataset):
    """Picture, Kinect depth in metres and camera matrix, by the official sequences.

    The root is the folder of all scenes or one scene's. A scene holds `seq-XX/frame-NNNNNN.{color.png, depth.png,
    pose.txt}` and either `TrainSplit.txt` and `TestSplit.txt` with lines like `sequence1` (official) or
    `split_train.txt` and `split_test.txt` with a frame per line, `seq-01/frame-000000`. Colour may be JPEG.
    Depth is 16-bit millimetres; 65535 and 0 mean that nothing was measured. The official set does not register
    colour to depth: edges are some pixels apart. A scene's `camera-intrinsics.txt` (3x3, pixels of its pictures)
    replaces the default camera. Poses are not read: no kind of field holds them yet.
    """

    title: ClassVar[str] = "7-Scenes"
    terms: ClassVar[str] = "Microsoft Research licence, non-commercial: research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth(), "camera": Camera()}
        problems: list[Problem] = []
        pictures: list[str] = []
        for scene in _scenes(self.root):
            try:
                pictures += _pictures_of(self.root, scene, split, problems)
            except DamagedData as damaged:
                problems.append(damaged.problem)
        self._pictures = np.array(pictures, dtype=np.str_)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def __len__(self) -> int:
        return len(self._pictures)

    def label(self, index: int) -> str:
        return str(self._pictures[index])

    def read(self, index: int) -> Sample:
        picture = self.root / self.label(index)
        image = read_picture(picture)
        stored = picture.with_name(f"{_frame(picture.name)}.depth.png")
        depth = read_depth_png(stored, 1000, INVALID)
        require_same_size(image, depth, stored)
        return {"image": image, "depth": depth, "camera": _camera(picture.parent.parent, image.shape[1])}

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for scene_number, scene in enumerate(("chess", "fire")):
            for split, sequence in (("train", 1), ("test", 2)):
                folder = Path(root) / scene / f"seq-{sequence:02}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder.parent / SEQUENCE_LISTS[split]).write_text(f"sequence{sequence}\r\n")
                for frame in range(2):
                    rng = generator(0, scene_number * 2 + sequence, frame, Purpose.MINIATURE)
                    image, depth = slanted_floor(rng, (48, 64), 0.8, 4)
                    depth[:, 0], depth[0, :8] = np.nan, np.nan
                    name = f"frame-{frame:06}"
                    write_picture(folder / f"{name}.color.png", image)
                    write_depth_png(folder / f"{name}.depth.png", depth, 1000, invalid=65535)
                    np.savetxt(folder / f"{name}.pose.txt", np.eye(4), fmt="%.7e", delimiter="\t")


def _scenes(root: Path) -> list[Path]:
    lists = {*SEQUENCE_LISTS.values(), *FRAME_LISTS.values()}
    candidates = [root, *sorted(folder for folder in root.glob("*") if folder.is_dir())]
    scenes = [folder for folder in candidates if any((folder / name).is_file() for name in lists)]
    if not scenes:
        raise DamagedData(root, "a scene or a folder of scenes, each with TrainSplit.txt and TestSplit.txt", "none")
    return scenes


def _pictures_of(root: Path, scene: Path, split: str, problems: list[Problem]) -> list[str]:
    """The colour files of one scene, relative to the root, in the order of its list."""
    listed = scene / FRAME_LISTS[split]
    if listed.is_file():
        frames = read_lines(listed, "lines like 'seq-01/frame-000000'")
        inside = {folder: _frames_in(scene / folder) for folder in {line.rpartition("/")[0] for line in frames}}
        found = [(line, inside[line.rpartition("/")[0]].get(line.rpartition("/")[2], "png")) for line in frames]
    else:
        found = []
        official = scene / SEQUENCE_LISTS[split]
        for line in read_lines(official, "lines like 'sequence1'"):
            number = re.fullmatch(r"sequence\s*(\d+)", line)
            if number is None:
                problems.append(Problem(str(official), "lines like 'sequence1'", f"'{line}'"))
                continue
            folder = f"seq-{int(number[1]):02}"
            inside = _frames_in(scene / folder)
            if not inside:
                problems.append(Problem(str(scene / folder), f"the frames that {official.name} lists", "none"))
            found += [(f"{folder}/{frame}", inside[frame]) for frame in sorted(inside)]
    prefix = scene.relative_to(root).as_posix()
    return [f"{'' if prefix == '.' else prefix + '/'}{frame}.color.{suffix}" for frame, suffix in found]


def _frames_in(folder: Path) -> dict[str, str]:
    """Every frame of a sequence and its colour file's suffix.

    A frame counts if any of its files is there, so that reading it can name the one that is not.
    """
    frames: dict[str, str] = {}
    for file in folder.glob("frame-*"):
        frame = _frame(file.name)
        frames.setdefault(frame, "png")
        if file.name == f"{frame}.color.jpg":
            frames[frame] = "jpg"
    return frames


def _frame(name: str) -> str:
    return name.partition(".")[0]


def _camera(scene: Path, width: int) -> np.ndarray:
    """(3, 3) float64 pixels."""
    stored = scene / "camera-intrinsics.txt"
    if not stored.is_file():
        scale = width / 640
        return np.array([[FOCAL_PX * scale, 0, 320 * scale], [0, FOCAL_PX * scale, 240 * scale], [0, 0, 1]])
    rows = [line.split() for line in read_lines(stored, "a 3x3 matrix")]
    try:
        camera = np.array(rows, dtype=np.float64)
    except ValueError:
        camera = np.empty(0)
    if camera.shape != (3, 3):
        raise DamagedData(stored, "a 3x3 matrix of numbers", f"{len(rows)} rows like '{' '.join(rows[0])}'")
    return camera
