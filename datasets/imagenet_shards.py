"""ImageNet in shards, the form for clusters: tars of some thousand pictures in any order, as WebDataset writes them.

The shards are indexed and read in place, picture by picture, so that shuffling, resuming and evaluation are those of
every other set. A reader that streams shards from end to end would be kinder to spinning disks, and could promise none
of the three.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

import numpy as np

from .fields import Category, Image
from .formats.tar import Member, list_members, read_member, write_tar
from .imagenet import imagenet_classes
from .labelled_pictures import EncodedPictures, TarMembers, drawn_jpeg
from .problems import DamagedData, Problem

SHARD_NAME = re.compile(r"(?:.*[-_])?(train|val|validation)[-_](\d+)\.tar")
SPLIT_WORDS = {"train": ("train",), "val": ("val", "validation")}
PICTURE_PARTS = ("jpg", "jpeg", "png", "webp")
LABEL_PARTS = ("cls", "json")


class ImageNetShards(EncodedPictures):
    """ImageNet's splits as shards: `imagenet-train-0000.tar`, ..., `imagenet-val-00.tar`, ... in the root.

    What comes before `train`, `val` or `validation` in the names does not matter; the numbers begin at 0 and leave
    none out. A sample is a picture `KEY.jpg` (or .jpeg, .png, .webp) and its class from 0 to 999, in figures, in
    `KEY.cls`, or else as `label` in `KEY.json`. Opening a split walks over all of its shards.
    """

    title: ClassVar[str] = "ImageNet (ILSVRC2012, WebDataset shards)"
    terms: ClassVar[str] = "non-commercial research: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "category": Category(imagenet_classes()[1])}
        problems: list[Problem] = []
        members: list[tuple[str, Member]] = []
        categories: list[int] = []
        for shard in _shards(self.root, split, problems):
            try:
                for picture, label in _samples(shard, problems):
                    members.append((shard.name, picture))
                    categories.append(label)
            except DamagedData as damaged:
                problems.append(damaged.problem)
        self._encoded, self._categories = TarMembers(self.root, members), np.array(categories, np.int64)
        if problems:
            raise DamagedData.of(problems, opened=self)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for split, shards in (("train", 2), ("val", 1)):
            for shard in range(shards):
                files: list[tuple[str, bytes]] = []
                for number in range(4 - shard):
                    key, label = f"{split}_{shard}_{number}", 7 * number + shard
                    named = (f"{key}.cls", f"{label}") if number % 2 else (f"{key}.json", json.dumps({"label": label}))
                    files += [(f"{key}.jpg", drawn_jpeg(label)), (named[0], named[1].encode())]
                write_tar(Path(root) / f"imagenet-{split}-{shard:04}.tar", files)


def _shards(root: Path, split: str, problems: list[Problem]) -> list[Path]:
    """In the order of their numbers, of which none may be missing."""
    numbered: dict[int, Path] = {}
    for path in sorted(root.glob("*.tar")):
        named = SHARD_NAME.fullmatch(path.name)
        if named is not None and named[1] in SPLIT_WORDS[split]:
            number = int(named[2])
            if number in numbered:
                problems.append(Problem(str(path), "one shard of each number", f"also '{numbered[number].name}'"))
            numbered[number] = path
    if not numbered:
        raise DamagedData(root / f"imagenet-{split}-0000.tar", "shards with names like this one", "none")
    pattern = numbered[max(numbered)].name
    for number in sorted(set(range(max(numbered))) - set(numbered)):
        digits = re.search(r"\d+(?=\.tar$)", pattern)
        width = len(digits[0]) if digits else 0
        lacking = re.sub(r"\d+(?=\.tar$)", f"{number:0{width}}", pattern)
        problems.append(Problem(str(root / lacking), f"every shard up to '{pattern}'", "no file"))
    return [numbered[number] for number in sorted(numbered)]


def _samples(shard: Path, problems: list[Problem]) -> list[tuple[Member, int]]:
    """Every picture of a shard and its class."""
    parts: dict[str, dict[str, Member]] = defaultdict(dict)
    for member in list_members(shard):
        # WebDataset's rule: the key ends at the first dot of the file's name.
        folder, slash, name = member.name.rpartition("/")
        key, _, part = name.partition(".")
        parts[folder + slash + key][part.lower()] = member
    samples = []
    for key, found in parts.items():
        picture = next((found[part] for part in PICTURE_PARTS if part in found), None)
        label = _label(shard, found)
        if picture is None:
            expected = f"a picture .{', .'.join(PICTURE_PARTS)}"
            problems.append(Problem(f"{shard}/{key}", expected, f".{', .'.join(found)}"))
        elif label is None:
            problems.append(Problem(f"{shard}/{key}", "a class from 0 to 999 in .cls or .json", "none"))
        else:
            samples.append((picture, label))
    if not parts:
        problems.append(Problem(str(shard), "pictures and their classes", "none"))
    return samples


def _label(shard: Path, found: dict[str, Member]) -> int | None:
    for part in LABEL_PARTS:
        if part in found:
            stored = read_member(shard, found[part].offset, found[part].size)
            try:
                label = int(json.loads(stored)["label"] if part == "json" else stored)
            except (ValueError, KeyError, TypeError):
                continue
            return label if 0 <= label < len(imagenet_classes()[0]) else None
    return None
