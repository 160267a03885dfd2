"""Folders of images, one per class: a layout for your own classification data (`class-folders`)."""

from __future__ import annotations

from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import IMAGE_SUFFIXES, is_hidden, normalize_name
from ..core.problems import DatasetError, Problem
from ..core.splits import SPLIT_FALLBACKS, empty_split, files_in_split, read_split_list
from ..examples import fake_jpeg
from ..field_types import ClassLabel, Image
from ..stored_images import EncodedImages, Files, list_class_folders

SPLIT_WORDS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})
"""Names of folders, in lower case, that are splits rather than classes."""


class ClassFolders(EncodedImages):
    """Images in one folder per class.

    The root contains the class folders, or `train/` and `val/` or `test/` with class folders in each; images may be
    in subfolders. The classes are the sorted folder names of the training split, in every split.

    Without `train/`, one image in ten is for testing, chosen by a hash of its name: the same on every machine, and
    adding files does not move others. `train.txt`, `val.txt` and `test.txt` (lines like `cat/001.jpg`) in the root
    override the hash. If only one of `val` and `test` exists, it serves as both.
    """

    title: ClassVar[str] = "Folders of images, one per class"
    terms: ClassVar[str] = "license of your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        training = self.root / "train"
        has_split_folders = training.is_dir() and any(
            entry.is_dir() and not is_hidden(entry.name) for entry in training.iterdir()
        )
        folder = training if has_split_folders else self.root
        classes = list_class_folders(folder, IMAGE_SUFFIXES, self.skipped)
        if not any(classes.values()):
            problem = Problem(str(folder), "a folder of images for each class", "none")
            raise DatasetError.from_problems([problem, *self.skipped])
        names = sorted(classes)
        self.fields = {"image": Image(), "category": ClassLabel(tuple(names))}
        if len(names) == 1 or {name.lower() for name in names} <= SPLIT_WORDS:
            problems.append(_wrong_level(folder, classes))
        for name in names:
            if not classes[name]:
                problems.append(Problem(str(folder / name), "at least one image", "none"))
        if has_split_folders:
            files = self._files_of_folder(split, classes, problems)
        else:
            files = self._files_of_root(split, [file for name in names for file in classes[name]])
        depth = 1 if has_split_folders else 0
        categories = [normalize_name(file.split("/")[depth]) for file in files]
        known = [category in classes for category in categories]
        unknown = {
            "/".join(file.split("/")[: depth + 1]) for file, is_known in zip(files, known, strict=True) if not is_known
        }
        for folder in sorted(unknown):
            expected = f"one of the {len(names)} classes of the training split"
            problems.append(Problem(str(self.root / folder), expected, "another class"))
        if not any(known):
            count = 0 if has_split_folders else sum(map(len, classes.values()))
            problems.append(empty_split(self.root, "images", split, count))
        labels = {name: label for label, name in enumerate(names)}
        self._encoded = Files(self.root, list(compress(files, known)))
        self._categories = np.array([labels[category] for category in compress(categories, known)], np.int64)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def _files_of_folder(self, split: str, training: dict[str, list[str]], problems: list[Problem]) -> list[str]:
        folder = next((name for name in SPLIT_FALLBACKS[split] if (self.root / name).is_dir()), None)
        if folder is None:
            problems.append(Problem(str(self.root / split), "this folder, or 'val' or 'test' instead", "neither"))
            return []
        is_training = folder == "train"
        classes = training if is_training else list_class_folders(self.root / folder, IMAGE_SUFFIXES, self.skipped)
        return [f"{folder}/{file}" for files in classes.values() for file in files]

    def _files_of_root(self, split: str, files: list[str]) -> list[str]:
        stated = read_split_list(self.root, split, "lines like 'cat/001.jpg'", self.skipped)
        if stated:
            return stated[1]
        return files_in_split(files, split, [file.partition("/")[0] for file in files])

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            lines = [f"{name}/{split}-{number}.jpg" for name in ("arrow", "heart") for number in range(2)]
            for number, line in enumerate(lines):
                path = Path(root) / line
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(fake_jpeg(10 * index + number))
            (Path(root) / f"{split}.txt").write_text("\n".join(lines) + "\n")


def _wrong_level(folder: Path, classes: dict[str, list[str]]) -> Problem:
    """The problem that the folders are not classes, most often because the root is one level too high."""
    found = f"only {', '.join(sorted(classes))}"
    inner = sorted({file.split("/")[1] for files in classes.values() for file in files if file.count("/") > 1})
    if inner:
        names = ", ".join(inner[:5]) + (", ..." if len(inner) > 5 else "")
        found += f", with {names} in it: if these are the classes, move them up or give the folder around them as root"
    return Problem(str(folder), "one folder for each of at least two classes, or 'train' and 'val' with these", found)
