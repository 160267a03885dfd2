"""Folders of images without labels, for tasks that learn from images alone (`image-folders`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .core.files import IMAGE_SUFFIXES, list_files, normalize_name
from .core.problems import DatasetError, Problem
from .core.splits import empty_split, files_in_split, folder_of_split, read_split_list
from .dataset import Sample
from .examples import fake_jpeg
from .field_types import Image
from .stored_images import Files, StoredImages


class ImageFolders(StoredImages):
    """Images in a folder and its subfolders.

    `train.txt`, `val.txt` and `test.txt` in the root define the splits, one image per line: by file name without suffix
    (BSDS500: `100075` for `images/train/100075.jpg`), or by path if two images share a name. Without lists, the folders
    `train/`, `val/` and `test/` do. Without those, one image in ten is for testing, chosen by a hash of its path: the
    same on every machine, and adding files does not move others. If only one of `val` and `test` exists, it serves as
    both.
    """

    title: ClassVar[str] = "Image folders"
    terms: ClassVar[str] = "license of your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image()}
        problems: list[Problem] = []
        stated = read_split_list(self.root, split, "the name of an image per line", self.skipped)
        if stated:
            files = self._files_of_list(*stated, problems)
        elif (folder := folder_of_split(self.root, split)) is not None:
            files = [f"{folder}/{file}" for file in list_files(self.root / folder, IMAGE_SUFFIXES, self.skipped)]
        else:
            all_files = list_files(self.root, IMAGE_SUFFIXES, self.skipped)
            files = files_in_split(all_files, split)
            if not files:
                problems.append(empty_split(self.root, "images", split, len(all_files)))
        if not (files or problems):
            problems.append(empty_split(self.root, "images", split))
        self._encoded = Files(self.root, files)
        self._count = len(files)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def _files_of_list(self, list_file: Path, lines: list[str], problems: list[Problem]) -> list[str]:
        by_name: dict[str, list[str]] = {}
        for file in list_files(self.root, IMAGE_SUFFIXES, self.skipped):
            path = file.rpartition(".")[0]
            for name in {file, path, path.rpartition("/")[2]}:
                by_name.setdefault(normalize_name(name), []).append(file)
        files = []
        for name in lines:
            match by_name.get(name, []):
                case [file]:
                    files.append(file)
                case []:
                    problems.append(Problem(str(self.root / name), f"the image that {list_file.name} lists", "none"))
                case [first, second, *_]:
                    problems.append(Problem(str(list_file), f"one image named '{name}'", f"{first}, {second}"))
        return files

    def __len__(self) -> int:
        return self._count

    def with_image(self, image: np.ndarray, index: int) -> Sample:
        return {"image": image}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            names = [f"{10 * index + number:03}" for number in range(2)]
            for number, name in enumerate(names):
                path = Path(root) / "images" / split / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(fake_jpeg(10 * index + number))
            (Path(root) / f"{split}.txt").write_text("\n".join(names) + "\n")
