"""ImageNet (ILSVRC2012): 1000 classes (Russakovsky et al., IJCV 2015), in folders or in the tars as downloaded."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import IMAGE_SUFFIXES, read_lines
from ..core.problems import DatasetError, Problem
from ..examples import fake_jpeg
from ..field_types import ClassLabel, Image
from ..formats.mat import read_mat, write_mat
from ..formats.tar import Member, list_members, pack_members, unpack_members, write_tar
from ..stored_images import EncodedImages, EncodedSource, Files, TarMembers, list_class_folders

TARS = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
META = "data/meta.mat"
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)

Rows = tuple[EncodedSource, np.ndarray]
"""(source of the images, class of each image)."""


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet ids ("n01440764") and names ("tench") of the classes, in the order of the labels 0 to 999.

    Labels number the sorted WordNet ids, as in all published models; `ILSVRC2012_ID` of the development kit has
    another order.
    """
    from torchvision.models import ResNet18_Weights

    # Located without an import, because importing timm takes seconds.
    timm = find_spec("timm")
    assert timm is not None and timm.submodule_search_locations, "timm is a requirement of this package"
    synsets = Path(timm.submodule_search_locations[0]) / "data" / "_info" / "imagenet_synsets.txt"
    return tuple(synsets.read_text().split()), tuple(ResNet18_Weights.DEFAULT.meta["categories"])


class ImageNet(EncodedImages):
    """1,281,167 photos for training, 50,000 for validation; the classes of the test split were never published.

    The root contains for each split either its folder or its tar:

    - `train/nXXXXXXXX/*.JPEG`, or `ILSVRC2012_img_train.tar`, a tar of one tar per class;
    - `val/` with one folder per class or with all images in one folder, or `ILSVRC2012_img_val.tar`. Without class
      folders, the classes are read from the development kit in the root, `ILSVRC2012_devkit_t12` or the same as
      `.tar.gz`.

    Tars are read in place. Opening one reads the headers of all members: a minute for the training split on a local
    disk. Classes may be missing; labels remain the official ones. One split alone can be used, but `validate` reports
    the missing one. CMYK, gray, and PNG images with a JPEG suffix are converted to RGB.
    """

    title: ClassVar[str] = "ImageNet (ILSVRC2012)"
    terms: ClassVar[str] = "non-commercial research: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        wnids, names = imagenet_classes()
        self.fields = {"image": Image(), "category": ClassLabel(names)}
        problems: list[Problem] = []
        self._labels = {wnid: label for label, wnid in enumerate(wnids)}
        if (self.root / split).is_dir():
            read = self._read_class_folders if split == "train" else self._read_val_folder
        elif (self.root / TARS[split]).is_file():
            read = self._read_class_tars if split == "train" else self._read_val_tar
        else:
            raise DatasetError(self.root / TARS[split], f"this file, or the folder '{split}' beside it", "neither")
        self._encoded, self._categories = read(problems)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def _read_class_folders(self, problems: list[Problem]) -> Rows:
        names, categories = [], []
        folder = self.root / self.split
        for wnid, images in list_class_folders(folder, IMAGE_SUFFIXES, self.skipped).items():
            if self._is_class(wnid, folder / wnid, problems):
                if not images:
                    problems.append(Problem(str(folder / wnid), "at least one image", "none"))
                names += [f"{self.split}/{image}" for image in images]
                categories += [self._labels[wnid]] * len(images)
        if not names and not problems:
            problems.append(Problem(str(folder), "folders with names like 'n01440764', one per class", "none"))
        return Files(self.root, names), np.array(categories, np.int64)

    def _read_class_tars(self, problems: list[Problem]) -> Rows:
        tar = self.root / TARS["train"]
        members, categories = [], []
        for inner in sorted(list_members(tar)):
            wnid = inner.name.removeprefix("./").removesuffix(".tar")
            if self._is_class(wnid, tar / inner.name, problems):
                images = sorted(list_members(tar, inner.offset, inner.size))
                members += [(tar.name, Member(f"{wnid}/{name}", offset, size)) for name, offset, size in images]
                categories += [self._labels[wnid]] * len(images)
        if not members and not problems:
            problems.append(Problem(str(tar), "tars with names like 'n01440764.tar', one per class", "none"))
        return TarMembers(self.root, members), np.array(categories, np.int64)

    def _read_val_folder(self, problems: list[Problem]) -> Rows:
        folder = self.root / self.split
        file_names = sorted(file.name for file in folder.iterdir() if VALIDATION_NAME.fullmatch(file.name))
        if not file_names:
            return self._read_class_folders(problems)
        categories = self._validation_categories(folder, file_names, problems)
        return Files(self.root, [f"{self.split}/{name}" for name in file_names]), categories

    def _read_val_tar(self, problems: list[Problem]) -> Rows:
        tar = self.root / TARS["val"]
        members = {Path(member.name).name: member for member in list_members(tar)}
        file_names = sorted(name for name in members if VALIDATION_NAME.fullmatch(name))
        categories = self._validation_categories(tar, file_names, problems)
        return TarMembers(self.root, [(tar.name, members[name]) for name in file_names]), categories

    def _is_class(self, wnid: str, path: Path, problems: list[Problem]) -> bool:
        if wnid not in self._labels:
            expected = "the WordNet id of one of the 1000 classes, like 'n01440764'"
            problems.append(Problem(str(path), expected, f"'{wnid}'"))
        return wnid in self._labels

    def _validation_categories(self, path: Path, names: list[str], problems: list[Problem]) -> np.ndarray:
        """Class of each validation image, by the number in its name; missing or additional images are a problem."""
        ground_truth = _ground_truth(self.root, self._labels)
        matches = (VALIDATION_NAME.fullmatch(name) for name in names)
        numbers = np.array([int(match[1]) for match in matches if match], np.int64)
        missing = np.setdiff1d(np.arange(1, len(ground_truth) + 1), numbers)
        if missing.size or len(names) > len(ground_truth):
            found = f"{len(names)}" + (f", without number {missing[0]}" if missing.size else "")
            problems.append(Problem(str(path), f"the {len(ground_truth)} images of the development kit's list", found))
        return ground_truth[np.clip(numbers, 1, len(ground_truth)) - 1]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        root, labels = Path(root), (3, 1, 2)
        wnids = [imagenet_classes()[0][label] for label in labels]
        classes = []
        for label, wnid in zip(labels, wnids, strict=True):
            images = [(f"{wnid}_{number}.JPEG", fake_jpeg(10 * label + number)) for number in range(3)]
            classes.append((f"{wnid}.tar", pack_members(images)))
        write_tar(root / TARS["train"], classes)
        write_tar(root / TARS["val"], [(f"ILSVRC2012_val_{n:08}.JPEG", fake_jpeg(90 + n)) for n in (1, 2, 3)])
        write_devkit(root / f"{DEVKIT}.tar.gz", wnids, [2, 3, 1])


def write_devkit(path: Path, wnids: list[str], ground_truth: list[int]) -> None:
    """Write the files of a development kit that `ImageNet` reads, to a folder or to an archive `.tar.gz`.

    Args:
        path: the folder or archive.
        wnids: WordNet ids of the classes with `ILSVRC2012_ID` 1, 2, 3, ...; an inner node, which is no class, is added.
        ground_truth: `ILSVRC2012_ID` of each validation image.
    """
    columns = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(number, wnid, "a class", "drawn", 0) for number, wnid in enumerate([*wnids, "n00001740"], start=1)]
    rows[-1] = (*rows[-1][:4], len(wnids))
    synsets = np.array([tuple(row) for row in rows], columns)[:, None]
    lines = "".join(f"{number}\n" for number in ground_truth).encode()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) if path.name.endswith(".tar.gz") else path
        write_mat(target / META, {"synsets": synsets})
        if target != path:
            files = {META: (target / META).read_bytes(), GROUND_TRUTH: lines}
            write_tar(path, [(f"{DEVKIT}/{name}", data) for name, data in files.items()])
        else:
            (path / GROUND_TRUTH).write_bytes(lines)


def _ground_truth(root: Path, labels: dict[str, int]) -> np.ndarray:
    """Official labels of the validation images, (N,): entry n is the label of image n + 1.

    The list of the kit contains `ILSVRC2012_ID`, in another order than the labels; `meta.mat` maps it to WordNet ids.
    """
    folder, archive = root / DEVKIT, root / f"{DEVKIT}.tar.gz"
    if folder.is_dir():
        return _read_labels(folder, folder, labels)
    if not archive.is_file():
        expected = "the development kit with the classes of the validation images, or class folders in 'val'"
        raise DatasetError(archive, expected, "neither")
    files = unpack_members(archive, DEVKIT)
    with tempfile.TemporaryDirectory() as unpacked:
        for name in (META, GROUND_TRUTH):
            if name in files:
                (Path(unpacked) / name).parent.mkdir(exist_ok=True)
                (Path(unpacked) / name).write_bytes(files[name])
        return _read_labels(Path(unpacked), archive, labels)


def _read_labels(folder: Path, origin: Path, labels: dict[str, int]) -> np.ndarray:
    """Read the labels from an unpacked kit; error messages name files relative to `origin`."""
    try:
        synsets = read_mat(folder / META).get("synsets")
        lines = read_lines(folder / GROUND_TRUTH, "a number per line")
    except DatasetError as error:
        file = origin / Path(error.problem.file).relative_to(folder)
        raise DatasetError(file, error.problem.expected, error.problem.found) from None
    if synsets is None or not {"ILSVRC2012_ID", "WNID"} <= set(synsets.dtype.names or ()):
        raise DatasetError(origin / META, "'synsets' with the fields 'ILSVRC2012_ID' and 'WNID'", "none")
    try:
        wnids = {int(row["ILSVRC2012_ID"].item()): str(row["WNID"].item()) for row in synsets.ravel()}
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise DatasetError(origin / META, "a number and a WordNet id for each of the 'synsets'", f"{error}") from None
    try:
        return np.array([labels[wnids[int(line)]] for line in lines], np.int64)
    except (KeyError, ValueError) as error:
        raise DatasetError(origin / GROUND_TRUTH, "the ILSVRC2012_ID of one of the 1000 classes", f"{error}") from None
