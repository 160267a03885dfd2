"""FlyingChairs: chairs that fly over photographs (Dosovitskiy et al.: FlowNet, ICCV 2015, arXiv:1504.06852)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .dataset import problems_of
from .flow_files import write_flow
from .flow_pairs import FlowPairs, Pair, drifting_frames
from .formats.picture import write_picture
from .formats.reading import read_lines
from .paired import Side
from .problems import DamagedData, Problem

RELEASE = "FlyingChairs_release"
LISTS = ("FlyingChairs_train_val.txt", "FlyingChairs_release_test_train_split.list", "split.txt")
"""The names under which the list of the splits is handed round; the first that is there counts."""

WORDS = {"train": ("1",), "all": ("1", "2"), "val": ("2",)}
"""What the list says of a split's pairs."""

PARTS = {"img1": (".ppm", ".png"), "img2": (".ppm", ".png"), "flow": (".flo", ".npz")}
"""The files of a pair and their suffixes, the official one first."""


class FlyingChairs(FlowPairs):
    """22,872 pairs of 384x512, by the authors' list 22,232 to train and 640 to validate; every flow is dense.

    The root is the release's folder, which holds `data/`, or the folder around it. `data/` holds `NNNNN_img1.ppm`,
    `NNNNN_img2.ppm` and `NNNNN_flow.flo`; pictures may be PNG, flows `.npz` with halves in the array `flow`, which is
    not an official form. The list lies in either folder, one line a pair in the order of their numbers: 1 to train,
    2 to validate. `all` are both: a sample of a few pairs is scored as a whole.
    """

    title: ClassVar[str] = "FlyingChairs"
    terms: ClassVar[str] = "research purposes only, no commercial use: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "all", "val")
    layout: ClassVar[Pair] = Pair(*(f"data/00001_{part}{suffixes[0]}" for part, suffixes in PARTS.items()))

    def pairs(self) -> list[Pair]:
        within = f"{RELEASE}/" if (self.root / RELEASE).is_dir() else ""
        found = self._of_data(f"{within}data")
        if not found:
            return []
        places = [self.root / folder / name for folder in ("", within) for name in LISTS]
        listed = next((place for place in places if place.is_file()), places[0])
        words = read_lines(listed, "a line for each pair, 1 to train, 2 to validate")
        for number, word in enumerate(words, start=1):
            if word not in WORDS["all"]:
                raise DamagedData(f"{listed} line {number}", "1 (to train) or 2 (to validate)", f"'{word}'")
        if len(words) != len(found):
            raise DamagedData(listed, f"a line for each of the {len(found)} pairs in {within}data", f"{len(words)}")
        return [pair for pair, word in zip(found, words, strict=True) if word in WORDS[self.split]]

    def _of_data(self, folder: str) -> list[Pair]:
        files: list[dict[str, str]] = []
        for part, suffixes in PARTS.items():
            sides = [Side(folder, after=f"_{part}{suffix}") for suffix in suffixes]
            files.append({key: side.file(key) for side in reversed(sides) for key in side.keys(self.root)})
        official = [Side(folder, after=f"_{part}{suffixes[0]}") for part, suffixes in PARTS.items()]
        return [
            Pair(*(there.get(key, side.file(key)) for there, side in zip(files, official, strict=True)))
            for key in sorted(set().union(*files), key=lambda key: (len(key), key))
        ]

    def label(self, index: int) -> str:
        # A label names one sample of one split.
        return f"{super().label(index)} of all" if self.split == "all" else super().label(index)

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(_EveryPair, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        words = ("1", "1", "2", "1", "2")
        for number in range(1, len(words) + 1):
            drift = drifting_frames(number)
            place = Path(root) / RELEASE / "data"
            for part, frame in zip(("img1", "img2"), drift.frames, strict=True):
                write_picture(place / f"{number:05}_{part}.ppm", frame)
            write_flow(place / f"{number:05}_flow.flo", drift.flow)
        (Path(root) / LISTS[0]).write_text("".join(f"{word}\n" for word in words))


class _EveryPair(FlyingChairs):
    """For `check`: no pair is read twice."""

    splits: ClassVar[tuple[str, ...]] = ("all",)
