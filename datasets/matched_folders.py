"""Anyone's own pairs of pictures, in two folders and of one name."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .class_folders import STANDS_IN
from .dataset import Dataset, Sample, problems_of
from .fields import Image
from .folders import held_back
from .formats.picture import read_picture, write_picture
from .paired import drawn_pair
from .photographs import photographs_below
from .problems import DamagedData, Problem


class MatchedPictures(Dataset):
    """Two files a sample, matched by their names without suffix; names may lie in subfolders.

    The root holds the two folders; or `train/`, `val/` and `test/` that each hold the two; or the two each hold
    `train/`, `val/` and `test/`. Where only one of `val` and `test` is there, it is both. Without such folders one name
    in ten is held back for testing, chosen by a hash of the name: the same on every machine, and adding files moves no
    other file.

    Attributes:
        sides: the names of the two folders, in lower case; capital letters are found as well.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    sides: ClassVar[tuple[str, str]]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        places = [_place(self.root, side, split) for side in self.sides]
        problems: list[Problem] = []
        first, second = (_by_name(self.root, folder, problems) for folder, _ in places)
        names = sorted(first.keys() & second.keys())
        if not names:
            wanted = f"files of one name in '{places[0][0]}' and '{places[1][0]}'"
            found = (_count(files, folder) for files, (folder, _) in zip((first, second), places, strict=True))
            raise DamagedData.of([*problems, Problem(str(self.root), wanted, f"no pair: {' and '.join(found)}")])
        for files, others, (folder, _) in ((first, second, places[1]), (second, first, places[0])):
            for name in sorted(files.keys() - others.keys()):
                problems.append(Problem(str(self.root / files[name]), f"a file of the same name in '{folder}'", "none"))
        if not any(divided for _, divided in places):
            names = [name for name in names if held_back(name) == (split != "train")]
        if not names:
            expected = f"pairs for '{split}': without folders 'train' and 'test', one name in ten is held back"
            problems.append(Problem(str(self.root), expected, "none"))
        self._pairs = np.array([(first[name], second[name]) for name in names], np.str_).reshape(-1, 2)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def __len__(self) -> int:
        return len(self._pairs)

    def label(self, index: int) -> str:
        return str(self._pairs[index, 0])

    def files(self, index: int) -> tuple[Path, Path]:
        """The two files of a sample, in the order of `sides`."""
        first, second = self._pairs[index]
        return self.root / str(first), self.root / str(second)

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)


class MatchedFolders(MatchedPictures):
    """Pictures in `a/` and pictures in `b/`, translated from the one to the other.

    Every picture is read as 8-bit RGB of the pixels that are stored: grey is repeated, 16 bits are cut to their upper
    8, and an EXIF orientation is not applied. The two pictures of a pair have one size.
    """

    title: ClassVar[str] = "Two folders of pictures of the same names"
    terms: ClassVar[str] = "whatever holds for your files"
    sides: ClassVar[tuple[str, str]] = ("a", "b")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.fields = {"a": Image(), "b": Image()}
        super().__init__(root, split)

    def read(self, index: int) -> Sample:
        first, second = self.files(index)
        pictures = read_picture(first), read_picture(second)
        require_one_size(pictures[0], pictures[1], second, self.label(index))
        return {"a": pictures[0], "b": pictures[1]}

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            for number in range(2):
                for side, picture in zip(cls.sides, drawn_pair(10 * place + number), strict=True):
                    file = Path(root) / side / split / f"{number + 1}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_picture(file, picture)


def require_one_size(first: np.ndarray, second: np.ndarray, file: Path, partner: str) -> None:
    """Refuse two pictures, (H, W, ...), of different sizes.

    Args:
        first, second: the pixels of a pair.
        file: the second one's.
        partner: what to call the first one.
    """
    if first.shape[:2] != second.shape[:2]:
        expected, found = (f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (first, second))
        raise DamagedData(file, f"the size of {partner}, {expected}", found)


def folder_of_split(parent: Path, split: str) -> str | None:
    """The folder inside `parent` that serves a split, perhaps by standing in; None where it holds no such folders."""
    if not any((parent / name).is_dir() for name in STANDS_IN):
        return None
    return next((name for name in STANDS_IN[split] if (parent / name).is_dir()), split)


def _place(root: Path, side: str, split: str) -> tuple[str, bool]:
    """A side's folder relative to the root, and whether folders say what belongs to which split."""
    outer = folder_of_split(root, split)
    parent = root / (outer or ".")
    entries = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    name = next((entry for entry in entries if entry.lower() == side), side)
    inner = None if outer else folder_of_split(parent / name, split)
    return "/".join(part for part in (outer, name, inner) if part), bool(outer or inner)


def _by_name(root: Path, folder: str, problems: list[Problem]) -> dict[str, str]:
    """From each name, without suffix and relative to the folder, to its file relative to the root."""
    files: dict[str, str] = {}
    for inside in photographs_below(root / folder):
        name = inside.rpartition(".")[0]
        if name in files:
            problems.append(Problem(str(root / folder / inside), "one file of each name", f"also '{files[name]}'"))
        files[name] = f"{folder}/{inside}"
    return files


def _count(files: dict[str, str], folder: str) -> str:
    return f"{len(files)} in '{folder}' such as {next(iter(files.values()))}" if files else f"none in '{folder}'"
