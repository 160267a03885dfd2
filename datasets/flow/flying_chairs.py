"""FlyingChairs: rendered chairs moving over photos (Dosovitskiy et al.: FlowNet, ICCV 2015, arXiv:1504.06852)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.files import FilePattern, read_lines
from ..core.problems import DatasetError, Problem
from ..examples import fake_flow_sequence
from ..formats.flow import write_flow
from ..formats.image import write_image
from .flow_pairs import FlowPairs, Pair

RELEASE = "FlyingChairs_release"
LISTS = ("FlyingChairs_train_val.txt", "FlyingChairs_release_test_train_split.list", "split.txt")
"""File names under which the list of the splits is distributed; the first existing one is used."""

CODES = {"train": ("1",), "all": ("1", "2"), "val": ("2",)}
"""Split to the codes of its pairs in the list."""

PARTS = {"img1": (".ppm", ".png"), "img2": (".ppm", ".png"), "flow": (".flo", ".npz")}
"""Files of a pair and their suffixes, the official one first."""


class FlyingChairs(FlowPairs):
    """22,872 pairs of 384x512 with dense flow, by the authors' list 22,232 for training and 640 for validation.

    The root is the folder of the release, which contains `data/`, or its parent. `data/` contains `NNNNN_img1.ppm`,
    `NNNNN_img2.ppm` and `NNNNN_flow.flo`; images may be PNG, flow may be `.npz` with float16 in the array `flow`
    (not an official format). The list is in either folder, one line per pair in the order of their numbers: 1 for
    training, 2 for validation. The split `all` is both, to score a subset of a few pairs.
    """

    title: ClassVar[str] = "FlyingChairs"
    terms: ClassVar[str] = "research purposes only, no commercial use: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "all", "val")
    layout: ClassVar[Pair] = Pair(*(f"data/00001_{part}{suffixes[0]}" for part, suffixes in PARTS.items()))

    def pairs(self) -> list[Pair]:
        prefix = f"{RELEASE}/" if (self.root / RELEASE).is_dir() else ""
        pairs = self._pairs_in(f"{prefix}data")
        if not pairs:
            return []
        candidates = [self.root / folder / name for folder in ("", prefix) for name in LISTS]
        list_file = next((file for file in candidates if file.is_file()), candidates[0])
        codes = read_lines(list_file, "a line for each pair, 1 for training, 2 for validation")
        for number, code in enumerate(codes, start=1):
            if code not in CODES["all"]:
                raise DatasetError(f"{list_file} line {number}", "1 (training) or 2 (validation)", f"'{code}'")
        if len(codes) != len(pairs):
            raise DatasetError(list_file, f"a line for each of the {len(pairs)} pairs in {prefix}data", f"{len(codes)}")
        return [pair for pair, code in zip(pairs, codes, strict=True) if code in CODES[self.split]]

    def _pairs_in(self, folder: str) -> list[Pair]:
        files: list[dict[str, str]] = []
        for part, suffixes in PARTS.items():
            patterns = [FilePattern(folder, after=f"_{part}{suffix}") for suffix in suffixes]
            files.append({key: pattern.file(key) for pattern in reversed(patterns) for key in pattern.keys(self.root)})
        official = [FilePattern(folder, after=f"_{part}{suffixes[0]}") for part, suffixes in PARTS.items()]
        return [
            Pair(*(existing.get(key, pattern.file(key)) for existing, pattern in zip(files, official, strict=True)))
            for key in sorted(set().union(*files), key=lambda key: (len(key), key))
        ]

    def sample_name(self, index: int) -> str:
        # Sample names are unique across splits.
        return f"{super().sample_name(index)} of all" if self.split == "all" else super().sample_name(index)

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        return super(FlyingChairs, _AllPairs).validate(root)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        codes = ("1", "1", "2", "1", "2")
        for number in range(1, len(codes) + 1):
            sequence = fake_flow_sequence(number)
            folder = Path(root) / RELEASE / "data"
            for part, frame in zip(("img1", "img2"), sequence.frames, strict=True):
                write_image(folder / f"{number:05}_{part}.ppm", frame)
            write_flow(folder / f"{number:05}_flow.flo", sequence.flow)
        (Path(root) / LISTS[0]).write_text("".join(f"{code}\n" for code in codes))


class _AllPairs(FlyingChairs):
    """The split `all` alone, so that `validate` does not read a pair twice."""

    splits: ClassVar[tuple[str, ...]] = ("all",)
