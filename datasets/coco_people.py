"""COCO's people with 17 joints: everyday photographs, several people in most (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from . import skeletons
from .fields import Box, Image, Keypoints, Number
from .formats.coco import KeypointTable, read_keypoints, write_keypoints
from .formats.picture import write_picture
from .labelled_pictures import Files
from .people import People, drawn_people
from .problems import DamagedData, Problem

NAMES = tuple(name.replace(" ", "_") for name in skeletons.COCO.names)


class COCOPeople(People):
    """The release of 2017: people one by one, each cut out of the picture by the box that comes with them.

    The root holds `annotations/person_keypoints_train2017.json` and the same of `val2017`, and the pictures in
    `train2017/` and `val2017/` (or below `images/`). The boxes are the annotated ones, not a detector's: figures are to
    be held beside those that papers give for such boxes.

    `train` holds people with a labelled joint, and no crowds, which are one box around many. `val` holds everyone: the
    official score ignores an answer that lies on a crowd or on a person without labelled joints, and has to know where
    they are. Their joints are all flagged 0.

    Fields: `area` is the segment's, in square pixels; `image_id` says who are in one picture; `crowd` is 0 or 1; `left`
    and `top` say where the cut lies, so that answers of one picture can be compared. A `box` of COCO's x, y, width and
    height is here x, y, x + width - 1, y + height - 1.
    """

    title: ClassVar[str] = "COCO keypoints 2017"
    terms: ClassVar[str] = "annotations CC BY 4.0, pictures under their Flickr owners' terms: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        numbers = {name: Number() for name in ("area", "image_id", "crowd", "left", "top")}
        self.fields = {"image": Image(), "joints": Keypoints(skeletons.COCO), "box": Box(), **numbers}
        problems: list[Problem] = []
        file = self.root / annotation_file(split)
        table = read_keypoints(file, problems)
        if table.names != NAMES:
            raise DamagedData(file, "the 17 joints of COCO from 'nose' to 'right_ankle'", ", ".join(table.names))
        boxed = np.isfinite(table.boxes).all(axis=1)
        if not boxed.all():
            problems.append(Problem(str(file), "a 'bbox' for everyone", f"{(~boxed).sum()} without"))
        chosen = boxed if split == "val" else boxed & ~table.crowds & (table.joints[..., 2] > 0).any(axis=1)
        if not (chosen.any() or problems):
            problems.append(Problem(str(file), "people with labelled joints", "none"))
        folder = f"images/{split}2017" if (self.root / f"images/{split}2017").is_dir() else f"{split}2017"
        self._pictures = Files(self.root, [f"{folder}/{name}" for name in table.files])
        self._picture_of = table.picture[chosen]
        self._values = {
            "joints": table.joints[chosen],
            "box": edges_included(table.boxes[chosen]),
            "area": table.areas[chosen],
            "image_id": table.ids[chosen],
            "crowd": table.crowds[chosen].astype(np.int64),
        }
        if problems:
            raise DamagedData.of(problems, opened=self)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            numbers = [100 * place + number for number in (9, 30, 74)]
            files = [f"{number:012}.jpg" for number in numbers]
            drawn = [drawn_people(number, NAMES, people=2) for number in numbers]
            for file, (picture, _) in zip(files, drawn, strict=True):
                write_picture(Path(root) / f"{split}2017" / file, picture)
            flags = np.full((6, len(NAMES), 1), 2)
            flags[:, 3], flags[:, 5], flags[2] = 0, 1, 0
            joints = np.concatenate([np.concatenate([joints for _, joints in drawn]), flags], axis=-1)
            # The second person of each picture stands 72 px to the right of the first.
            boxes = np.array([(8, 8, 56, 72), (80, 8, 56, 72)] * 3, np.float64)
            table = KeypointTable(
                NAMES,
                skeletons.COCO.edges,
                files,
                np.repeat(np.arange(3), 2),
                np.repeat(numbers, 2),
                np.where(flags > 0, joints, 0).astype(np.float32),
                boxes,
                0.6 * boxes[:, 2] * boxes[:, 3],
                np.arange(6) == 2,
            )
            write_keypoints(Path(root) / annotation_file(split), table)


def annotation_file(split: str) -> str:
    """The official file of a split, relative to the root."""
    return f"annotations/person_keypoints_{split}2017.json"


def edges_included(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) left, top, right, bottom as in pixel centres, of x, y, width, height; no side is below a pixel."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + np.maximum(boxes[:, 2:] - 1, 0)], axis=1)
