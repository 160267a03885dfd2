"""COCO's form of people with joints: one JSON file with `images`, `annotations` and `categories`, read into columns.

Pixels count from 0 with their centres at integers; a joint's flag is 0 unlabelled, 1 occluded, 2 visible.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData, Problem
from .reading import read_bytes


class KeypointTable(NamedTuple):
    """People with joints in columns: entry i of every array is person i; those of one picture stand together.

    Attributes:
        names: of the joints, as the file writes them.
        edges: the joints that a limb connects, counted from 0.
        files: the pictures' names.
        picture: (N,) int64, ascending: places in `files`.
        ids: (N,) int64: the picture's number in the file.
        joints: (N, J, 3) float32: x, y, flag.
        boxes: (N, 4) float64: x, y, width, height; nan where none is stated.
        areas: (N,) float64 square pixels; the box's where none is stated.
        crowds: (N,) bool: many people in one box.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    files: list[str]
    picture: np.ndarray
    ids: np.ndarray
    joints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray


def read_keypoints(path: str | Path, problems: list[Problem]) -> KeypointTable:
    """Everyone whom a file annotates with joints.

    Args:
        path: the file.
        problems: receives what is wrong with single annotations, which are then left out.

    Raises:
        DamagedData: no file, no whole JSON, or not in COCO's form.
    """
    stored = read_json(path)
    category = _category(stored, path)
    names = tuple(str(name) for name in category["keypoints"])
    files: dict[int, str] = {}
    rows = []
    try:
        files = {int(image["id"]): str(image["file_name"]) for image in stored["images"]}
        annotations = [one for one in stored["annotations"] if one.get("category_id", category["id"]) == category["id"]]
        edges = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
    except (KeyError, TypeError, ValueError, AttributeError):
        expected = "'images' with 'id' and 'file_name', 'annotations', and edges as pairs in the 'skeleton'"
        raise DamagedData(path, expected, "others") from None
    if any(not 0 <= end < len(names) for edge in edges for end in edge):
        raise DamagedData(path, f"joints from 1 to {len(names)} in the 'skeleton'", "others")
    for number, annotation in enumerate(annotations, start=1):
        try:
            rows.append(_row(annotation, files, len(names)))
        except (KeyError, TypeError, ValueError) as error:
            expected = f"'image_id' of a picture and {len(names)} joints as x, y and flag 0 to 2"
            found = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(Problem(f"{path} annotation {annotation.get('id', number)}", expected, found))
    rows.sort(key=lambda row: row[0])
    ids = np.array([row[0] for row in rows], np.int64)
    shown, picture = np.unique(ids, return_inverse=True)
    return KeypointTable(
        names,
        edges,
        [files[image] for image in shown.tolist()],
        picture,
        ids,
        np.array([row[1] for row in rows], np.float32).reshape(-1, len(names), 3),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float64),
        np.array([row[4] for row in rows], bool),
    )


def write_keypoints(path: str | Path, table: KeypointTable) -> None:
    """Write a table in COCO's form, aside then renamed."""
    images = {int(number): table.files[place] for number, place in zip(table.ids, table.picture, strict=True)}
    annotations = [
        {
            "id": row + 1,
            "image_id": int(table.ids[row]),
            "category_id": 1,
            "iscrowd": int(table.crowds[row]),
            "bbox": table.boxes[row].tolist(),
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
        "categories": [{"id": 1, "name": "person", "keypoints": list(table.names), "skeleton": edges}],
    }
    with written_aside(path) as aside:
        aside.write_text(json.dumps(stored), encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        DamagedData: no file, no whole JSON, or something else than an object.
    """
    try:
        stored = json.loads(read_bytes(path, "a JSON file"))
    except (ValueError, RecursionError) as error:
        raise DamagedData(path, "a whole JSON file", f"one that does not read ({error})") from None
    if not isinstance(stored, dict):
        raise DamagedData(path, "a JSON object", type(stored).__name__)
    return stored


def _category(stored: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The one category that has joints."""
    listed = stored.get("categories")
    categories = listed if isinstance(listed, list) else []
    jointed = [one for one in categories if isinstance(one, dict) and isinstance(one.get("keypoints"), list)]
    if len(jointed) != 1 or not jointed[0]["keypoints"] or "id" not in jointed[0]:
        raise DamagedData(path, "one category with an 'id' and the names of its 'keypoints'", f"{len(jointed)}")
    return jointed[0]


def _row(annotation: dict[str, Any], files: dict[int, str], joints: int) -> tuple[int, np.ndarray, Any, float, bool]:
    # An array at once: of all of COCO's people, lists of Python's numbers would take half a gigabyte.
    image, places = int(annotation["image_id"]), np.array(annotation["keypoints"], np.float32).ravel()
    if image not in files:
        raise ValueError(f"image_id {image}, which no picture has")
    if places.size != 3 * joints:
        raise ValueError(f"{places.size} numbers")
    if not set(places[2::3].tolist()) <= {0, 1, 2}:
        raise ValueError(f"flag {places[2::3].max():g}")
    x, y, width, height = (float(value) for value in annotation.get("bbox") or [np.nan] * 4)
    area = annotation.get("area")
    crowd = bool(annotation.get("iscrowd", 0))
    return image, places, (x, y, width, height), width * height if area is None else float(area), crowd
