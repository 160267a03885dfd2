"""Folders of image pairs, matched by file name: a layout for your own translation data (`matched-folders`)."""

from __future__ import annotations

from functools import partial
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import files_by_name
from ..core.problems import DatasetError, Problem, read_parts
from ..core.splits import SPLIT_FALLBACKS, empty_split, in_split
from ..dataset import Dataset, Sample, validate_all
from ..field_types import Image
from ..formats.image import IMAGE_SUFFIXES, read_image, write_image
from ..restoration.paired import fake_pair


class MatchedImages(Dataset):
    """Two files per sample, matched by their names without suffix; files may be in subfolders.

    The root contains the two folders; or `train/`, `val/` and `test/` with the two in each; or the two with `train/`,
    `val/` and `test/` in each. If only one of `val` and `test` exists, it serves as both. Without such folders, one
    name in ten is for testing, chosen by a hash of the name: the same on every machine, and adding files does not move
    others.

    Attributes:
        folder_names: names of the two folders in lower case; capital letters are accepted.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    folder_names: ClassVar[tuple[str, str]]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        (first_folder, first_is_split), (second_folder, second_is_split) = (
            _split_folder(self.root, name, split) for name in self.folder_names
        )
        problems: list[Problem] = []
        first, second = (
            files_by_name(self.root, folder, IMAGE_SUFFIXES, problems, self.skipped)
            for folder in (first_folder, second_folder)
        )
        names = sorted(first.keys() & second.keys())
        if not names:
            expected = f"files of one name in '{first_folder}' and '{second_folder}'"
            found = f"no pair: {_describe_files(first, first_folder)} and {_describe_files(second, second_folder)}"
            raise DatasetError.from_problems([*problems, Problem(str(self.root), expected, found)])
        for files, others, folder in ((first, second, second_folder), (second, first, first_folder)):
            for name in sorted(files.keys() - others.keys()):
                problems.append(Problem(str(self.root / files[name]), f"a file of the same name in '{folder}'", "none"))
        if not (first_is_split or second_is_split):
            all_names, names = names, list(compress(names, in_split(names, split)))
            if not names:
                problems.append(empty_split(self.root, "pairs", split, len(all_names)))
        self._pairs = np.array([(first[name], second[name]) for name in names], np.str_).reshape(-1, 2)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def __len__(self) -> int:
        return len(self._pairs)

    def sample_name(self, index: int) -> str:
        return str(self._pairs[index, 0])

    def files(self, index: int) -> tuple[Path, Path]:
        """The two files of a sample, in the order of `folder_names`."""
        first, second = self._pairs[index]
        return self.root / str(first), self.root / str(second)

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        return validate_all(cls, root)


class MatchedFolders(MatchedImages):
    """Images in `a/` and images in `b/`, for translation in either direction.

    Images are read as 8-bit RGB as stored: gray is repeated, 16 bits are reduced to their upper 8, and EXIF orientation
    is not applied. The two images of a pair must have the same size.
    """

    title: ClassVar[str] = "Two folders of images with the same names"
    terms: ClassVar[str] = "license of your files"
    folder_names: ClassVar[tuple[str, str]] = ("a", "b")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.fields = {"a": Image(), "b": Image()}
        super().__init__(root, split)

    def read(self, index: int) -> Sample:
        first, second = self.files(index)
        images = read_parts(partial(read_image, first), partial(read_image, second))
        require_one_size(images[0], images[1], second, self.sample_name(index))
        return {"a": images[0], "b": images[1]}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in range(2):
                for folder, image in zip(cls.folder_names, fake_pair(10 * index + number), strict=True):
                    file = Path(root) / folder / split / f"{number + 1}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_image(file, image)


def require_one_size(first: np.ndarray, second: np.ndarray, file: Path, partner: str) -> None:
    """Check that two images have the same size.

    Args:
        first, second: the images of a pair, (H, W, ...).
        file: file of the second one.
        partner: name of the first one for the error message.

    Raises:
        DatasetError: the sizes differ.
    """
    if first.shape[:2] != second.shape[:2]:
        expected, found = (f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (first, second))
        raise DatasetError(file, f"the size of {partner}, {expected}", found)


def folder_of_split(parent: Path, split: str) -> str | None:
    """Name of the folder in `parent` for a split, or for its fallback; None if there are no such folders."""
    if not any((parent / name).is_dir() for name in SPLIT_FALLBACKS):
        return None
    return next((name for name in SPLIT_FALLBACKS[split] if (parent / name).is_dir()), split)


def _split_folder(root: Path, name: str, split: str) -> tuple[str, bool]:
    """Folder of a split, relative to the root, and whether it contains only this split."""
    outer = folder_of_split(root, split)
    parent = root / (outer or ".")
    entries = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    name = next((entry for entry in entries if entry.lower() == name), name)
    inner = None if outer else folder_of_split(parent / name, split)
    return "/".join(part for part in (outer, name, inner) if part), bool(outer or inner)


def _describe_files(files: dict[str, str], folder: str) -> str:
    return f"{len(files)} in '{folder}' such as {next(iter(files.values()))}" if files else f"none in '{folder}'"
