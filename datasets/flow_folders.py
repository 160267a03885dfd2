"""Folders of frames and optical flow: a layout for your own flow data (`flow-folders`)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from .flow_files import FLOW_SUFFIXES, write_flow
from .flow_pairs import FlowPairs, Pair, fake_flow_sequence
from .folders import IMAGE_SUFFIXES, is_test_sample
from .formats.image import write_image
from .problems import DatasetError

FLOW_ONLY_SUFFIXES = frozenset(FLOW_SUFFIXES) - IMAGE_SUFFIXES
"""Suffixes of flow files; a PNG is always a frame here."""


class FlowFolders(FlowPairs):
    """Frames in the order of their names; each but the last has a flow file of the same name, the flow to the next one.

    `walk/9.png`, `walk/9.flo`, `walk/10.png` are a pair: names are in natural order. Flow is a `.flo`, a `.pfm` with
    three channels, or an `.npz` whose array `flow` is (H, W, 2) float, nan where unknown. A folder is a sequence; the
    root may contain any number of them, at any depth, and those without flow are ignored.

    `train/` and `test/` in the root separate the splits. Without them, one folder in ten is for testing, chosen by a
    hash of its path, because neighboring frames resemble each other; frames in the root itself are chosen one by one.
    """

    title: ClassVar[str] = "Folders of frames and the flow between them"
    terms: ClassVar[str] = "license of your files"
    layout: ClassVar[Pair] = Pair("walk/001.png", "walk/002.png", "walk/001.flo")

    def pairs(self) -> list[Pair]:
        if any((self.root / name).is_dir() for name in self.splits):
            return [pair for folder in _folders(self.root / self.split) for pair in _sequence(self.root, folder)]
        pairs = [pair for folder in _folders(self.root) for pair in _sequence(self.root, folder)]
        split_pairs = [pair for pair in pairs if is_test_sample(_hashed_name(pair)) == (self.split == "test")]
        if pairs and not split_pairs:
            expected = f"pairs for '{self.split}', or folders train/ and test/ to separate the splits"
            raise DatasetError(self.root, expected, f"{len(pairs)} pairs, which the hash puts into the other split")
        return split_pairs

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        count = {split: 0 for split in cls.splits}
        for number in range(200):
            folder = Path(root) / f"walk-{number:03}"
            split = "test" if is_test_sample(folder.name) else "train"
            if count[split] < 2:
                count[split] += 1
                sequence = fake_flow_sequence(number, frames=3)
                for name, frame in zip((8, 9, 10), sequence.frames, strict=True):
                    write_image(folder / f"{name}.png", frame)
                    if name < 10:
                        write_flow(folder / f"{name}.flo", sequence.flow)


def _folders(top: Path) -> list[Path]:
    """A folder and all folders below it, sorted, without hidden ones."""
    folders = []
    for folder, subfolders, _ in os.walk(top):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        folders.append(Path(folder))
    return folders


def _sequence(root: Path, folder: Path) -> list[Pair]:
    flows = _by_stem(folder, FLOW_ONLY_SUFFIXES)
    if not flows:
        return []
    images = _by_stem(folder, IMAGE_SUFFIXES)
    # A name with an image or a flow file only remains, so that reading it reports the missing file.
    stems = sorted(images.keys() | flows.keys(), key=natural_key)
    files = [(images.get(stem, f"{stem}.png"), flows.get(stem, f"{stem}.flo")) for stem in stems]
    if stems[-1] in flows:
        files.append((f"the frame after {files[-1][0]}", ""))
    prefix = folder.relative_to(root).as_posix()
    prefix = "" if prefix == "." else f"{prefix}/"
    return [Pair(prefix + first, prefix + second, prefix + flow) for (first, flow), (second, _) in pairwise(files)]


def _by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for file in sorted(folder.glob("[!.]*")):
        if file.suffix.lower() in suffixes:
            if file.stem in names:
                raise DatasetError(file, "one file of each name", f"also '{names[file.stem]}'")
            names[file.stem] = file.name
    return names


def _hashed_name(pair: Pair) -> str:
    """Name whose hash determines the split: the folder, or the frame if it is in the root."""
    folder, _, name = pair.flow.rpartition("/")
    return folder or name.rpartition(".")[0]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key for natural order: `9` before `10`, and `09` before `9`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
