"""COCO keypoint annotations: a JSON file with `images`, `annotations` and `categories`, read into columns.

Pixels are counted from 0 with their centers at integers; the flag of a joint is 0 unlabeled, 1 occluded, 2 visible.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...atomic_io import json_text, write_json
from ..core.files import NOT_UTF8
from ..core.problems import DatasetError, Problem
from .text import read_json

MAX_JOINTS = 1000
"""Names of joints: every person has three numbers for each."""


class KeypointTable(NamedTuple):
    """Annotated people in columns: entry i of every array is person i; people of one image are adjacent.

    Attributes:
        names: of the joints, as in the file.
        edges: pairs of joint indices that a limb connects, counted from 0.
        files: names of the images.
        image: (N,) int64, ascending: indices into `files`.
        ids: (N,) int64: image id in the file; if some ids are not integers of 64 bits, the index in `files`.
        joints: (N, J, 3) float32: x, y, flag.
        boxes: (N, 4) float64: x, y, width, height; nan if not stated, or unusable and without labeled joints.
        areas: (N,) float64 square pixels; area of the box if not stated.
        crowds: (N,) bool: many people in one box.
        category: name of the category; empty if not stated.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    files: list[str]
    image: np.ndarray
    ids: np.ndarray
    joints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    category: str = "person"


class _Image(NamedTuple):
    file: str
    size: tuple[float, float] | None
    """Width and height, if they are stated."""


class _Person(NamedTuple):
    image: int | str
    joints: np.ndarray
    box: tuple[float, ...]
    area: float
    crowd: bool


def read_keypoints(path: str | Path, problems: list[Problem], skipped: list[Problem]) -> KeypointTable:
    """Read all people with joints.

    Args:
        path: the file.
        problems: receives the problems of single images and annotations, which are then omitted.
        skipped: receives what is repaired, and repeated entries, which are omitted.

    Raises:
        DatasetError: the file is missing, truncated, or not in the format of COCO.
    """
    stored = read_json(path)
    category, categories = _category(stored, path)
    names = tuple(str(name) for name in category["keypoints"])
    if len(names) > MAX_JOINTS:
        raise DatasetError(path, f"at most {MAX_JOINTS} 'keypoints'", f"{len(names)}")
    try:
        edges = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(path, "edges as pairs of numbers in the 'skeleton'", "others") from None
    if any(not 0 <= end < len(names) for edge in edges for end in edge):
        raise DatasetError(path, f"joints from 1 to {len(names)} in the 'skeleton'", "others")
    images = _images(_entries(stored, "images", path), path, problems, skipped)
    category_id = parse_id(category["id"])
    people: list[_Person] = []
    numbers: dict[str, int] = {}
    copies: dict[int, int] = {}
    for number, annotation in enumerate(_entries(stored, "annotations", path), start=1):
        where = f"{path} annotation {number}"
        try:
            where = f"{path} annotation {_object(annotation).get('id', number)}"
            earlier = numbers.setdefault(str(annotation.get("id", f"number {number}")), number)
            if earlier != number:
                skipped.append(Problem(where, "an 'id' of its own", f"annotations {earlier} and {number} with this id"))
            stated = parse_id(annotation.get("category_id", category_id))
            if stated not in categories:
                raise ValueError(f"category_id {stated}, which no category has")
            if stated != category_id:
                continue
            person = _person(annotation, images, len(names), where, skipped)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            expected = f"'image_id' of an image and {len(names)} joints as x, y and flag 0 to 2"
            problems.append(Problem(where, expected, _reason(error)))
            continue
        # Hashes, since the values of all people of COCO would take a hundred megabytes.
        content = hash((person.image, person.joints.tobytes(), person.box))
        if person.joints[2::3].any() and content in copies:
            found = f"a copy of annotation {copies[content]}, which is omitted"
            skipped.append(Problem(where, "another person in each annotation", found))
        else:
            copies[content] = number
            people.append(person)
    people.sort(key=lambda person: (isinstance(person.image, str), person.image))
    keys = list(dict.fromkeys(person.image for person in people))
    index = {key: number for number, key in enumerate(keys)}
    are_integers = all(isinstance(key, int) and abs(key) < 2**63 for key in keys)
    return KeypointTable(
        names,
        edges,
        [images[key].file for key in keys],
        np.array([index[person.image] for person in people], np.int64),
        np.array([person.image if are_integers else index[person.image] for person in people], np.int64),
        np.array([person.joints for person in people], np.float32).reshape(-1, len(names), 3),
        np.array([person.box for person in people], np.float64).reshape(-1, 4),
        np.array([person.area for person in people], np.float64),
        np.array([person.crowd for person in people], bool),
        str(category.get("name") or ""),
    )


def write_keypoints(path: str | Path, table: KeypointTable) -> None:
    """Write a table in the format of COCO, atomically."""
    images = {int(number): table.files[index] for number, index in zip(table.ids, table.image, strict=True)}
    annotations = [
        {
            "id": row + 1,
            "image_id": int(table.ids[row]),
            "category_id": 1,
            "iscrowd": int(table.crowds[row]),
            "bbox": table.boxes[row].tolist() if np.isfinite(table.boxes[row]).all() else None,
            "area": float(table.areas[row]),
            "num_keypoints": int((table.joints[row, :, 2] > 0).sum()),
            "keypoints": table.joints[row].ravel().tolist(),
        }
        for row in range(len(table.ids))
    ]
    edges = [[first + 1, second + 1] for first, second in table.edges]
    stored = {
        "images": [{"id": number, "file_name": name} for number, name in images.items()],
        "annotations": annotations,
        "categories": [{"id": 1, "name": table.category, "keypoints": list(table.names), "skeleton": edges}],
    }
    write_json(path, stored)


def parse_id(value: Any) -> int | str:
    """Id of an image or a category for comparisons: 1, 1.0 and "1" are the same id; 0.1, "01" and "cat-1" are others.

    Raises:
        ValueError: neither a number nor a text.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value != value:
        raise ValueError(f"the id {value}")
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return int(text) if re.fullmatch(r"0|-?[1-9][0-9]{0,99}", text) else text


def _entries(stored: dict[str, Any], key: str, path: str | Path) -> list[Any]:
    if not isinstance(stored.get(key), list):
        found = f"'{key}' of type {type(stored[key]).__name__}" if key in stored else f"no '{key}'"
        raise DatasetError(path, "lists of 'images' and 'annotations'", found)
    return stored[key]


def _category(stored: dict[str, Any], path: str | Path) -> tuple[dict[str, Any], set[int | str]]:
    """The single category with keypoints, and the ids of all categories."""
    entries = stored.get("categories")
    categories = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    with_joints = [category for category in categories if isinstance(category.get("keypoints"), list)]
    if len(with_joints) != 1 or not with_joints[0]["keypoints"] or "id" not in with_joints[0]:
        raise DatasetError(path, "one category with an 'id' and the names of its 'keypoints'", f"{len(with_joints)}")
    try:
        return with_joints[0], {parse_id(category.get("id", "")) for category in categories}
    except ValueError as error:
        raise DatasetError(path, "numbers or texts as ids of the 'categories'", str(error)) from None


def _images(
    entries: list[Any], path: str | Path, problems: list[Problem], skipped: list[Problem]
) -> dict[int | str, _Image]:
    """Images by their ids. Two images of one id are a problem, since its annotations belong to either of them."""
    images: dict[int | str, _Image] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            key, file = parse_id(_object(entry)["id"]), entry["file_name"]
            size = entry.get("width"), entry.get("height")
            if not isinstance(file, str) or not file or NOT_UTF8.search(file):
                raise ValueError(f"the file name {file}")
        except (KeyError, TypeError, ValueError) as error:
            problems.append(Problem(f"{path} image {number}", "an image with 'id' and 'file_name'", _reason(error)))
            continue
        has_size = all(isinstance(length, (int, float)) and length > 0 for length in size)
        image = _Image(file, size if has_size else None)
        if key not in images:
            images[key] = image
        elif images[key].file == file:
            skipped.append(Problem(f"{path} image {key}", "every image once", "a repetition, which is omitted"))
        else:
            found = f"'{images[key].file}' and '{file}' with this id"
            problems.append(Problem(f"{path} image {key}", "an 'id' of its own for every image", found))
    return images


def _person(
    annotation: dict[str, Any], images: dict[int | str, _Image], joints: int, where: str, skipped: list[Problem]
) -> _Person:
    # Converted to an array at once: for all people of COCO, lists of Python numbers take half a gigabyte.
    key = parse_id(annotation["image_id"])
    with np.errstate(over="ignore"):
        values = np.array(annotation["keypoints"], np.float32).ravel()
    if key not in images:
        raise ValueError(f"image_id {key}, which no image has")
    if values.size != 3 * joints:
        raise ValueError(f"{values.size} numbers")
    flags = values[2::3]
    if not set(flags.tolist()) <= {0, 1, 2}:
        raise ValueError(f"flag {flags.max():g}")
    points = values.reshape(-1, 3)[flags > 0, :2].astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError("labeled joints that are not finite")
    box = _box(annotation.get("bbox"), points, images[key].size, where, skipped)
    area = annotation.get("area")
    area = box[2] * box[3] if area is None else float(area)
    if area in (math.inf, -math.inf):
        raise ValueError(f"an area of {area}")
    return _Person(key, values, box, area, bool(int(annotation.get("iscrowd") or 0)))


def _box(
    stated: Any, points: np.ndarray, size: tuple[float, float] | None, where: str, skipped: list[Problem]
) -> tuple[float, ...]:
    """The stated box, or that of the labeled joints (N, 2) if it has no area, is beside the image or has no joint.

    Scores ignore people without labeled joints, for whom a box of any area will do.
    """
    unknown = (np.nan,) * 4
    if stated is None or stated == []:
        return unknown
    try:
        x, y, width, height = (float(value) for value in stated)
    except (TypeError, ValueError, OverflowError):
        x, y, width, height = unknown
    right, bottom = size or (np.inf, np.inf)
    usable = np.isfinite([x, y, width, height]).all() and width >= 0 and height >= 0
    if usable and len(points):
        usable = width > 0 and height > 0 and x < right and y < bottom and x + width > 0 and y + height > 0
        usable = usable and ((points >= (x, y)) & (points <= (x + width, y + height))).all(axis=1).any()
    if usable:
        return x, y, width, height
    expected = "a 'bbox' x, y, width, height with an area, within the image, around labeled joints"
    found = f"{stated}; the box of the joints is used instead" if len(points) else f"{stated}, and no labeled joint"
    skipped.append(Problem(where, expected, found))
    if not len(points):
        return unknown
    return *points.min(axis=0).tolist(), *(np.ptp(points, axis=0) + 1).tolist()


def _object(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{json_text(entry)[:40]}, which is not an object")
    return entry


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
