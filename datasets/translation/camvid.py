"""CamVid: video frames from a driving car with a class per pixel.

Brostow, Fauqueur, Cipolla: Semantic object classes in video. Pattern Recognition Letters 2009. In the customary form of
the tutorial of SegNet (Badrinarayanan, Kendall, Cipolla, arXiv:1511.00561): 480 x 360, 11 classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.files import read_lines
from ..core.problems import Problem, require_same_size
from ..dataset import FileDataset, Sample
from ..examples import fake_labels
from ..field_types import Image, SegmentationMask
from ..formats.image import read_image, write_image
from ..formats.png import read_labels

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
UNLABELED = len(CLASSES)


class CamVid(FileDataset):
    """Frames and label maps by the lists `CamVid/{train,val,test}.txt`, with one line per frame: image and label map.

    Officially 367, 101 and 233 frames. The lists of the tutorial contain absolute paths
    (`/SegNet/CamVid/train/x.png`): only the last two parts of a path are used, relative to the lists. The root may be
    the folder `CamVid` itself.
    """

    title: ClassVar[str] = "CamVid"
    terms: ClassVar[str] = "CC BY-NC 4.0 of the tutorial's release, academic: research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self._labels = SegmentationMask(CLASSES, UNLABELED)
        self.fields = {"labels": self._labels, "image": Image()}
        prefix = "CamVid/" if (self.root / "CamVid").is_dir() else ""
        list_file = self.root / f"{prefix}{split}.txt"
        expected = "two paths per line, an image and its label map"
        pairs: list[tuple[str, str]] = []
        problems: list[Problem] = []
        for line in read_lines(list_file, expected):
            match line.split():
                case [image, labels]:
                    pairs.append((f"{prefix}{_last_two(image)}", f"{prefix}{_last_two(labels)}"))
                case _:
                    problems.append(Problem(str(list_file), expected, f"'{line}'"))
        self.set_files(pairs, problems)

    def read(self, index: int) -> Sample:
        file, stored = (self.root / name for name in self.files(index))
        image = read_image(file)
        labels = read_labels(stored, len(self._labels.names), self._labels.ignore)
        require_same_size(image, labels, stored, self.sample_name(index))
        return {"labels": labels, "image": image}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        folder = Path(root) / "CamVid"
        for index, split in enumerate(cls.splits):
            lines = []
            for number in range(2):
                labels, image = fake_labels(10 * index + number, UNLABELED)
                paths = [f"{split}/0001TP_{number:06}.png", f"{split}annot/0001TP_{number:06}.png"]
                for path, pixels in zip(paths, (image, labels), strict=True):
                    write_image(folder / path, pixels)
                lines.append(" ".join(f"/SegNet/CamVid/{path}" for path in paths))
            (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")


def _last_two(path: str) -> str:
    return "/".join(path.split("/")[-2:])
