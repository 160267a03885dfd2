"""Anyone's own frames with the motion between them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from .flow_files import FLOW_SUFFIXES, write_flow
from .flow_pairs import FlowPairs, Pair, drifting_frames
from .folders import PICTURE_SUFFIXES, held_back
from .formats.picture import write_picture
from .problems import DamagedData

SUFFIXES_OF_FLOW = frozenset(FLOW_SUFFIXES) - PICTURE_SUFFIXES
"""A PNG is a frame."""


class FlowFolders(FlowPairs):
    """Frames in the order of their names, and beside each but the last the flow to the next, of the same name.

    `walk/9.png`, `walk/9.flo`, `walk/10.png` are a pair: numbers in names count as numbers. A flow is a `.flo`, a
    `.pfm` of three channels, or an `.npz` whose array `flow` holds (H, W, 2) floats, nan where unknown. A folder is a
    sequence; any number of them may lie in the root, at any depth, and those without flow are passed over.

    `train/` and `test/` in the root divide the sequences. Without them one folder in ten is held back for testing,
    chosen by a hash of its path, because neighbouring frames resemble each other. Frames in the root itself are held
    back one by one.
    """

    title: ClassVar[str] = "Folders of frames and the flow between them"
    terms: ClassVar[str] = "whatever holds for your files"
    layout: ClassVar[Pair] = Pair("walk/001.png", "walk/002.png", "walk/001.flo")

    def pairs(self) -> list[Pair]:
        if any((self.root / name).is_dir() for name in self.splits):
            return [pair for folder in _folders(self.root / self.split) for pair in _sequence(self.root, folder)]
        every = [pair for folder in _folders(self.root) for pair in _sequence(self.root, folder)]
        chosen = [pair for pair in every if held_back(_held_back_by(pair)) == (self.split == "test")]
        if every and not chosen:
            expected = f"pairs for '{self.split}', or folders train/ and test/ that divide them"
            raise DamagedData(self.root, expected, f"{len(every)} pairs, none of which the hash of the names gives it")
        return chosen

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        taken = {split: 0 for split in cls.splits}
        for number in range(200):
            folder = Path(root) / f"walk-{number:03}"
            split = "test" if held_back(folder.name) else "train"
            if taken[split] < 2:
                taken[split] += 1
                drift = drifting_frames(number, frames=3)
                for place, frame in zip((8, 9, 10), drift.frames, strict=True):
                    write_picture(folder / f"{place}.png", frame)
                    if place < 10:
                        write_flow(folder / f"{place}.flo", drift.flow)


def _folders(top: Path) -> list[Path]:
    """A folder and all below it, sorted; hidden ones are left out."""
    found = []
    for place, inside, _ in os.walk(top):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        found.append(Path(place))
    return found


def _sequence(root: Path, folder: Path) -> list[Pair]:
    flows = _by_stem(folder, SUFFIXES_OF_FLOW)
    if not flows:
        return []
    pictures = _by_stem(folder, PICTURE_SUFFIXES)
    # A name with a picture or a flow alone stays, so that reading it says which file is missing.
    stems = sorted(pictures.keys() | flows.keys(), key=natural_order)
    files = [(pictures.get(stem, f"{stem}.png"), flows.get(stem, f"{stem}.flo")) for stem in stems]
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
                raise DamagedData(file, "one file of each name", f"also '{names[file.stem]}'")
            names[file.stem] = file.name
    return names


def _held_back_by(pair: Pair) -> str:
    """The name whose hash decides: the sequence's, or the frame's where it lies in the root."""
    folder, _, name = pair.flow.rpartition("/")
    return folder or name.rpartition(".")[0]


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key to sort names as people count: `9` before `10`, and `09` before `9`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
