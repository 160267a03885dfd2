"""Anyone's own label maps and the pictures that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Sample
from .fields import Image, Labels
from .formats.labels import read_labels
from .formats.picture import read_picture, write_picture
from .formats.reading import read_lines
from .matched_folders import MatchedPictures, require_one_size
from .problems import DamagedData
from .randomness import Purpose, generator
from .worlds.shapes import draw_shape

UNLABELLED = 255


class LabelFolders(MatchedPictures):
    """Label maps in `labels/`, pictures in `images/`, and the classes in `classes.txt`.

    A label map is an 8-bit PNG of one channel, or of a palette, whose index is the class then. 255 means that nothing
    is said about a pixel. `classes.txt` in the root names the classes from 0 on, one a line; empty lines do not count.
    """

    title: ClassVar[str] = "Folders of label maps and pictures"
    terms: ClassVar[str] = "whatever holds for your files"
    sides: ClassVar[tuple[str, str]] = ("labels", "images")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        listed = Path(root) / "classes.txt"
        names = tuple(read_lines(listed, "the classes' names, one a line from class 0 on"))
        if len(names) > UNLABELLED or len(set(names)) < len(names):
            expected = f"at most {UNLABELLED} names, all different"
            raise DamagedData(listed, expected, f"{len(names)} names, {len(set(names))} of them different")
        self._labels = Labels(names, UNLABELLED)
        self.fields = {"labels": self._labels, "image": Image()}
        super().__init__(root, split)

    def read(self, index: int) -> Sample:
        stored, picture = self.files(index)
        image, labels = read_picture(picture), read_labels(stored, len(self._labels.names), UNLABELLED)
        require_one_size(image, labels, stored, picture.relative_to(self.root).as_posix())
        return {"labels": labels, "image": image}

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            for number in range(2):
                labels, image = drawn_labels(10 * place + number, UNLABELLED)
                for side, picture in zip(cls.sides, (labels, image), strict=True):
                    file = Path(root) / split / side / f"{number + 1}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_picture(file, picture)
        (Path(root) / "classes.txt").write_text("ground\nshape\n")


def drawn_labels(number: int, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map of the classes 0 and 1, (64, 80) uint8, and its picture, for miniature sets."""
    drawn = draw_shape(generator(0, 0, number, Purpose.MINIATURE), 64, 80)
    labels = drawn.mask.astype(np.uint8)
    labels[:2] = ignore
    return labels, drawn.image
