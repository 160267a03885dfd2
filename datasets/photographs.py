"""Any folder of photographs, with nothing said about them: some tasks learn from pictures alone."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .class_folders import STANDS_IN
from .dataset import Sample
from .fields import Image
from .folders import PICTURE_SUFFIXES, held_back
from .formats.reading import read_lines
from .labelled_pictures import Files, StoredPictures, drawn_jpeg
from .problems import DamagedData, Problem


class Photographs(StoredPictures):
    """Photographs in a folder and the folders below it.

    `train.txt`, `val.txt` and `test.txt` in the root say which photograph belongs where, one a line: by its file's name
    without suffix (BSDS500: `100075` for `images/train/100075.jpg`), or by its path where two share a name. Without
    lists, the folders `train/`, `val/` and `test/` do. Without those, one photograph in ten is held back for testing,
    chosen by a hash of its path: the same on every machine, and adding files moves no other file. Where only one of
    `val` and `test` is there, it is both.
    """

    title: ClassVar[str] = "Folders of photographs"
    terms: ClassVar[str] = "whatever holds for your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image()}
        problems: list[Problem] = []
        if any((self.root / f"{name}.txt").is_file() for name in self.splits):
            files = self._of_list(split, problems)
        elif any((self.root / name).is_dir() for name in self.splits):
            folder = next((name for name in STANDS_IN[split] if (self.root / name).is_dir()), split)
            files = [f"{folder}/{file}" for file in photographs_below(self.root / folder)]
        else:
            found = photographs_below(self.root)
            files = [file for file in found if held_back(file.rpartition(".")[0]) == (split != "train")]
        if not (files or problems):
            problems.append(Problem(str(self.root), f"photographs for '{split}'", "none"))
        self._encoded = Files(self.root, files)
        self._count = len(files)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def _of_list(self, split: str, problems: list[Problem]) -> list[str]:
        lists = [self.root / f"{name}.txt" for name in STANDS_IN[split]]
        listed = next((path for path in lists if path.is_file()), lists[0])
        by_name: dict[str, list[str]] = {}
        for file in photographs_below(self.root):
            path = file.rpartition(".")[0]
            for name in {file, path, path.rpartition("/")[2]}:
                by_name.setdefault(name, []).append(file)
        files = []
        for name in read_lines(listed, "a photograph's name per line"):
            match by_name.get(name, []):
                case [file]:
                    files.append(file)
                case []:
                    problems.append(Problem(str(self.root / name), f"the photograph that {listed.name} names", "none"))
                case [first, second, *_]:
                    problems.append(Problem(str(listed), f"one photograph of the name '{name}'", f"{first}, {second}"))
        return files

    def __len__(self) -> int:
        return self._count

    def with_picture(self, picture: np.ndarray, index: int) -> Sample:
        return {"image": picture}

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            names = [f"{10 * place + number:03}" for number in range(2)]
            for number, name in enumerate(names):
                path = Path(root) / "images" / split / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn_jpeg(10 * place + number))
            (Path(root) / f"{split}.txt").write_text("\n".join(names) + "\n")


def photographs_below(folder: Path) -> list[str]:
    """Every picture in a folder and below it, relative to it with forward slashes, sorted; hidden ones are left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
