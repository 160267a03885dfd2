"""Anyone's own pictures to name, one folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .fields import Category, Image
from .folders import PICTURE_SUFFIXES, held_back
from .formats.reading import read_lines
from .labelled_pictures import EncodedPictures, Files, drawn_jpeg, picture_names
from .problems import DamagedData, Problem


class ClassFolders(EncodedPictures):
    """Pictures named by the folder that they lie in.

    The root holds the class folders, or `train/` and `val/` or `test/` that each hold them; pictures may lie deeper.
    The names are those of the training split's folders, sorted; a class that is not tested keeps its label.

    Without `train/`, one picture in ten is held back for testing, chosen by a hash of its name: the same on every
    machine, and adding files moves no other file. `train.txt`, `val.txt` and `test.txt` (lines like `cat/001.jpg`) in
    the root overrule the hash. Where only one of `val` and `test` is there, it is both.
    """

    title: ClassVar[str] = "Folders of pictures, one for each class"
    terms: ClassVar[str] = "whatever holds for your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        training = self.root / "train"
        divided = training.is_dir() and any(entry.is_dir() for entry in training.iterdir())
        folder = training if divided else self.root
        classes = picture_names(folder, PICTURE_SUFFIXES)
        if not any(classes.values()):
            raise DamagedData(folder, "a folder of pictures for each class", "none")
        names = sorted(classes)
        self.fields = {"image": Image(), "category": Category(tuple(names))}
        for name in names:
            if not classes[name]:
                problems.append(Problem(str(folder / name), "at least one picture", "none"))
        if divided:
            files = self._of_folders(split, classes, problems)
        else:
            files = self._of_lists(split, [f"{name}/{file}" for name in names for file in classes[name]])
        depth = 1 if divided else 0
        known = [file for file in files if file.split("/")[depth] in classes]
        for stray in sorted({"/".join(file.split("/")[: depth + 1]) for file in set(files) - set(known)}):
            expected = f"one of the {len(names)} classes to train on"
            problems.append(Problem(str(self.root / stray), expected, "a class of its own"))
        if not known:
            problems.append(Problem(str(self.root / split), f"pictures for '{split}'", "none"))
        labels = {name: label for label, name in enumerate(names)}
        self._encoded = Files(self.root, known)
        self._categories = np.array([labels[file.split("/")[depth]] for file in known], np.int64)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def _of_folders(self, split: str, training: dict[str, list[str]], problems: list[Problem]) -> list[str]:
        folder = next((name for name in STANDS_IN[split] if (self.root / name).is_dir()), None)
        if folder is None:
            problems.append(Problem(str(self.root / split), "this folder, or 'val' or 'test' in its place", "neither"))
            return []
        classes = training if folder == "train" else picture_names(self.root / folder, PICTURE_SUFFIXES)
        return [f"{folder}/{name}/{file}" for name, files in classes.items() for file in files]

    def _of_lists(self, split: str, files: list[str]) -> list[str]:
        lists = [self.root / f"{name}.txt" for name in STANDS_IN[split]]
        listed = next((path for path in lists if path.is_file()), None)
        if listed is not None:
            return read_lines(listed, "lines like 'cat/001.jpg'")
        return [file for file in files if held_back(file.rpartition(".")[0]) == (split != "train")]

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            lines = [f"{name}/{split}-{number}.jpg" for name in ("arrow", "heart") for number in range(2)]
            for number, line in enumerate(lines):
                path = Path(root) / line
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn_jpeg(10 * place + number))
            (Path(root) / f"{split}.txt").write_text("\n".join(lines) + "\n")


STANDS_IN = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}
"""Which folder or list serves a split, the first that is there."""
