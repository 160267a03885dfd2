"""Two files per sample, matched by name: layouts for your own pairs (`paired-folders`, `label-folders`), and the base
class of the official restoration datasets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from functools import partial
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from .core.files import IMAGE_SUFFIXES, files_by_name, read_lines
from .core.geometry import Size
from .core.problems import DatasetError, Problem, read_parts, require_same_size
from .core.splits import empty_split, folder_of_split, in_split, read_split_list
from .dataset import FileDataset, Sample
from .examples import fake_labels, fake_pair
from .field_types import Image, SegmentationMask
from .formats.image import read_image, write_image
from .formats.png import read_labels

UNLABELED = 255

Pair = tuple[str, str]
"""(degraded file, clean file), relative to the root, with forward slashes."""


class MatchedFiles(FileDataset):
    """Two files per sample, matched by their names without suffix; files may be in subfolders.

    The root contains the two folders; or `train/`, `val/` and `test/` with the two in each; or the two with `train/`,
    `val/` and `test/` in each. If only one of `val` and `test` exists, it serves as both. Without such folders,
    `train.txt`, `val.txt` and `test.txt` in the root (names without suffix, one per line) define the splits. Without
    those, one name in ten is for testing, chosen by a hash of the name: the same on every machine, and adding files
    does not move others.

    Attributes:
        folder_names: names of the two folders in lower case; capital letters are accepted. `folders` replaces them by
            two paths relative to the root.
        suffixes: suffixes of the files in the first and in the second folder.
    """

    terms: ClassVar[str] = "license of your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    folder_names: tuple[str, str]
    suffixes: ClassVar[tuple[Collection[str], Collection[str]]] = (IMAGE_SUFFIXES, IMAGE_SUFFIXES)

    def __init__(self, root: str | Path, split: str = "train", folders: tuple[str, str] | None = None) -> None:
        super().__init__(root, split)
        self.folder_names = folders or self.folder_names
        (first_folder, first_is_split), (second_folder, second_is_split) = (
            _split_folder(self.root, name, split) for name in self.folder_names
        )
        problems: list[Problem] = []
        first, second = (
            files_by_name(self.root, folder, suffixes, problems, self.skipped)
            for folder, suffixes in zip((first_folder, second_folder), self.suffixes, strict=True)
        )
        names = sorted(first.keys() & second.keys())
        if not names:
            expected = f"files of one name in '{first_folder}' and '{second_folder}'"
            found = f"no pair: {_describe_files(first, first_folder)} and {_describe_files(second, second_folder)}"
            raise DatasetError.from_problems([*problems, Problem(str(self.root), expected, found), *self.skipped])
        for files, others, folder in ((first, second, second_folder), (second, first, first_folder)):
            for name in sorted(files.keys() - others.keys()):
                problems.append(Problem(str(self.root / files[name]), f"a file of the same name in '{folder}'", "none"))
        if not (first_is_split or second_is_split):
            all_names, names = names, self._names_of_split(names, problems)
            if not names:
                problems.append(empty_split(self.root, "pairs", split, len(all_names)))
        pairs = [(first[name], second[name]) for name in names]
        self.check(pairs, problems)
        self.set_files(pairs, problems)

    def _names_of_split(self, names: list[str], problems: list[Problem]) -> list[str]:
        """The names of this split, by its list or by the hash."""
        stated = read_split_list(self.root, self.split, "a name per line", self.skipped)
        if stated is None:
            return list(compress(names, in_split(names, self.split)))
        file, lines = stated
        known = set(names)
        expected = f"the files that {file.name} lists"
        problems += [Problem(str(self.root / name), expected, "none") for name in lines if name not in known]
        return [name for name in lines if name in known]

    def check(self, pairs: list[tuple[str, str]], problems: list[Problem]) -> None:
        """Add what else is wrong with the dataset; called when its pairs of files are known."""


class PairedFolders(MatchedFiles):
    """Pairs of images of one size: in `input/` (degraded) and `target/` (clean), or in `a/` and `b/`.

    The fields are `degraded` and `image`, as restoration requires, or `a` and `b`; translation takes either, in either
    direction.
    """

    title: ClassVar[str] = "Two folders of images with the same names"
    layouts: ClassVar[dict[tuple[str, str], tuple[str, str]]] = {
        ("input", "target"): ("degraded", "image"),
        ("a", "b"): ("a", "b"),
    }
    """Names of the folders to names of the fields."""

    def __init__(self, root: str | Path, split: str = "train", folders: tuple[str, str] | None = None) -> None:
        parent = Path(root) / (folder_of_split(Path(root), split) or ".")
        present = {entry.name.lower() for entry in parent.iterdir()} if parent.is_dir() else set()
        self.folder_names = next((names for names in self.layouts if present & set(names)), ("a", "b"))
        self.fields = {name: Image() for name in self.layouts[("input", "target") if folders else self.folder_names]}
        super().__init__(root, split, folders)

    def read(self, index: int) -> Sample:
        first, second = (self.root / name for name in self.files(index))
        images = read_parts(partial(read_image, first), partial(read_image, second))
        require_same_size(images[0], images[1], second, self.sample_name(index))
        return dict(zip(self.fields, images, strict=True))

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in range(2):
                for folder, image in zip(("input", "target"), fake_pair(10 * index + number), strict=True):
                    write_image(Path(root) / folder / split / f"{number + 1}.png", image)


class LabelFolders(MatchedFiles):
    """Label maps in `labels/`, images in `images/`, and the classes in `classes.txt`.

    A label map is an 8-bit PNG with one channel, or with a palette, whose index is then the class; 255 is unlabeled.
    `classes.txt` in the root contains the names of the classes from 0 on, one per line; empty lines are ignored.
    """

    title: ClassVar[str] = "Folders of label maps and images"
    folder_names = ("labels", "images")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        class_file = Path(root) / "classes.txt"
        names = tuple(read_lines(class_file, "the names of the classes, one per line from class 0 on"))
        if len(names) > UNLABELED or len(set(names)) < len(names):
            expected = f"at most {UNLABELED} names, all different"
            raise DatasetError(class_file, expected, f"{len(names)} names, {len(set(names))} of them different")
        self._labels = SegmentationMask(names, UNLABELED)
        self.fields = {"labels": self._labels, "image": Image()}
        super().__init__(root, split)

    def read(self, index: int) -> Sample:
        stored, pixels = (self.root / name for name in self.files(index))
        image, labels = read_parts(
            partial(read_image, pixels), partial(read_labels, stored, len(self._labels.names), UNLABELED)
        )
        require_same_size(image, labels, stored, pixels.relative_to(self.root).as_posix())
        return {"labels": labels, "image": image}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in range(2):
                labels, image = fake_labels(10 * index + number, UNLABELED)
                for folder, pixels in zip(cls.folder_names, (labels, image), strict=True):
                    write_image(Path(root) / split / folder / f"{number + 1}.png", pixels)
        (Path(root) / "classes.txt").write_text("ground\nshape\n")


class PairedImages(FileDataset):
    """A degraded and a clean image per sample. Subclasses implement `pairs`.

    Attributes:
        layout: example of the files of a pair, for the error message if there is no pair.
    """

    layout: ClassVar[Pair]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"degraded": Image(), "image": Image()}
        pairs = self.pairs()
        expected = f"pairs for '{split}' such as {self.layout[0]} and {self.layout[1]}"
        self.set_files(pairs, [] if pairs else [Problem(str(self.root), expected, "none")])

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """List the degraded and the clean file of every sample of the split."""

    def read(self, index: int) -> Sample:
        degraded, clean = (self.root / name for name in self.files(index))
        degraded_image, image = read_parts(partial(read_image, degraded), partial(read_image, clean))
        degraded_image = self.fit(degraded_image, degraded, (image.shape[0], image.shape[1]))
        require_same_size(image, degraded_image, degraded, "the clean image")
        return {"degraded": degraded_image, "image": image}

    def fit(self, image: np.ndarray, file: Path, size: Size) -> np.ndarray:
        """Return the degraded image of a file at the (height, width) of the clean one; as it is by default.

        Raises:
            DatasetError: it has a size that does not fit.
        """
        return image


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
