"""CamVid: video frames from a driving car with a class for every pixel.

Brostow, Fauqueur, Cipolla: Semantic object classes in video. Pattern Recognition Letters 2009. Here in the form that
the tutorial of SegNet (Badrinarayanan, Kendall, Cipolla, arXiv:1511.00561) made customary: 480 x 360, 11 classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Dataset, Sample, problems_of
from .fields import Image, Labels
from .formats.labels import read_labels
from .formats.picture import read_picture, write_picture
from .formats.reading import read_lines
from .label_folders import drawn_labels
from .matched_folders import require_one_size
from .problems import DamagedData, Problem

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
UNLABELLED = len(CLASSES)


class CamVid(Dataset):
    """`CamVid/{train,val,test}.txt` say which frame belongs where, a line each: the frame's file and its labels' file.

    367, 101 and 233 frames officially. The tutorial's lists hold absolute paths (`/SegNet/CamVid/train/x.png`): of a
    path only the last two parts count, beside the lists. The root may be the folder `CamVid` itself.
    """

    title: ClassVar[str] = "CamVid"
    terms: ClassVar[str] = "CC BY-NC 4.0 of the tutorial's release, academic: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self._kind = Labels(CLASSES, UNLABELLED)
        self.fields = {"labels": self._kind, "image": Image()}
        inside = "CamVid/" if (self.root / "CamVid").is_dir() else ""
        listed = self.root / f"{inside}{split}.txt"
        expected = "two paths a line, a picture and its label map"
        pairs: list[tuple[str, str]] = []
        problems: list[Problem] = []
        for line in read_lines(listed, expected):
            match line.split():
                case [picture, labels]:
                    pairs.append((f"{inside}{_last_two(picture)}", f"{inside}{_last_two(labels)}"))
                case _:
                    problems.append(Problem(str(listed), expected, f"'{line}'"))
        self._pairs = np.array(pairs, np.str_).reshape(-1, 2)
        if problems:
            raise DamagedData.of(problems, opened=self)

    def __len__(self) -> int:
        return len(self._pairs)

    def label(self, index: int) -> str:
        return str(self._pairs[index, 0])

    def read(self, index: int) -> Sample:
        image = read_picture(self.root / self.label(index))
        stored = self.root / str(self._pairs[index, 1])
        labels = read_labels(stored, len(self._kind.names), self._kind.ignore)
        require_one_size(image, labels, stored, self.label(index))
        return {"labels": labels, "image": image}

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        folder = Path(root) / "CamVid"
        for place, split in enumerate(cls.splits):
            lines = []
            for number in range(2):
                labels, image = drawn_labels(10 * place + number, UNLABELLED)
                paths = [f"{split}/0001TP_{number:06}.png", f"{split}annot/0001TP_{number:06}.png"]
                for path, picture in zip(paths, (image, labels), strict=True):
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    write_picture(folder / path, picture)
                lines.append(" ".join(f"/SegNet/CamVid/{path}" for path in paths))
            (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")


def _last_two(path: str) -> str:
    return "/".join(path.split("/")[-2:])
