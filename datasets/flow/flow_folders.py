"""Folders of frames and optical flow: a layout for your own flow data (`flow-folders`)."""

from __future__ import annotations

import os
from collections.abc import Collection
from itertools import compress, pairwise
from pathlib import Path
from typing import ClassVar

from ..core.files import IMAGE_SUFFIXES, list_files, natural_key, normalize_name
from ..core.problems import Problem
from ..core.splits import in_split, is_test_sample
from ..examples import fake_flow_sequence
from ..formats.flow import FLOW_SUFFIXES, write_flow
from ..formats.image import write_image
from .flow_pairs import FlowPairs, Pair

FLOW_ONLY_SUFFIXES = frozenset(FLOW_SUFFIXES).difference(IMAGE_SUFFIXES)
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
        has_split_folders = any((self.root / name).is_dir() for name in self.splits)
        top = f"{self.split}/" if has_split_folders else ""
        folders: dict[str, list[str]] = {}
        for file in list_files(self.root / top, {*IMAGE_SUFFIXES, *FLOW_ONLY_SUFFIXES}, self.skipped):
            folder, slash, name = file.rpartition("/")
            folders.setdefault(top + folder + slash, []).append(name)
        pairs = [pair for folder in sorted(folders) for pair in self._sequence(folder, folders[folder])]
        if has_split_folders or not pairs:
            return pairs
        split_pairs = list(compress(pairs, in_split([_hashed_name(pair) for pair in pairs], self.split)))
        if not split_pairs:
            expected = f"pairs for '{self.split}', or folders train/ and test/ to separate the splits"
            found = f"{len(pairs)} pairs of one sequence, which are all for training"
            self.problems.append(Problem(str(self.root), expected, found))
        return split_pairs

    def _sequence(self, folder: str, names: list[str]) -> list[Pair]:
        """Pairs of the files of one folder, which is relative to the root, empty or with a final slash."""
        flows, images = (self._by_stem(folder, names, suffixes) for suffixes in (FLOW_ONLY_SUFFIXES, IMAGE_SUFFIXES))
        if not flows:
            self.skipped.append(Problem(str(self.root / folder), "the flow between its frames", "none"))
            return []
        # A name with an image or a flow file only remains, so that reading it reports the missing file.
        stems = sorted(images.keys() | flows.keys(), key=lambda stem: natural_key(f"{stem}.png"))
        files = [(images.get(stem, f"{stem}.png"), flows.get(stem, f"{stem}.flo")) for stem in stems]
        if stems[-1] in flows:
            files.append((f"the frame after {files[-1][0]}", ""))
        return [Pair(folder + first, folder + second, folder + flow) for (first, flow), (second, _) in pairwise(files)]

    def _by_stem(self, folder: str, names: list[str], suffixes: Collection[str]) -> dict[str, str]:
        files: dict[str, str] = {}
        for name in names:
            stem, suffix = os.path.splitext(name)
            stem = normalize_name(stem)
            if suffix.lower() not in suffixes:
                continue
            if stem in files:
                found = f"also '{files[stem]}'"
                self.problems.append(Problem(str(self.root / folder / name), "one file of each name", found))
            files[stem] = name
        return files

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


def _hashed_name(pair: Pair) -> str:
    """Name whose hash determines the split: the folder, or the frame if it is in the root."""
    folder, _, name = pair.flow.rpartition("/")
    return folder or name.rpartition(".")[0]
