"""LNSIM: natural outdoor scenes with memorability scores (Lu, Xu, Yang, Wang: Understanding and Predicting the
Memorability of Outdoor Natural Scenes, IEEE TIP 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.problems import DatasetError, Problem
from ..examples import fake_jpeg
from ..formats.tar import list_members, write_tar
from ..stored_images import Files, JoinedSources, TarMembers
from .score_folders import ScoredImages, read_ratings


class LNSIM(ScoredImages):
    """2,632 outdoor scenes in the complete release, without people; parts of it can be used together.

    The root is a part, or contains parts as folders. A part has `train.txt` and `test.txt`, lines `0013.jpg 0.700640`
    with one space and no header, and its images in `images/` or in an uncompressed `images.tar` with members
    `images/0013.jpg`. A score is the mean hit rate of two halves of the players, from 0 to 1. The release itself has
    a table of hit rates and no split; the lists are this layout's. Scores of LNSIM and LaMem are from different games:
    do not compare them.
    """

    title: ClassVar[str] = "LNSIM"
    terms: ClassVar[str] = "no license given, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        sources: list[tuple[Files | TarMembers, int]] = []
        scores: list[float] = []
        for part in self._parts():
            ratings = read_ratings(self.root / f"{part}{split}.txt", problems)
            ratings = [(f"images/{name}", score) for name, score in ratings]
            archive = f"{part}images.tar"
            if (self.root / archive).is_file():
                members = {member.name: member for member in list_members(self.root / archive)}
                for name, _ in ratings:
                    if name not in members:
                        problems.append(Problem(str(self.root / archive), f"a member '{name}'", "none"))
                ratings = [(name, score) for name, score in ratings if name in members]
                source = TarMembers(self.root, [(archive, members[name]) for name, _ in ratings])
            else:
                source = Files(self.root, [f"{part}{name}" for name, _ in ratings])
            sources.append((source, len(ratings)))
            scores += [score for _, score in ratings]
        self.set_scores(JoinedSources(sources), scores, problems)

    def _parts(self) -> list[str]:
        """Prefixes of the parts relative to the root: "" alone, or names of folders with a slash."""
        if (self.root / "train.txt").is_file():
            return [""]
        parts = [f"{file.parent.name}/" for file in sorted(self.root.glob("*/train.txt")) if file.parent.name[0] != "."]
        if not parts:
            raise DatasetError(self.root, "'train.txt' and 'test.txt', or folders with them", "neither")
        return parts

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for part, first in (("a", 1), ("b", 11)):
            folder = Path(root) / part
            folder.mkdir(parents=True, exist_ok=True)
            images = [(f"images/{number:04}.jpg", fake_jpeg(number)) for number in range(first, first + 4)]
            if part == "a":
                write_tar(folder / "images.tar", images)
            else:
                (folder / "images").mkdir(exist_ok=True)
                for name, data in images:
                    (folder / name).write_bytes(data)
            lines = [f"{first + index:04}.jpg {0.4 + 0.1 * index:.6f}\n" for index in range(4)]
            (folder / "train.txt").write_text("".join(lines[:2]))
            (folder / "test.txt").write_text("".join(lines[2:]))
