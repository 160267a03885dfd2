"""MPII Human Pose: people in 410 activities, in video frames (Andriluka, Pishchulin, Gehler, Schiele, CVPR 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError, Problem
from ..core.splits import is_test_sample
from ..examples import fake_people
from ..field_types import Box, Image, Keypoints
from ..formats.image import write_image
from ..formats.mat import read_mat, write_mat
from ..stored_images import Files
from . import skeletons
from .people import People

FILE = "mpii_human_pose_v1_u12_1.mat"
CANDIDATE_PATHS = (FILE, f"mpii_human_pose_v1_u12_2/{FILE}")
VALIDATION_LIST = "val.txt"

SCALE_PX = 200
"""Height of a person at scale 1, in pixels."""
CENTER_SHIFT_PX = 15
"""Pixels at scale 1 by which Xiao et al. 2018 move the stated center down, so that less of the feet is cropped."""

JOINTS = len(skeletons.MPII.names)
HEAD = ("x1", "y1", "x2", "y2")
EMPTY = np.zeros((0, 0))
"""MATLAB's `[]`."""


class MPII(People):
    """About 25,000 people with joints, each cropped from a frame by the stated center and scale.

    The root contains `images/NAME.jpg` and the annotations, `mpii_human_pose_v1_u12_1.mat` or the folder
    `mpii_human_pose_v1_u12_2/` with it (as distributed). The joints of the official test frames are not published, so
    both splits are from the training frames: `val.txt` in the root lists the frames of `val`, one per line; without it,
    one frame in ten, by a hash of its name. Papers report on a list of 2,958 people: scores are comparable only with
    the frames of that list.

    People without joints, center, scale or head box are omitted. The flag of a joint is occluded if `is_visible` is 0,
    visible if it is 1 or empty (as for most heads), unlabeled if the joint is absent. Pixels are counted from 1 in the
    file, from 0 in samples. `box` is the square of 200 px times the scale around the shifted center; with the margin,
    it is the crop of Xiao et al. 2018 (arXiv:1804.06208). `head` is the box that PCKh is relative to.
    """

    title: ClassVar[str] = "MPII Human Pose"
    default_protocol: ClassVar[str] = "pckh"
    terms: ClassVar[str] = "annotations BSD, frames of other people's videos: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "joints": Keypoints(skeletons.MPII), "box": Box(), "head": Box()}
        problems: list[Problem] = []
        file = next((self.root / path for path in CANDIDATE_PATHS if (self.root / path).is_file()), self.root / FILE)
        frames = _frames(file)
        validation = self._validation_frames([name for name, _ in frames], problems)
        names, image_of, people = [], [], []
        for name, stored in frames:
            if (name in validation) != (split == "val"):
                continue
            try:
                people_in_frame = list(_people(stored))
            except (KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
                problems.append(Problem(f"{file} {name}", "people with joints, center, scale and head", f"{error}"))
                continue
            image_of += [len(names)] * len(people_in_frame)
            people += people_in_frame
            names += [f"images/{name}"] * bool(people_in_frame)
        if not (people or problems):
            problems.append(Problem(str(file), f"people for '{split}'", "none"))
        self._images = Files(self.root, names)
        self._image_of = np.array(image_of, np.int64)
        shapes = {"joints": (JOINTS, 3), "box": (4,), "head": (4,)}
        self._values = {
            name: np.array([person[name] for person in people]).reshape(-1, *shape) for name, shape in shapes.items()
        }
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def _validation_frames(self, names: list[str], problems: list[Problem]) -> set[str]:
        """Names of the frames of `val`."""
        list_file = self.root / VALIDATION_LIST
        if not list_file.is_file():
            return {name for name in names if is_test_sample(Path(name).stem)}
        name_of = {Path(name).stem: name for name in names}
        stems = [line.removesuffix(".jpg") for line in read_lines(list_file, "the name of a frame per line")]
        problems += [
            Problem(str(list_file), "names of training frames", f"'{stem}'") for stem in stems if stem not in name_of
        ]
        return {name_of[stem] for stem in stems if stem in name_of}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        frames: list[tuple[str, bool, list[dict[str, Any]]]] = []
        for number in range(6):
            image, joints = fake_people(number, skeletons.MPII.names, people=2)
            name, trains = f"{15601864 + number:09}.jpg", number < 5
            if trains:
                write_image(Path(root) / "images" / name, image)
            position = {"scale": 0.4, "objpos": structures([{"x": 37.0, "y": 39.0}])}
            visible = ["1", "0", 1, 0, *["1"] * 4, EMPTY, EMPTY, *["1"] * 5, None]
            head = {"x1": 31.0, "y1": 10.0, "x2": 43.0, "y2": 21.0}
            # The second person has a head box only, as people in the background of MPII.
            labeled = head | position | {"annopoints": example_points(joints[0], visible)}
            frames.append((name, trains, [labeled, head] * trains))
        (Path(root) / VALIDATION_LIST).write_text(Path(frames[3][0]).stem + "\n")
        write_mat(Path(root) / FILE, {"RELEASE": example_release(frames)})


def _frames(file: Path) -> list[tuple[str, np.ndarray]]:
    """Names of the training frames, and their annotations."""
    expected = "'RELEASE' with 'annolist' and 'img_train' of one length"
    stored = read_mat(file).get("RELEASE")
    try:
        assert stored is not None
        frames, trains = stored[0, 0]["annolist"].ravel(), stored[0, 0]["img_train"].ravel()
        return [
            (str(frame["image"][0, 0]["name"].item()), frame["annorect"])
            for frame, train in zip(frames, trains, strict=True)
            if train
        ]
    except (AssertionError, IndexError, KeyError, ValueError, TypeError, AttributeError):
        raise DatasetError(file, expected, "another structure" if stored is not None else "none") from None


def _people(annotations: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """`joints`, `box` and `head` of the people of a frame with all annotations, in its pixels counted from 0."""
    for stored in annotations.ravel() if annotations.dtype.names else ():
        points, center = _structure(stored, "annopoints"), _structure(stored, "objpos")
        scale, *head = (_number(stored, name) for name in ("scale", *HEAD))
        if points is None or center is None or scale is None or None in head:
            continue
        joints = np.zeros((JOINTS, 3), np.float32)
        for point in points["point"].ravel():
            # The first pixel of MATLAB is (1, 1).
            flag = 1 if _number(point, "is_visible") == 0 else 2
            if not 0 <= (number := int(point["id"].item())) < JOINTS:
                raise ValueError(f"a joint with the id {number}")
            joints[number] = point["x"].item() - 1, point["y"].item() - 1, flag
        if (joints[:, 2] > 0).any():
            shifted = np.array([center["x"].item(), center["y"].item() + CENTER_SHIFT_PX * scale]) - 1
            half = (SCALE_PX * scale - 1) / 2
            box = np.concatenate([shifted - half, shifted + half])
            if not (np.isfinite(box).all() and np.isfinite(joints).all() and scale > 0):
                raise ValueError("a center, scale or joint that is not finite")
            yield {"joints": joints, "box": box, "head": np.array(head, np.float64) - 1}


def _structure(stored: np.void, name: str) -> np.void | None:
    """A structure in a field of a structure, or None.

    A field that only some structures of an array have is an empty array in the others; a field that none has is absent.
    """
    value = stored[name] if name in (stored.dtype.names or ()) else np.empty(0)
    return value.ravel()[0] if value.size and value.dtype.names else None


def _number(stored: np.void, name: str) -> float | None:
    """A number (possibly stored as text) in a field of a structure, or None."""
    value = stored[name] if name in (stored.dtype.names or ()) else np.empty(0)
    return float(value.item()) if value.size else None


def example_release(frames: Sequence[tuple[str, bool, Sequence[dict[str, Any]]]]) -> np.ndarray:
    """Build the structure `RELEASE`, for example datasets.

    A frame is its name, whether it is for training, and the fields of its people; missing fields are stored empty.
    """
    annolist = [
        {"image": structures([{"name": name}]), "annorect": structures(people) if people else EMPTY}
        for name, _, people in frames
    ]
    trains = np.array([[train for _, train, _ in frames]], np.uint8)
    return structures([{"annolist": structures(annolist), "img_train": trains, "version": "12"}])


def example_points(joints: np.ndarray, visible: Sequence[Any]) -> np.ndarray:
    """Build the structure `annopoints` of joints (16, 2), x and y in pixels counted from 0.

    `visible` are the values of `is_visible`; None if the joint is absent.
    """
    stored = [
        {"x": x + 1.0, "y": y + 1.0, "id": number, "is_visible": flag}
        for number, ((x, y), flag) in enumerate(zip(joints.tolist(), visible, strict=True))
        if flag is not None
    ]
    return structures([{"point": structures(stored)}])


def structures(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Build (1, N) structures with the union of the fields of all rows; missing fields are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return np.array(
        [[tuple(row.get(name, EMPTY) for name in names) for row in rows]], [(name, object) for name in names]
    )
