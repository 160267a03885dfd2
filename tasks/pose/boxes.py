"""Boxes of people per image, in COCO's JSON format: `densevision predict pose --boxes FILE`."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ...datasets.core.geometry import Rectangle
from ...datasets.core.problems import DatasetError
from ...datasets.formats.text import read_json
from ...errors import UserError
from ..policies import ObjectBoxes
from ..prediction import Prediction
from .pose_prediction import ImageId, PeoplePrediction, PosePrediction


@dataclass(frozen=True)
class BoxFile(ObjectBoxes):
    """The boxes of a file, by image.

    Attributes:
        file: the file.
        boxes: image id to the boxes: x, y, width and height in pixels.
        names: file name, and every end of its path, to the ids of the images that have it.
        category_id: of the boxes.
        digest: hash of the file.
        owners: the image files found so far, by image id.
    """

    file: Path
    boxes: dict[ImageId, list[Rectangle]]
    names: dict[str, set[ImageId]]
    category_id: int
    digest: str
    owners: dict[ImageId, Path] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, category: str) -> BoxFile:
        """Read `images` with `id` and `file_name`, and `annotations` with `image_id` and `bbox`.

        Crowds (`iscrowd`) are omitted. If the file has several categories, the boxes are those of `category`, or of the
        only category with keypoints.

        Raises:
            UserError: the file is missing or not in this format, or its category is ambiguous.
        """
        stored = read_json(file)
        boxes: dict[ImageId, list[Rectangle]] = {}
        names: dict[str, set[ImageId]] = {}
        try:
            for image in stored["images"]:
                if image["id"] in boxes:
                    raise DatasetError(file, "an 'id' of its own for every image", f"{image['id']} twice")
                boxes[image["id"]] = []
                for name in _path_ends(PurePath(image["file_name"].replace("\\", "/"))):
                    names.setdefault(name, set()).add(image["id"])
            annotations = [entry for entry in stored["annotations"] if not entry.get("iscrowd")]
            category_id = _category_id(file, stored.get("categories") or [], annotations, category)
            for entry in annotations:
                if entry.get("category_id", category_id) == category_id:
                    boxes[entry["image_id"]].append(_rectangle(file, entry))
        except (KeyError, TypeError, AttributeError) as error:
            expected = "'images' with 'id' and 'file_name', and 'annotations' with 'bbox' and an image's 'image_id'"
            raise DatasetError(file, expected, f"others ({type(error).__name__}: {error})") from None
        return cls(file, boxes, names, category_id, hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest())

    def image_id(self, path: Path) -> ImageId:
        """The id of an image file: that of the image whose `file_name` shares the longest end of its path.

        Raises:
            UserError: no image has its name, or several do, or the image is that of another file.
        """
        ids = next((self.names[name] for name in _path_ends(path.absolute()) if name in self.names), set())
        if len(ids) != 1:
            raise UserError(
                f"{path} is the 'file_name' of {len(ids) or 'no'} images in {self.file}; it must be of one."
            )
        (image_id,) = ids
        owner = self.owners.setdefault(image_id, path)
        if owner != path:
            raise UserError(f"{path} and {owner} both are the image {image_id} of {self.file}; predict one of them.")
        return image_id

    def boxes_of(self, file: Path) -> list[Rectangle]:
        """Boxes of an image file; see `image_id`."""
        return self.boxes[self.image_id(file)]

    def merge(self, file: Path, image: np.ndarray, predictions: Sequence[Prediction]) -> PeoplePrediction:
        """The predictions for all boxes of an image (H, W, 3) uint8 as one."""
        people = tuple(each for each in predictions if isinstance(each, PosePrediction))
        return PeoplePrediction(people, image, self.image_id(file), self.category_id)


def _path_ends(path: PurePath) -> list[str]:
    """The complete path and all its ends, from the longest to the file name; accents in one Unicode form."""
    parts = unicodedata.normalize("NFC", path.as_posix()).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _category_id(file: Path, categories: list[Any], annotations: list[Any], category: str) -> int:
    used = {entry["category_id"] for entry in annotations if "category_id" in entry}
    named = {entry["id"] for entry in categories if entry.get("name") == category}
    with_keypoints = {entry["id"] for entry in categories if entry.get("keypoints")}
    candidates = next((ids for ids in (named, with_keypoints, used) if len(ids) == 1), used)
    if len(candidates) > 1:
        raise DatasetError(file, f"one category, or one named '{category}' as the model's joints", f"{len(candidates)}")
    return next(iter(candidates), 1)


def _rectangle(file: Path, entry: dict[str, Any]) -> Rectangle:
    try:
        x, y, width, height = (float(value) for value in entry["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError):
        x, y, width, height = [math.nan] * 4
    if not (math.isfinite(x + y + width + height) and min(width, height) > 0):
        expected = "a 'bbox' of x, y, and a width and height above 0"
        raise DatasetError(f"{file} annotation {entry.get('id', '')}".rstrip(), expected, f"{entry.get('bbox')}")
    return x, y, width, height
