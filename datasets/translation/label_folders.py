"""Folders of label maps and images: a layout for your own labels-to-image data (`label-folders`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.problems import DatasetError, read_parts
from ..core.randomness import Purpose, generator
from ..dataset import Sample
from ..field_types import Image, SegmentationMask
from ..formats.image import read_image, write_image
from ..formats.labels import read_labels
from ..formats.reading import read_lines
from ..rendering.shapes import draw_shape
from .matched_folders import MatchedImages, require_one_size

UNLABELED = 255


class LabelFolders(MatchedImages):
    """Label maps in `labels/`, images in `images/`, and the classes in `classes.txt`.

    A label map is an 8-bit PNG with one channel, or with a palette, whose index is then the class; 255 is unlabeled.
    `classes.txt` in the root contains the names of the classes from 0 on, one per line; empty lines are ignored.
    """

    title: ClassVar[str] = "Folders of label maps and images"
    terms: ClassVar[str] = "license of your files"
    folder_names: ClassVar[tuple[str, str]] = ("labels", "images")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        class_file = Path(root) / "classes.txt"
        names = tuple(read_lines(class_file, "the names of the classes, one per line from class 0 on"))
        if len(names) > UNLABELED or len(set(names)) < len(names):
            expected = f"at most {UNLABELED} names, all different"
            raise DatasetError(class_file, expected, f"{len(names)} names, {len(set(names))} of them different")
        self._labels = SegmentationMask(names, UNLABELED)
        self.fields = {"labels": self._labels, "image": Image()}
        super().__init__(root, split)

    def read(self, index: int) -> Sample:
        stored, pixels = self.files(index)
        image, labels = read_parts(
            partial(read_image, pixels), partial(read_labels, stored, len(self._labels.names), UNLABELED)
        )
        require_one_size(image, labels, stored, pixels.relative_to(self.root).as_posix())
        return {"labels": labels, "image": image}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in range(2):
                labels, image = fake_labels(10 * index + number, UNLABELED)
                for folder, pixels in zip(cls.folder_names, (labels, image), strict=True):
                    file = Path(root) / split / folder / f"{number + 1}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_image(file, pixels)
        (Path(root) / "classes.txt").write_text("ground\nshape\n")


def fake_labels(number: int, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """Generate a label map of the classes 0 and 1, (64, 80) uint8, and its image, for example datasets."""
    shape = draw_shape(generator(0, 0, number, Purpose.EXAMPLE), 64, 80)
    labels = shape.mask.astype(np.uint8)
    labels[:2] = ignore
    return labels, shape.image
