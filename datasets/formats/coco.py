"""COCO keypoint annotations: a JSON file with `images`, `annotations` and `categories`, read into columns.

Pixels are counted from 0 with their centers at integers; the flag of a joint is 0 unlabeled, 1 occluded, 2 visible.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...atomic_io import atomic_path
from ..problems import DatasetError, Problem
from .reading import read_bytes


class KeypointTable(NamedTuple):
    """Annotated people in columns: entry i of every array is person i; people of one image are adjacent.

    Attributes:
        names: of the joints, as in the file.
        edges: pairs of joint indices that a limb connects, counted from 0.
        files: names of the images.
        image: (N,) int64, ascending: indices into `files`.
        ids: (N,) int64: image id in the file.
        joints: (N, J, 3) float32: x, y, flag.
        boxes: (N, 4) float64: x, y, width, height; nan if not stated.
        areas: (N,) float64 square pixels; area of the box if not stated.
        crowds: (N,) bool: many people in one box.
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


def read_keypoints(path: str | Path, problems: list[Problem]) -> KeypointTable:
    """Read all people with joints.

    Args:
        path: the file.
        problems: receives the problems of single annotations, which are then omitted.

    Raises:
        DatasetError: the file is missing, truncated, or not in the format of COCO.
    """
    stored = read_json(path)
    category = _category(stored, path)
    names = tuple(str(name) for name in category["keypoints"])
    files: dict[int, str] = {}
    rows = []
    try:
        files = {int(image["id"]): str(image["file_name"]) for image in stored["images"]}
        category_id = category["id"]
        annotations = [entry for entry in stored["annotations"] if entry.get("category_id", category_id) == category_id]
        edges = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
    except (KeyError, TypeError, ValueError, AttributeError):
        expected = "'images' with 'id' and 'file_name', 'annotations', and edges as pairs in the 'skeleton'"
        raise DatasetError(path, expected, "others") from None
    if any(not 0 <= end < len(names) for edge in edges for end in edge):
        raise DatasetError(path, f"joints from 1 to {len(names)} in the 'skeleton'", "others")
    for number, annotation in enumerate(annotations, start=1):
        try:
            rows.append(_row(annotation, files, len(names)))
        except (KeyError, TypeError, ValueError) as error:
            expected = f"'image_id' of an image and {len(names)} joints as x, y and flag 0 to 2"
            found = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(Problem(f"{path} annotation {annotation.get('id', number)}", expected, found))
    rows.sort(key=lambda row: row[0])
    ids = np.array([row[0] for row in rows], np.int64)
    image_ids, image_indices = np.unique(ids, return_inverse=True)
    return KeypointTable(
        names,
        edges,
        [files[image] for image in image_ids.tolist()],
        image_indices,
        ids,
        np.array([row[1] for row in rows], np.float32).reshape(-1, len(names), 3),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float64),
        np.array([row[4] for row in rows], bool),
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
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(stored), encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        DatasetError: the file is missing, truncated, or does not contain an object.
    """
    try:
        stored = json.loads(read_bytes(path, "a JSON file"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(path, "a complete JSON file", f"one that cannot be read ({error})") from None
    if not isinstance(stored, dict):
        raise DatasetError(path, "a JSON object", type(stored).__name__)
    return stored


def _category(stored: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The single category with keypoints."""
    entries = stored.get("categories")
    categories = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    with_joints = [category for category in categories if isinstance(category.get("keypoints"), list)]
    if len(with_joints) != 1 or not with_joints[0]["keypoints"] or "id" not in with_joints[0]:
        raise DatasetError(path, "one category with an 'id' and the names of its 'keypoints'", f"{len(with_joints)}")
    return with_joints[0]


def _row(annotation: dict[str, Any], files: dict[int, str], joints: int) -> tuple[int, np.ndarray, Any, float, bool]:
    # Converted to an array at once: for all people of COCO, lists of Python numbers take half a gigabyte.
    image, values = int(annotation["image_id"]), np.array(annotation["keypoints"], np.float32).ravel()
    if image not in files:
        raise ValueError(f"image_id {image}, which no image has")
    if values.size != 3 * joints:
        raise ValueError(f"{values.size} numbers")
    if not set(values[2::3].tolist()) <= {0, 1, 2}:
        raise ValueError(f"flag {values[2::3].max():g}")
    x, y, width, height = (float(value) for value in annotation.get("bbox") or [np.nan] * 4)
    area = annotation.get("area")
    crowd = bool(annotation.get("iscrowd", 0))
    return image, values, (x, y, width, height), width * height if area is None else float(area), crowd
