"""COCO keypoints: people with 17 joints in everyday photos (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.problems import DatasetError, Problem
from ..examples import fake_people
from ..field_types import Box, Image, Keypoints, Scalar
from ..formats.coco import KeypointTable, read_keypoints, write_keypoints
from ..formats.image import write_image
from ..stored_images import Files
from . import skeletons
from .people import People

NAMES = tuple(name.replace(" ", "_") for name in skeletons.COCO.names)


class COCOPeople(People):
    """The 2017 release: one sample per person, cropped by the annotated box.

    The root contains `annotations/person_keypoints_{train,val}2017.json`, and the images in `train2017/` and
    `val2017/` (or in `images/train2017/` and `images/val2017/`). The boxes are the annotated ones, not detections:
    compare scores with those that papers report for annotated boxes.

    `train` contains people with labeled joints, without crowds (one box around many people). `val` contains everyone:
    the official score ignores predictions on crowds and on people without labeled joints, so it needs their boxes;
    their joints all have the flag 0.

    Fields: `area` of the segment in square pixels; `image_id`, equal for people of one image; `crowd`, 0 or 1; `left`
    and `top` of the crop in the image, to compare predictions of one image. `box` is x, y, x + width - 1,
    y + height - 1 of COCO's x, y, width, height.
    """

    title: ClassVar[str] = "COCO keypoints 2017"
    default_protocol: ClassVar[str] = "coco"
    terms: ClassVar[str] = "annotations CC BY 4.0, images under their Flickr owners' terms: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        numbers = {name: Scalar() for name in ("area", "image_id", "crowd", "left", "top")}
        self.fields = {"image": Image(), "joints": Keypoints(skeletons.COCO), "box": Box(), **numbers}
        problems: list[Problem] = []
        file = self.root / annotation_file(split)
        table = read_keypoints(file, problems, self.skipped)
        if table.names != NAMES:
            raise DatasetError(file, "the 17 joints of COCO from 'nose' to 'right_ankle'", ", ".join(table.names))
        has_box = np.isfinite(table.boxes).all(axis=1)
        if not has_box.all():
            problems.append(Problem(str(file), "a 'bbox' for every person", f"{(~has_box).sum()} without"))
        rows = has_box if split == "val" else has_box & ~table.crowds & (table.joints[..., 2] > 0).any(axis=1)
        if not (rows.any() or problems):
            problems.append(Problem(str(file), "people with labeled joints", "none"))
        folder = f"images/{split}2017" if (self.root / f"images/{split}2017").is_dir() else f"{split}2017"
        self._images = Files(self.root, [f"{folder}/{name}" for name in table.files])
        self._image_of = table.image[rows]
        self._values = {
            "joints": table.joints[rows],
            "box": corners_of_boxes(table.boxes[rows]),
            "area": table.areas[rows],
            "image_id": table.ids[rows],
            "crowd": table.crowds[rows].astype(np.int64),
        }
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            numbers = [100 * index + number for number in (9, 30, 74)]
            files = [f"{number:012}.jpg" for number in numbers]
            samples = [fake_people(number, NAMES, people=2) for number in numbers]
            for file, (image, _) in zip(files, samples, strict=True):
                write_image(Path(root) / f"{split}2017" / file, image)
            flags = np.full((6, len(NAMES), 1), 2)
            flags[:, 3], flags[:, 5], flags[2] = 0, 1, 0
            joints = np.concatenate([np.concatenate([joints for _, joints in samples]), flags], axis=-1)
            # The second person of each image is 72 px to the right of the first.
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
    """Official annotation file of a split, relative to the root."""
    return f"annotations/person_keypoints_{split}2017.json"


def corners_of_boxes(boxes: np.ndarray) -> np.ndarray:
    """Convert boxes (N, 4) from x, y, width, height to left, top, right, bottom, at least one pixel wide and high."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + np.maximum(boxes[:, 2:] - 1, 0)], axis=1)
