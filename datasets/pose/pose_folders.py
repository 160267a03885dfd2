"""Folders of images with a table of joints: a layout for your own pose data, with any skeleton (`pose-folders`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.problems import DatasetError, Problem
from ..core.splits import in_split
from ..examples import fake_people
from ..field_types import Box, Image, Keypoints, Skeleton
from ..formats.coco import MAX_JOINTS, KeypointTable, read_keypoints, write_keypoints
from ..formats.image import write_image
from ..formats.text import read_json, read_table
from ..stored_images import Files
from .coco_people import corners_of_boxes
from .people import People, bounding_boxes
from .skeletons import normalized_name, pairs_by_name

TABLE = "people"
SKELETON = "skeleton.json"
PARTS = ("x", "y", "flag")
MAX_COORDINATE = 1e9
"""In pixels; beyond it, and at nan, a coordinate is a mistake."""


class PoseFolders(People):
    """Images in the root, or in `images/`, and a table in one of two formats.

    - `people.json`, as COCO: one category with `keypoints` and `skeleton`. A person is cropped by `bbox` with a margin,
      or by the labeled joints if there is none. Crowds are omitted.
    - `people.csv`, one line per person; the first line is `file,NAME_x,NAME_y,NAME_flag,...` with the name of every
      joint. Pixels are counted from 0; a flag is 0 unlabeled, 1 occluded, 2 visible, and the coordinates of unlabeled
      joints may be empty.

    `train.json` and `test.json` (or `.csv`) instead define the splits. With one table, one image in ten is for testing,
    by a hash of its name. People without labeled joints are omitted.

    A flip exchanges joints whose names differ only in "left" and "right". `skeleton.json` in the root overrides this,
    the edges that are drawn, and the name of the category: `{"edges": [["neck", "tail"]], "pairs": [["left paw",
    "right paw"]], "category": "cat"}`, with the left one first; each key may be absent. Predictions keep the names of
    the joints and of the category, and search images for persons only if the category is "person".
    """

    title: ClassVar[str] = "Images with your own joints"
    default_protocol: ClassVar[str] = "pck-box"
    terms: ClassVar[str] = "license of your files"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        file, is_split_table = _table_of(self.root, split)
        table = (read_keypoints if file.suffix == ".json" else read_csv)(file, problems, self.skipped)
        skeleton = _skeleton(self.root / SKELETON, table)
        self.fields = {"image": Image(), "joints": Keypoints(skeleton), "box": Box()}
        has_joints = (table.joints[..., 2] > 0).any(axis=1)
        if not has_joints.all():
            found = f"{(~has_joints).sum()} without, who are omitted"
            self.skipped.append(Problem(str(file), "a labeled joint of every person", found))
        if table.crowds.any():
            found = f"{table.crowds.sum()} crowds, which are omitted"
            self.skipped.append(Problem(str(file), "single people", found))
        rows = has_joints & ~table.crowds
        has_people = rows.any()
        if not is_split_table:
            names = [os.path.splitext(name)[0] for name in table.files]
            rows[rows] = in_split([names[image] for image in table.image[rows]], split)
        if not (rows.any() or problems):
            expected = f"people for '{split}'" + (", or separate train and test tables" if has_people else "")
            problems.append(Problem(str(file), expected, "none"))
        folder = "images/" if (self.root / "images").is_dir() else ""
        self._images = Files(self.root, [folder + name for name in table.files])
        self._image_of = table.image[rows]
        joints, boxes = table.joints[rows], corners_of_boxes(table.boxes[rows])
        has_box = np.isfinite(boxes).all(axis=1, keepdims=True)
        self._values = {"joints": joints, "box": np.where(has_box, boxes, bounding_boxes(joints))}
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        names = ("nose", "left paw", "right paw", "tail")
        files, rows = [], []
        for number in range(12):
            image, joints = fake_people(number, names, people=2)
            files.append(f"cat-{number:02}.png")
            write_image(Path(root) / "images" / files[-1], image)
            rows += list(np.concatenate([joints, np.full((2, 4, 1), 2)], axis=-1))
        joints = np.stack(rows).astype(np.float32)
        joints[0, 3], joints[1, 2, 2] = 0, 1
        boxes, areas = np.full((len(rows), 4), np.nan), np.ones(len(rows))
        image_of = np.repeat(np.arange(12), 2)
        edges = ((0, 1), (0, 2), (0, 3))
        table = KeypointTable(names, edges, files, image_of, image_of + 1, joints, boxes, areas, areas == 0, "cat")
        write_keypoints(Path(root) / f"{TABLE}.json", table)


def read_csv(path: str | Path, problems: list[Problem], skipped: list[Problem]) -> KeypointTable:
    """Read a `people.csv`.

    Args:
        path: the file.
        problems: receives the problems of single lines, which are then omitted.
        skipped: receives repeated lines, which are omitted.

    Raises:
        DatasetError: the file is missing, or its first line has another form.
    """
    first, *lines = read_table(path, "a table 'file,NAME_x,NAME_y,NAME_flag,...'")
    names = [column.removesuffix("_x") for column in first[1::3]]
    columns = ["file", *(f"{name}_{part}" for name in names for part in PARTS)]
    if not 0 < len(names) <= MAX_JOINTS or first != columns:
        raise DatasetError(f"{path} line 1", "'file,NAME_x,NAME_y,NAME_flag,...'", f"'{','.join(first)}'")
    rows: list[tuple[str, list[float]]] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines, start=2):
        if (earlier := seen.setdefault(tuple(line), number)) != number:
            found = f"a copy of line {earlier}, which is omitted"
            skipped.append(Problem(f"{path} line {number}", "another person in each line", found))
            continue
        try:
            rows.append((line[0], _joint_values(line[1:], names)))
        except ValueError as error:
            expected = "a file, and x, y and a flag 0 to 2 per joint"
            problems.append(Problem(f"{path} line {number}", expected, f"{error}"))
    rows.sort(key=lambda row: row[0])
    numbers: dict[str, int] = {}
    image = np.array([numbers.setdefault(file, len(numbers)) for file, _ in rows], np.int64)
    joints = np.array([values for _, values in rows], np.float32).reshape(-1, len(names), 3)
    areas = np.full(len(rows), np.nan)
    boxes = np.repeat(areas[:, None], 4, axis=1)
    return KeypointTable(tuple(names), (), list(numbers), image, image, joints, boxes, areas, areas == 0, "")


def _joint_values(cells: Sequence[str], names: Sequence[str]) -> list[float]:
    if len(cells) != 3 * len(names):
        raise ValueError(f"{len(cells)} cells after the file")
    values: list[float] = []
    for name, x, y, flag in zip(names, cells[::3], cells[1::3], cells[2::3], strict=True):
        if float(flag) not in (0, 1, 2):
            raise ValueError(f"the flag '{flag}' of '{name}'")
        labeled = float(flag) > 0
        point = (float(x), float(y)) if labeled else (0.0, 0.0)
        if not max(map(abs, point)) < MAX_COORDINATE:
            raise ValueError(f"the coordinates '{x},{y}' of '{name}'")
        values += [*point, float(flag)]
    return values


def _table_of(root: Path, split: str) -> tuple[Path, bool]:
    """Table for a split, and whether it contains only this split."""
    for name, is_split_table in ((split, True), (TABLE, False)):
        tables = [file for suffix in (".json", ".csv") if (file := root / f"{name}{suffix}").is_file()]
        if len(tables) > 1:
            raise DatasetError(tables[0], f"one table '{name}'", f"also '{tables[1].name}'")
        if tables:
            return tables[0], is_split_table
    expected = f"this file or '{TABLE}.csv', or '{split}.json' or '{split}.csv'"
    raise DatasetError(root / f"{TABLE}.json", expected, "none")


def _skeleton(file: Path, table: KeypointTable) -> Skeleton:
    """Skeleton of the joints of a table; `file`, if it exists, overrides edges, pairs and category.

    Names in `file` may differ from those of the table as `normalized_name` allows.
    """
    names = tuple(map(normalized_name, table.names))
    stored = read_json(file) if file.is_file() else {}
    links: dict[str, tuple[tuple[int, int], ...]] = {"edges": table.edges, "pairs": pairs_by_name(table.names)}
    for key in links.keys() & stored.keys():
        try:
            links[key] = tuple(
                (names.index(normalized_name(a)), names.index(normalized_name(b))) for a, b in stored[key]
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise DatasetError(file, f"'{key}' as pairs of the names {', '.join(table.names)}", f"{error}") from None
    return Skeleton(table.names, **links, category=str(stored.get("category") or table.category))
