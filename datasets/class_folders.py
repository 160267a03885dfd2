"""Folders of images, one per class: a layout for your own classification data (`class-folders`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .field_types import ClassLabel, Image
from .folders import IMAGE_SUFFIXES, is_test_sample
from .formats.reading import read_lines
from .labeled_images import EncodedImages, Files, fake_jpeg, list_class_folders
from .problems import DatasetError, Problem


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
        has_split_folders = training.is_dir() and any(entry.is_dir() for entry in training.iterdir())
        folder = training if has_split_folders else self.root
        classes = list_class_folders(folder, IMAGE_SUFFIXES)
        if not any(classes.values()):
            raise DatasetError(folder, "a folder of images for each class", "none")
        names = sorted(classes)
        self.fields = {"image": Image(), "category": ClassLabel(tuple(names))}
        for name in names:
            if not classes[name]:
                problems.append(Problem(str(folder / name), "at least one image", "none"))
        if has_split_folders:
            files = self._files_of_folder(split, classes, problems)
        else:
            files = self._files_of_list(split, [f"{name}/{file}" for name in names for file in classes[name]])
        depth = 1 if has_split_folders else 0
        labeled = [file for file in files if file.split("/")[depth] in classes]
        for folder in sorted({"/".join(file.split("/")[: depth + 1]) for file in set(files) - set(labeled)}):
            expected = f"one of the {len(names)} classes of the training split"
            problems.append(Problem(str(self.root / folder), expected, "another class"))
        if not labeled:
            problems.append(Problem(str(self.root / split), f"images for '{split}'", "none"))
        labels = {name: label for label, name in enumerate(names)}
        self._encoded = Files(self.root, labeled)
        self._categories = np.array([labels[file.split("/")[depth]] for file in labeled], np.int64)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def _files_of_folder(self, split: str, training: dict[str, list[str]], problems: list[Problem]) -> list[str]:
        folder = next((name for name in SPLIT_FALLBACKS[split] if (self.root / name).is_dir()), None)
        if folder is None:
            problems.append(Problem(str(self.root / split), "this folder, or 'val' or 'test' instead", "neither"))
            return []
        classes = training if folder == "train" else list_class_folders(self.root / folder, IMAGE_SUFFIXES)
        return [f"{folder}/{name}/{file}" for name, files in classes.items() for file in files]

    def _files_of_list(self, split: str, files: list[str]) -> list[str]:
        lists = [self.root / f"{name}.txt" for name in SPLIT_FALLBACKS[split]]
        list_file = next((path for path in lists if path.is_file()), None)
        if list_file is not None:
            return read_lines(list_file, "lines like 'cat/001.jpg'")
        return [file for file in files if is_test_sample(file.rpartition(".")[0]) == (split != "train")]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            lines = [f"{name}/{split}-{number}.jpg" for name in ("arrow", "heart") for number in range(2)]
            for number, line in enumerate(lines):
                path = Path(root) / line
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(fake_jpeg(10 * index + number))
            (Path(root) / f"{split}.txt").write_text("\n".join(lines) + "\n")


SPLIT_FALLBACKS = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}
"""Split to the folders or lists that serve it; the first existing one is used."""
