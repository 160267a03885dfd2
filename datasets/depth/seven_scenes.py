"""7-Scenes: seven small indoor scenes recorded with a Kinect (Shotton et al., CVPR 2013)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError, Problem, require_same_size
from ..core.randomness import Purpose, generator
from ..dataset import FileDataset, Sample
from ..examples import fake_depth_sample
from ..field_types import Camera, Depth, Image
from ..formats.image import read_image, write_image
from ..formats.png import read_depth_png, write_depth_png

FOCAL_PX = 585.0
"""Focal length for images 640 pixels wide, with the principal point at (320, 240), from the page of the dataset."""

INVALID = (0, 65535)
SEQUENCE_LISTS = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
FRAME_LISTS = {"train": "split_train.txt", "test": "split_test.txt"}


class SevenScenes(FileDataset):
    """Image, Kinect depth in meters and camera matrix, by the official sequences.

    The root is the folder of all scenes or of one. A scene contains `seq-XX/frame-NNNNNN.{color.png, depth.png,
    pose.txt}` and either `TrainSplit.txt` and `TestSplit.txt` with lines like `sequence1` (official) or
    `split_train.txt` and `split_test.txt` with a frame per line, `seq-01/frame-000000`. Color may be JPEG.
    Depth is 16-bit millimeters; 65535 and 0 mean that nothing was measured. Color and depth of the official dataset are
    not registered: edges are some pixels apart. `camera-intrinsics.txt` of a scene (3x3, pixels of its images)
    replaces the default camera. Poses are not read: there is no field type for them yet.
    """

    title: ClassVar[str] = "7-Scenes"
    terms: ClassVar[str] = "Microsoft Research license, non-commercial: research-only"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth(), "camera": Camera()}
        problems: list[Problem] = []
        images: list[str] = []
        for scene in _scenes(self.root):
            try:
                images += _images_of(self.root, scene, split, problems)
            except DatasetError as error:
                problems.append(error.problem)
        self.set_files([(image,) for image in images], problems)

    def read(self, index: int) -> Sample:
        image_path = self.root / self.sample_name(index)
        image = read_image(image_path)
        stored = image_path.with_name(f"{_frame(image_path.name)}.depth.png")
        depth = read_depth_png(stored, 1000, INVALID)
        require_same_size(image, depth, stored, "its image")
        return {"image": image, "depth": depth, "camera": _camera(image_path.parent.parent, image.shape[1])}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for scene_number, scene in enumerate(("chess", "fire")):
            for split, sequence in (("train", 1), ("test", 2)):
                folder = Path(root) / scene / f"seq-{sequence:02}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder.parent / SEQUENCE_LISTS[split]).write_text(f"sequence{sequence}\r\n")
                for frame in range(2):
                    rng = generator(0, scene_number * 2 + sequence, frame, Purpose.EXAMPLE)
                    image, depth = fake_depth_sample(rng, (48, 64), 0.8, 4)
                    depth[:, 0], depth[0, :8] = np.nan, np.nan
                    name = f"frame-{frame:06}"
                    write_image(folder / f"{name}.color.png", image)
                    write_depth_png(folder / f"{name}.depth.png", depth, 1000, invalid=65535)
                    np.savetxt(folder / f"{name}.pose.txt", np.eye(4), fmt="%.7e", delimiter="\t")


def _scenes(root: Path) -> list[Path]:
    lists = {*SEQUENCE_LISTS.values(), *FRAME_LISTS.values()}
    candidates = [root, *sorted(folder for folder in root.glob("*") if folder.is_dir())]
    scenes = [folder for folder in candidates if any((folder / name).is_file() for name in lists)]
    if not scenes:
        raise DatasetError(root, "a scene or a folder of scenes, each with TrainSplit.txt and TestSplit.txt", "none")
    return scenes


def _images_of(root: Path, scene: Path, split: str, problems: list[Problem]) -> list[str]:
    """Color files of one scene, relative to the root, in the order of its list."""
    list_file = scene / FRAME_LISTS[split]
    if list_file.is_file():
        lines = read_lines(list_file, "lines like 'seq-01/frame-000000'")
        suffixes = {folder: _color_suffixes(scene / folder) for folder in {line.rpartition("/")[0] for line in lines}}
        frames = [(line, suffixes[line.rpartition("/")[0]].get(line.rpartition("/")[2], "png")) for line in lines]
    else:
        frames = []
        official = scene / SEQUENCE_LISTS[split]
        for line in read_lines(official, "lines like 'sequence1'"):
            number = re.fullmatch(r"sequence\s*(\d{1,4})", line)
            if number is None:
                problems.append(Problem(str(official), "lines like 'sequence1'", f"'{line}'"))
                continue
            folder = f"seq-{int(number[1]):02}"
            sequence = _color_suffixes(scene / folder)
            if not sequence:
                problems.append(Problem(str(scene / folder), f"the frames that {official.name} lists", "none"))
            frames += [(f"{folder}/{frame}", sequence[frame]) for frame in sorted(sequence)]
    prefix = scene.relative_to(root).as_posix()
    return [f"{'' if prefix == '.' else prefix + '/'}{frame}.color.{suffix}" for frame, suffix in frames]


def _color_suffixes(folder: Path) -> dict[str, str]:
    """Frames of a sequence, with the suffix of the color file.

    A frame counts if any of its files exists, so that reading it can report the missing one.
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
    """Intrinsic matrix of a scene, (3, 3) float64 pixels, for images of this width."""
    stored = scene / "camera-intrinsics.txt"
    if not stored.is_file():
        scale = width / 640
        return np.array([[FOCAL_PX * scale, 0, 320 * scale], [0, FOCAL_PX * scale, 240 * scale], [0, 0, 1]])
    rows = [line.split() for line in read_lines(stored, "a 3x3 matrix")]
    try:
        camera = np.array(rows, dtype=np.float64)
    except ValueError:
        camera = np.empty(0)
    if camera.shape != (3, 3) or not np.isfinite(camera).all():
        raise DatasetError(stored, "a 3x3 matrix of numbers", f"{len(rows)} rows like '{' '.join(rows[0])}'")
    return camera
