"""ImageNet in WebDataset shards: tars of some thousand images in any order, a common form on clusters.

The shards are indexed and read in place, image by image, so that shuffling, resuming and evaluation are the same as for
other datasets. Streaming shards from end to end would be faster on spinning disks, but would support none of the three.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...atomic_io import json_text
from ..core.problems import DatasetError, Problem
from ..examples import fake_jpeg
from ..field_types import ClassLabel, Image
from ..formats.tar import Member, list_members, read_member, write_tar
from ..formats.text import parse_json
from ..stored_images import EncodedImages, TarMembers
from .imagenet import imagenet_classes

SHARD_NAME = re.compile(r"(?:.*[-_])?(train|val|validation)[-_](\d+)\.tar")
SPLIT_WORDS = {"train": ("train",), "val": ("val", "validation")}
IMAGE_PARTS = ("jpg", "jpeg", "png", "webp")
LABEL_PARTS = ("cls", "json")
MAX_LABEL_BYTES = 2**20
"""Of a class; WebDataset stores other data of the sample in the same JSON."""
MAX_SHARDS = 1_000_000


class ImageNetShards(EncodedImages):
    """ImageNet splits as shards: `imagenet-train-0000.tar`, ..., `imagenet-val-00.tar`, ... in the root.

    The part of the names before `train`, `val` or `validation` is arbitrary; the numbers begin at 0 without gaps. A
    sample is an image `KEY.jpg` (or .jpeg, .png, .webp) and its class from 0 to 999, as digits in `KEY.cls`, or else as
    `label` in `KEY.json`. Opening a split reads the headers of all of its shards.
    """

    title: ClassVar[str] = "ImageNet (ILSVRC2012, WebDataset shards)"
    terms: ClassVar[str] = "non-commercial research: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "category": ClassLabel(imagenet_classes()[1])}
        problems: list[Problem] = []
        members: list[tuple[str, Member]] = []
        categories: list[int] = []
        for shard in _shards(self.root, split, problems):
            try:
                for image, label in _samples(shard, problems):
                    members.append((shard.name, image))
                    categories.append(label)
            except DatasetError as error:
                problems.append(error.problem)
        self._encoded, self._categories = TarMembers(self.root, members), np.array(categories, np.int64)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for split, shards in (("train", 2), ("val", 1)):
            for shard in range(shards):
                files: list[tuple[str, bytes]] = []
                for number in range(4 - shard):
                    key, label = f"{split}_{shard}_{number}", 7 * number + shard
                    part, text = ("cls", f"{label}") if number % 2 else ("json", json_text({"label": label}))
                    files += [(f"{key}.jpg", fake_jpeg(label)), (f"{key}.{part}", text.encode())]
                write_tar(Path(root) / f"imagenet-{split}-{shard:04}.tar", files)


def _shards(root: Path, split: str, problems: list[Problem]) -> list[Path]:
    """Shards of a split in the order of their numbers; gaps are a problem."""
    numbered: dict[int, Path] = {}
    for path in sorted(root.glob("*.tar")):
        match = SHARD_NAME.fullmatch(path.name)
        if match is not None and match[1] in SPLIT_WORDS[split]:
            number = int(match[2])
            if number >= MAX_SHARDS:
                problems.append(Problem(str(path), f"numbers below {MAX_SHARDS}", f"{number}"))
                continue
            if number in numbered:
                problems.append(Problem(str(path), "one shard of each number", f"also '{numbered[number].name}'"))
            numbered[number] = path
    if not numbered:
        raise DatasetError(root / f"imagenet-{split}-0000.tar", "shards with names like this one", "none")
    pattern = numbered[max(numbered)].name
    for number in sorted(set(range(max(numbered))) - set(numbered)):
        digits = re.search(r"\d+(?=\.tar$)", pattern)
        width = len(digits[0]) if digits else 0
        missing = re.sub(r"\d+(?=\.tar$)", f"{number:0{width}}", pattern)
        problems.append(Problem(str(root / missing), f"every shard up to '{pattern}'", "no file"))
    return [numbered[number] for number in sorted(numbered)]


def _samples(shard: Path, problems: list[Problem]) -> list[tuple[Member, int]]:
    """Images of a shard and their classes."""
    parts: dict[str, dict[str, Member]] = defaultdict(dict)
    for member in list_members(shard):
        # As in WebDataset, the key ends at the first dot of the file name.
        folder, slash, name = member.name.rpartition("/")
        key, _, part = name.partition(".")
        parts[folder + slash + key][part.lower()] = member
    samples = []
    for key, available in parts.items():
        image = next((available[part] for part in IMAGE_PARTS if part in available), None)
        label = _label(shard, available)
        if image is None:
            expected = f"an image .{', .'.join(IMAGE_PARTS)}"
            problems.append(Problem(f"{shard}/{key}", expected, f".{', .'.join(available)}"))
        elif label is None:
            problems.append(Problem(f"{shard}/{key}", "a class from 0 to 999 in .cls or .json", "none"))
        else:
            samples.append((image, label))
    if not parts:
        problems.append(Problem(str(shard), "images and their classes", "none"))
    return samples


def _label(shard: Path, available: dict[str, Member]) -> int | None:
    for part in LABEL_PARTS:
        if part in available:
            if available[part].size > MAX_LABEL_BYTES:
                continue
            stored = read_member(shard, available[part].offset, available[part].size)
            try:
                label = int(parse_json(stored, shard)["label"] if part == "json" else stored)
            except (ValueError, KeyError, TypeError, OverflowError, DatasetError):
                continue
            return label if 0 <= label < len(imagenet_classes()[0]) else None
    return None
