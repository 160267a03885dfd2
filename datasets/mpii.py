"""MPII Human Pose: people of 410 activities in frames of videos (Andriluka, Pishchulin, Gehler, Schiele, CVPR 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import skeletons
from .fields import Box, Image, Keypoints
from .folders import held_back
from .formats.mat import read_mat, write_mat
from .formats.picture import write_picture
from .formats.reading import read_lines
from .labelled_pictures import Files
from .people import People, drawn_people
from .problems import DamagedData, Problem

FILE = "mpii_human_pose_v1_u12_1.mat"
PLACES = (FILE, f"mpii_human_pose_v1_u12_2/{FILE}")
VALIDATION_LIST = "val.txt"

SCALE_PX = 200
"""The person's height at scale 1, in pixels."""
LOWERED = 15
"""Pixels at scale 1 by which Xiao et al. 2018 lower the stated centre, so that less of the feet is cut off."""

JOINTS = len(skeletons.MPII.names)
HEAD = ("x1", "y1", "x2", "y2")
EMPTY = np.zeros((0, 0))
"""MATLAB's `[]`."""


class MPII(People):
    """Some 25,000 people with joints, each cut out of a frame by the stated centre and scale.

    The root holds `images/NAME.jpg` and the annotations, `mpii_human_pose_v1_u12_1.mat`, or the folder
    `mpii_human_pose_v1_u12_2/` that they are handed out in. The official test frames have no published joints, so that
    both splits come from the training frames: `val.txt` in the root names the frames of `val`, one a line; without it
    one frame in ten is held back, by a hash of its name. Papers report on a list of 2,958 people: only with that
    list's frames is a score theirs.

    People who lack joints, a centre, a scale or a head box are no samples. A joint's flag is occluded where the file's
    `is_visible` is 0, visible where it is 1 or left empty (as for most heads), unlabelled where the joint is absent.
    The file counts pixels from 1, samples from 0. `box` is the square of 200 px times the scale about the lowered
    centre; with the margin it is what Xiao et al. 2018 (arXiv:1804.06208) cut. `head` is the box that PCKh measures by.
    """

    title: ClassVar[str] = "MPII Human Pose"
    terms: ClassVar[str] = "annotations BSD, frames of other people's videos: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "joints": Keypoints(skeletons.MPII), "box": Box(), "head": Box()}
        problems: list[Problem] = []
        file = next((self.root / place for place in PLACES if (self.root / place).is_file()), self.root / FILE)
        frames = _frames(file)
        validated = self._validated([name for name, _ in frames], problems)
        names, picture_of, people = [], [], []
        for name, stored in frames:
            if (name in validated) != (split == "val"):
                continue
            try:
                found = list(_people(stored))
            except (KeyError, ValueError, TypeError, IndexError) as error:
                problems.append(Problem(f"{file} {name}", "people with joints, centre, scale and head", f"{error}"))
                continue
            picture_of += [len(names)] * len(found)
            people += found
            names += [f"images/{name}"] * bool(found)
        if not (people or problems):
            problems.append(Problem(str(file), f"people for '{split}'", "none"))
        self._pictures = Files(self.root, names)
        self._picture_of = np.array(picture_of, np.int64)
        self._values = {
            "joints": np.array([person.joints for person in people]).reshape(-1, JOINTS, 3),
            "box": np.array([person.box for person in people]).reshape(-1, 4),
            "head": np.array([person.head for person in people]).reshape(-1, 4),
        }
        if problems:
            raise DamagedData.of(problems, opened=self)

    def _validated(self, names: list[str], problems: list[Problem]) -> set[str]:
        """The names of the frames of `val`."""
        listed = self.root / VALIDATION_LIST
        if not listed.is_file():
            return {name for name in names if held_back(Path(name).stem)}
        known = {Path(name).stem: name for name in names}
        stems = [line.removesuffix(".jpg") for line in read_lines(listed, "a frame's name per line")]
        problems += [
            Problem(str(listed), "names of training frames", f"'{stem}'") for stem in stems if stem not in known
        ]
        return {known[stem] for stem in stems if stem in known}

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        frames: list[tuple[str, bool, list[dict[str, Any]]]] = []
        for number in range(6):
            picture, joints = drawn_people(number, skeletons.MPII.names, people=2)
            name, trains = f"{15601864 + number:09}.jpg", number < 5
            if trains:
                write_picture(Path(root) / "images" / name, picture)
            place = {"scale": 0.4, "objpos": structures([{"x": 37.0, "y": 39.0}])}
            visible = ["1", "0", 1, 0, *["1"] * 4, EMPTY, EMPTY, *["1"] * 5, None]
            head = {"x1": 31.0, "y1": 10.0, "x2": 43.0, "y2": 21.0}
            # The second one has a head only, as strangers in the background have.
            frames.append((name, trains, [head | place | {"annopoints": points(joints[0], visible)}, head] * trains))
        (Path(root) / VALIDATION_LIST).write_text(Path(frames[3][0]).stem + "\n")
        write_mat(Path(root) / FILE, {"RELEASE": release(frames)})


class Person(NamedTuple):
    """One person, in pixels of the frame counted from 0.

    Attributes:
        joints: (16, 3) float32 x, y, flag.
        box: (4,) left, top, right, bottom.
        head: likewise.
    """

    joints: np.ndarray
    box: np.ndarray
    head: np.ndarray


def _frames(file: Path) -> list[tuple[str, np.ndarray]]:
    """The name of every training frame, and its annotations."""
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
    except (AssertionError, IndexError, KeyError, ValueError, TypeError):
        raise DamagedData(file, expected, "another structure" if stored is not None else "none") from None


def _people(annotations: np.ndarray) -> Iterator[Person]:
    """Everyone in a frame of whom all is known that a sample needs."""
    for stored in annotations.ravel() if annotations.dtype.names else ():
        points, centre = _structure(stored, "annopoints"), _structure(stored, "objpos")
        scale, *head = (_number(stored, name) for name in ("scale", *HEAD))
        if points is None or centre is None or scale is None or None in head:
            continue
        joints = np.zeros((JOINTS, 3), np.float32)
        for point in points["point"].ravel():
            # MATLAB's first pixel is (1, 1).
            flag = 1 if _number(point, "is_visible") == 0 else 2
            joints[int(point["id"].item())] = point["x"].item() - 1, point["y"].item() - 1, flag
        if (joints[:, 2] > 0).any():
            middle = np.array([centre["x"].item(), centre["y"].item() + LOWERED * scale]) - 1
            half = (SCALE_PX * scale - 1) / 2
            yield Person(joints, np.concatenate([middle - half, middle + half]), np.array(head, np.float64) - 1)


def _structure(stored: np.void, name: str) -> np.void | None:
    """A structure within a structure.

    Where one structure of an array lacks a field, it holds an empty array; where all lack it, there is no such field.
    """
    value = stored[name] if name in (stored.dtype.names or ()) else np.empty(0)
    return value.ravel()[0] if value.size and value.dtype.names else None


def _number(stored: np.void, name: str) -> float | None:
    """A number, perhaps written as text; None where there is none."""
    value = stored[name] if name in (stored.dtype.names or ()) else np.empty(0)
    return float(value.item()) if value.size else None


def release(frames: Sequence[tuple[str, bool, Sequence[dict[str, Any]]]]) -> np.ndarray:
    """The file's structure, for miniature sets.

    Args:
        frames: a name, whether it is a training frame, and the people's fields; what someone lacks is stored empty.
    """
    annolist = [
        {"image": structures([{"name": name}]), "annorect": structures(people) if people else EMPTY}
        for name, _, people in frames
    ]
    trains = np.array([[train for _, train, _ in frames]], np.uint8)
    return structures([{"annolist": structures(annolist), "img_train": trains, "version": "12"}])


def points(joints: np.ndarray, visible: Sequence[Any]) -> np.ndarray:
    """The structure `annopoints` of (16, 2) joints in pixels counted from 0.

    Args:
        joints: their places.
        visible: what `is_visible` holds; None where the joint is absent.
    """
    stored = [
        {"x": x + 1.0, "y": y + 1.0, "id": number, "is_visible": said}
        for number, ((x, y), said) in enumerate(zip(joints.tolist(), visible, strict=True))
        if said is not None
    ]
    return structures([{"point": structures(stored)}])


def structures(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """(1, N) structures with every field that any of them has; what one lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return np.array(
        [[tuple(row.get(name, EMPTY) for name in names) for row in rows]], [(name, object) for name in names]
    )
