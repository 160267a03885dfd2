"""ImageNet, ILSVRC2012: a thousand classes (Russakovsky et al., IJCV 2015), in folders or in the tars as downloaded."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from .fields import Category, Image
from .folders import PICTURE_SUFFIXES
from .formats.mat import read_mat, write_mat
from .formats.reading import read_lines
from .formats.tar import Member, list_members, pack_members, unpack_members, write_tar
from .labelled_pictures import Encoded, EncodedPictures, Files, TarMembers, drawn_jpeg, picture_names
from .problems import DamagedData, Problem

TARS = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
META = "data/meta.mat"
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)

Rows = tuple[Encoded, np.ndarray]
"""Where the pictures lie, and the class of each."""


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The WordNet number of each class, "n01440764", and its name, "tench", in the order of labels 0 to 999.

    Labels count the WordNet numbers in their order, as every published network does; the development kit's own
    `ILSVRC2012_ID` counts otherwise.
    """
    from torchvision.models import ResNet18_Weights

    # Found, not imported: timm takes seconds.
    timm = find_spec("timm")
    assert timm is not None and timm.submodule_search_locations, "timm is among this package's requirements"
    listed = Path(timm.submodule_search_locations[0]) / "data" / "_info" / "imagenet_synsets.txt"
    return tuple(listed.read_text().split()), tuple(ResNet18_Weights.DEFAULT.meta["categories"])


class ImageNet(EncodedPictures):
    """1,281,167 photographs to train, 50,000 for validation; the test split's classes were never published.

    The root holds for each split either its folder or its tar:

    - `train/nXXXXXXXX/*.JPEG`, or `ILSVRC2012_img_train.tar`, a tar of a tar for each class;
    - `val/` with a folder for each class or with all pictures in one, or `ILSVRC2012_img_val.tar`. Without folders
      the classes are those of the development kit, `ILSVRC2012_devkit_t12` or the same as `.tar.gz`, in the root.

    Tars are read in place. Opening one walks over all it holds, a minute for the training split on a local disk.
    Some of the classes may be absent: labels stay the official ones. One split alone can be used, but `check` says
    that the other is missing. Pictures in CMYK, in grey, or in PNG under a JPEG's name become RGB like all others.
    """

    title: ClassVar[str] = "ImageNet (ILSVRC2012)"
    terms: ClassVar[str] = "non-commercial research: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        wnids, names = imagenet_classes()
        self.fields = {"image": Image(), "category": Category(names)}
        problems: list[Problem] = []
        in_folder, in_tar = (
            (_in_class_folders, _in_tars_of_classes) if split == "train" else (_in_val_folder, _in_val_tar)
        )
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        if (self.root / split).is_dir():
            self._encoded, self._categories = in_folder(self.root, split, labels, problems)
        elif (self.root / TARS[split]).is_file():
            self._encoded, self._categories = in_tar(self.root, labels, problems)
        else:
            raise DamagedData(self.root / TARS[split], f"this file, or the folder '{split}' beside it", "neither")
        if problems:
            raise DamagedData.of(problems, opened=self)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        root, chosen = Path(root), (3, 1, 2)
        wnids = [imagenet_classes()[0][label] for label in chosen]
        classes = []
        for label, wnid in zip(chosen, wnids, strict=True):
            pictures = [(f"{wnid}_{number}.JPEG", drawn_jpeg(10 * label + number)) for number in range(3)]
            classes.append((f"{wnid}.tar", pack_members(pictures)))
        write_tar(root / TARS["train"], classes)
        write_tar(root / TARS["val"], [(f"ILSVRC2012_val_{n:08}.JPEG", drawn_jpeg(90 + n)) for n in (1, 2, 3)])
        write_devkit(root / f"{DEVKIT}.tar.gz", wnids, [2, 3, 1])


def write_devkit(path: Path, wnids: list[str], truth: list[int]) -> None:
    """Write what is read of a development kit.

    Args:
        path: a folder, or an archive where the name ends in `.tar.gz`.
        wnids: the WordNet numbers of the classes with `ILSVRC2012_ID` 1, 2, 3, ...; an inner node of WordNet, which
            is no class, follows them.
        truth: the `ILSVRC2012_ID` of each validation picture.
    """
    kinds = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(number, wnid, "a class", "drawn", 0) for number, wnid in enumerate([*wnids, "n00001740"], start=1)]
    rows[-1] = (*rows[-1][:4], len(wnids))
    synsets = np.array([tuple(row) for row in rows], kinds)[:, None]
    lines = "".join(f"{number}\n" for number in truth).encode()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) if path.name.endswith(".tar.gz") else path
        write_mat(target / META, {"synsets": synsets})
        if target != path:
            files = {META: (target / META).read_bytes(), GROUND_TRUTH: lines}
            write_tar(path, [(f"{DEVKIT}/{name}", data) for name, data in files.items()])
        else:
            (path / GROUND_TRUTH).write_bytes(lines)


def _in_class_folders(root: Path, split: str, labels: dict[str, int], problems: list[Problem]) -> Rows:
    names, categories = [], []
    for wnid, pictures in picture_names(root / split, PICTURE_SUFFIXES).items():
        if _is_class(wnid, root / split / wnid, labels, problems):
            if not pictures:
                problems.append(Problem(str(root / split / wnid), "at least one picture", "none"))
            names += [f"{split}/{wnid}/{picture}" for picture in pictures]
            categories += [labels[wnid]] * len(pictures)
    if not names and not problems:
        problems.append(Problem(str(root / split), "folders with names like 'n01440764', one for each class", "none"))
    return Files(root, names), np.array(categories, np.int64)


def _in_tars_of_classes(root: Path, labels: dict[str, int], problems: list[Problem]) -> Rows:
    tar = root / TARS["train"]
    members, categories = [], []
    for inner in sorted(list_members(tar)):
        wnid = inner.name.removeprefix("./").removesuffix(".tar")
        if _is_class(wnid, tar / inner.name, labels, problems):
            pictures = sorted(list_members(tar, inner.offset))
            members += [(tar.name, Member(f"{wnid}/{name}", offset, size)) for name, offset, size in pictures]
            categories += [labels[wnid]] * len(pictures)
    if not members and not problems:
        problems.append(Problem(str(tar), "tars with names like 'n01440764.tar', one for each class", "none"))
    return TarMembers(root, members), np.array(categories, np.int64)


def _in_val_folder(root: Path, split: str, labels: dict[str, int], problems: list[Problem]) -> Rows:
    flat = sorted(name.name for name in (root / split).iterdir() if VALIDATION_NAME.fullmatch(name.name))
    if not flat:
        return _in_class_folders(root, split, labels, problems)
    categories = _validation_categories(root, root / split, flat, labels, problems)
    return Files(root, [f"{split}/{name}" for name in flat]), categories


def _in_val_tar(root: Path, labels: dict[str, int], problems: list[Problem]) -> Rows:
    tar = root / TARS["val"]
    members = {Path(member.name).name: member for member in list_members(tar)}
    flat = sorted(name for name in members if VALIDATION_NAME.fullmatch(name))
    categories = _validation_categories(root, tar, flat, labels, problems)
    return TarMembers(root, [(tar.name, members[name]) for name in flat]), categories


def _is_class(wnid: str, place: Path, labels: dict[str, int], problems: list[Problem]) -> bool:
    if wnid not in labels:
        expected = "the WordNet number of one of the 1000 classes, like 'n01440764'"
        problems.append(Problem(str(place), expected, f"'{wnid}'"))
    return wnid in labels


def _validation_categories(
    root: Path, place: Path, names: list[str], labels: dict[str, int], problems: list[Problem]
) -> np.ndarray:
    """The class of each validation picture by the number in its name; the rest of the list must be there too."""
    truth = _ground_truth(root, labels)
    numbers = np.array([int(named[1]) for name in names if (named := VALIDATION_NAME.fullmatch(name))], np.int64)
    missing = np.setdiff1d(np.arange(1, len(truth) + 1), numbers)
    if missing.size or len(names) > len(truth):
        found = f"{len(names)}" + (f", without number {missing[0]}" if missing.size else "")
        problems.append(Problem(str(place), f"the {len(truth)} pictures of the development kit's list", found))
    return truth[np.clip(numbers, 1, len(truth)) - 1]


def _ground_truth(root: Path, labels: dict[str, int]) -> np.ndarray:
    """(N,) the official label of validation picture n + 1.

    The kit's list says `ILSVRC2012_ID`, whose order is not that of the labels; `meta.mat` leads from one to the other.
    """
    folder, packed = root / DEVKIT, root / f"{DEVKIT}.tar.gz"
    if folder.is_dir():
        return _labels_of(folder, folder, labels)
    if not packed.is_file():
        expected = "the development kit, which says what the validation pictures show, or class folders in 'val'"
        raise DamagedData(packed, expected, "neither")
    files = unpack_members(packed, DEVKIT)
    with tempfile.TemporaryDirectory() as unpacked:
        for name in (META, GROUND_TRUTH):
            if name in files:
                (Path(unpacked) / name).parent.mkdir(exist_ok=True)
                (Path(unpacked) / name).write_bytes(files[name])
        return _labels_of(Path(unpacked), packed, labels)


def _labels_of(folder: Path, called: Path, labels: dict[str, int]) -> np.ndarray:
    try:
        synsets = read_mat(folder / META).get("synsets")
        lines = read_lines(folder / GROUND_TRUTH, "a number per line")
    except DamagedData as damaged:
        file = called / Path(damaged.problem.file).relative_to(folder)
        raise DamagedData(file, damaged.problem.expected, damaged.problem.found) from None
    if synsets is None or not {"ILSVRC2012_ID", "WNID"} <= set(synsets.dtype.names or ()):
        raise DamagedData(called / META, "'synsets' with the fields 'ILSVRC2012_ID' and 'WNID'", "none")
    wnids = {int(row["ILSVRC2012_ID"].item()): str(row["WNID"].item()) for row in synsets.ravel()}
    try:
        return np.array([labels[wnids[int(line)]] for line in lines], np.int64)
    except (KeyError, ValueError) as error:
        raise DamagedData(called / GROUND_TRUTH, "the ILSVRC2012_ID of one of the 1000 classes", f"{error}") from None


READERS = {"train": (_in_class_folders, _in_tars_of_classes), "val": (_in_val_folder, _in_val_tar)}
"""What reads a split from its folder, and what from its tar."""
