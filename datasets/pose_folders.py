"""Anyone's own people, or animals or hands: pictures, and a table of joints with a skeleton of one's own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from .coco_people import edges_included
from .fields import Box, Image, Keypoints, Skeleton
from .folders import held_back
from .formats.coco import KeypointTable, read_json, read_keypoints, write_keypoints
from .formats.picture import write_picture
from .formats.reading import read_lines
from .labelled_pictures import Files
from .people import People, box_of, drawn_people
from .problems import DamagedData, Problem
from .skeletons import pairs_by_name

TABLE = "people"
SKELETON = "skeleton.json"
PARTS = ("x", "y", "flag")


class PoseFolders(People):
    """Pictures in the root, or in `images/`, and a table in one of two forms.

    - `people.json`, COCO's form: one category with `keypoints` and `skeleton`. A person's `bbox` is what is cut out,
      with a margin; without one the labelled joints are. Crowds are no samples.
    - `people.csv`, a line a person: `file,NAME_x,NAME_y,NAME_flag,...` is its first line, with every joint's name.
      Pixels count from 0; a flag is 0 unlabelled, 1 occluded, 2 visible, and the places of an unlabelled joint may be
      left empty.

    `train.json` and `test.json` (or `.csv`) instead divide the people. With one table one picture in ten is held back
    for testing, by a hash of its name. People without a labelled joint are no samples. An underscore in a joint's name
    becomes a space.

    A flip exchanges joints whose names differ in "left" and "right" alone. `skeleton.json` in the root says otherwise,
    and says which joints a drawing connects: `{"edges": [["neck", "tail"]], "pairs": [["left paw", "right paw"]]}`, the
    left one first; either may be absent.
    """

    title: ClassVar[str] = "Pictures with joints of one's own"
    terms: ClassVar[str] = "whatever holds for your files"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        file, divided = _table_of(self.root, split)
        table = (read_keypoints if file.suffix == ".json" else read_csv)(file, problems)
        skeleton = _skeleton(self.root / SKELETON, table)
        self.fields = {"image": Image(), "joints": Keypoints(skeleton), "box": Box()}
        chosen = (table.joints[..., 2] > 0).any(axis=1) & ~table.crowds
        some = chosen.any()
        if not divided:
            held = np.array([held_back(Path(name).with_suffix("").as_posix()) for name in table.files], bool)
            chosen &= held[table.picture] == (split == "test")
        if not (chosen.any() or problems):
            way_out = f"people for '{split}'" + (", or train and test tables that divide them" if some else "")
            problems.append(Problem(str(file), way_out, "none"))
        folder = "images/" if (self.root / "images").is_dir() else ""
        self._pictures = Files(self.root, [folder + name for name in table.files])
        self._picture_of = table.picture[chosen]
        joints, boxes = table.joints[chosen], edges_included(table.boxes[chosen])
        stated = np.isfinite(boxes).all(axis=1, keepdims=True)
        self._values = {"joints": joints, "box": np.where(stated, boxes, box_of(joints))}
        if problems:
            raise DamagedData.of(problems, opened=self)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        names = ("nose", "left paw", "right paw", "tail")
        files, rows = [], []
        for number in range(12):
            picture, joints = drawn_people(number, names, people=2)
            files.append(f"cat-{number:02}.png")
            write_picture(Path(root) / "images" / files[-1], picture)
            rows += list(np.concatenate([joints, np.full((2, 4, 1), 2)], axis=-1))
        joints = np.stack(rows).astype(np.float32)
        joints[0, 3], joints[1, 2, 2] = 0, 1
        unknown, one = np.full((len(rows), 4), np.nan), np.ones(len(rows))
        picture_of = np.repeat(np.arange(12), 2)
        edges = ((0, 1), (0, 2), (0, 3))
        table = KeypointTable(names, edges, files, picture_of, picture_of + 1, joints, unknown, one, one == 0)
        write_keypoints(Path(root) / f"{TABLE}.json", table)


def read_csv(path: str | Path, problems: list[Problem]) -> KeypointTable:
    """The table of a `people.csv`.

    Args:
        path: the file.
        problems: receives what is wrong with single lines, which are then left out.

    Raises:
        DamagedData: no file, or a first line of another form.
    """
    first, *lines = csv.reader(read_lines(path, "a table 'file,NAME_x,NAME_y,NAME_flag,...'"))
    names = [column.strip().removesuffix("_x") for column in first[1::3]]
    columns = ["file", *(f"{name}_{part}" for name in names for part in PARTS)]
    if not names or [column.strip() for column in first] != columns:
        raise DamagedData(f"{path} line 1", "'file,NAME_x,NAME_y,NAME_flag,...'", f"'{','.join(first)}'")
    rows: list[tuple[str, list[float]]] = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append((line[0].strip(), _places(line[1:], names)))
        except ValueError as error:
            problems.append(Problem(f"{path} line {number}", "a file, and x, y and a flag 0 to 2 a joint", f"{error}"))
    rows.sort(key=lambda row: row[0])
    files, picture = np.unique([file for file, _ in rows], return_inverse=True)
    joints = np.array([places for _, places in rows], np.float32).reshape(-1, len(names), 3)
    nothing = np.full(len(rows), np.nan)
    boxes = np.repeat(nothing[:, None], 4, axis=1)
    return KeypointTable(tuple(names), (), files.tolist(), picture, picture, joints, boxes, nothing, nothing == 0)


def _places(cells: Sequence[str], names: Sequence[str]) -> list[float]:
    if len(cells) != 3 * len(names):
        raise ValueError(f"{len(cells)} cells after the file")
    places: list[float] = []
    for name, x, y, flag in zip(names, cells[::3], cells[1::3], cells[2::3], strict=True):
        if float(flag) not in (0, 1, 2):
            raise ValueError(f"the flag '{flag}' of '{name}'")
        labelled = float(flag) > 0
        places += [float(x) if labelled else 0.0, float(y) if labelled else 0.0, float(flag)]
    return places


def _table_of(root: Path, split: str) -> tuple[Path, bool]:
    """The file of a split, and whether it is the split's alone."""
    for name, divided in ((split, True), (TABLE, False)):
        found = [file for suffix in (".json", ".csv") if (file := root / f"{name}{suffix}").is_file()]
        if len(found) > 1:
            raise DamagedData(found[0], f"one table '{name}'", f"also '{found[1].name}'")
        if found:
            return found[0], divided
    expected = f"this file or '{TABLE}.csv', or '{split}.json' or '{split}.csv'"
    raise DamagedData(root / f"{TABLE}.json", expected, "none")


def _skeleton(file: Path, table: KeypointTable) -> Skeleton:
    """The table's joints, with edges and pairs as the file says them, where it does."""
    names = tuple(name.replace("_", " ") for name in table.names)
    said = read_json(file) if file.is_file() else {}
    found: dict[str, tuple[tuple[int, int], ...]] = {"edges": table.edges, "pairs": pairs_by_name(names)}
    for key in found.keys() & said.keys():
        try:
            found[key] = tuple((names.index(a), names.index(b)) for a, b in said[key])
        except (ValueError, TypeError) as error:
            raise DamagedData(file, f"'{key}' as pairs of the names {', '.join(names)}", f"{error}") from None
    return Skeleton(names, **found)
