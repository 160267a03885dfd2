"""Images with one score each: the base of the memorability datasets, and a layout for your own (`score-folders`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import normalize_name, read_lines
from ..core.problems import DatasetError, Problem
from ..core.splits import empty_split, in_split, read_split_list
from ..dataset import Sample
from ..examples import fake_jpeg
from ..field_types import FieldType, Image, Scalar
from ..formats.text import read_table
from ..stored_images import EncodedSource, Files, StoredImages

Rating = tuple[str, float]
"""Name of an image and its score."""


class ScoredImages(StoredImages):
    """Images with one memorability score each, in [0, 1]. Subclasses call `set_scores`."""

    _scores: np.ndarray

    def set_scores(self, encoded: EncodedSource, scores: Sequence[float], problems: Sequence[Problem]) -> None:
        """Set the images and their scores.

        Raises:
            DatasetError: there are problems; its `dataset` can be read all the same.
        """
        self.fields: dict[str, FieldType] = {"image": Image(), "score": Scalar()}
        self._encoded, self._scores = encoded, np.array(scores, np.float64)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def __len__(self) -> int:
        return len(self._scores)

    def with_image(self, image: np.ndarray, index: int) -> Sample:
        return {"image": image, "score": np.array(self._scores[index])}


def read_ratings(file: Path, problems: list[Problem]) -> list[Rating]:
    """Read a list of scores: lines `NAME SCORE` with one space and no header, as LaMem and LNSIM have them.

    The last space separates, so that names may contain spaces.

    Args:
        file: the list.
        problems: receives lines that are not as described, which are omitted.

    Raises:
        DatasetError: the file is missing, empty, or not text.
    """
    expected = "lines 'NAME SCORE' with a score from 0 to 1"
    parts = (line.rpartition(" ") for line in read_lines(file, expected))
    return _checked(file, ((name, score) for name, _, score in parts), expected, problems)


def _checked(file: Path, rows: Iterable[tuple[str, str]], expected: str, problems: list[Problem]) -> list[Rating]:
    """The rows whose second value is a score, each image once; others become problems."""
    ratings: dict[str, float] = {}
    for name, text in rows:
        try:
            score = float(text)
        except ValueError:
            score = np.nan
        if not (name and 0 <= score <= 1):
            problems.append(Problem(str(file), expected, f"'{name} {text}'"))
        elif name in ratings:
            problems.append(Problem(str(file), "every image once", f"'{name}' again"))
        else:
            ratings[name] = score
    return list(ratings.items())


class ScoreFolders(ScoredImages):
    """Your own images with `scores.csv` in the root: one line `NAME,SCORE` per image, with a score from 0 to 1.

    NAME is the path of the image relative to the root. A first line `name,score` is optional: it is recognized by its
    second value, which is not a number. `train.txt`, `val.txt` and `test.txt` (one NAME per line) define the splits;
    without them, one image in ten is for testing, chosen by a hash of its name. If only one of `val` and `test`
    exists, it serves as both.
    """

    title: ClassVar[str] = "Folder of images with scores"
    terms: ClassVar[str] = "license of your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        file = self.root / "scores.csv"
        ratings = _read_csv(file, problems)
        stated = read_split_list(self.root, split, "the name of an image per line", self.skipped)
        if stated:
            list_file, names = stated
            known = dict(ratings)
            for name in names:
                if name not in known:
                    problems.append(Problem(str(list_file), "names that scores.csv lists", f"'{name}'"))
            chosen = [(name, known[name]) for name in names if name in known]
        else:
            chosen = list(compress(ratings, in_split([name for name, _ in ratings], split)))
        if not (chosen or problems):
            problems.append(empty_split(self.root, "images", split, 0 if stated else len(ratings)))
        self.set_scores(Files(self.root, [name for name, _ in chosen]), [score for _, score in chosen], problems)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        rows = []
        for number, split in enumerate(cls.splits):
            names = [f"images/{split}-{index}.jpg" for index in range(3)]
            for index, name in enumerate(names):
                path = Path(root) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(fake_jpeg(10 * number + index))
                rows.append(f"{name},{0.3 + 0.1 * index + 0.02 * number:.2f}")
            (Path(root) / f"{split}.txt").write_text("\n".join(names) + "\n")
        (Path(root) / "scores.csv").write_text("\n".join(["name,score", *rows]) + "\n")


def _read_csv(file: Path, problems: list[Problem]) -> list[Rating]:
    """Read lines `NAME,SCORE`, with an optional header."""
    expected = "lines 'NAME,SCORE' with a score from 0 to 1"
    table = read_table(file, expected)
    rows = [(normalize_name(row[0]), ",".join(row[1:])) for row in table]
    if len(table[0]) == 2 and not _is_number(table[0][1]):
        rows = rows[1:]
    return _checked(file, rows, expected, problems)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
