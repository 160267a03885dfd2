"""Anyone's own label maps and the pictures that belong to them; and how label maps are read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import numpy as np

from .dataset import Sample
from .fields import Image, Labels
from .formats.picture import PNG_SIGNATURE, read_picture, what_is_cut_off, write_picture
from .formats.reading import read_bytes, read_lines
from .matched_folders import MatchedPictures, require_one_size
from .problems import DamagedData
from .randomness import Purpose, generator
from .worlds.shapes import draw_shape

UNLABELLED = 255
FOUND = {"1": "1 bit a pixel", "I;16": "16 bits a pixel"}
"""What a PNG is that is no label map, by Pillow's name of its mode; RGB and its like speak for themselves."""


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
        image, labels = read_picture(picture), read_labels(stored, self._labels)
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


def read_labels(path: str | Path, kind: Labels) -> np.ndarray:
    """A label map from a PNG of one channel or of a palette.

    Args:
        path: the file.
        kind: which values there may be.

    Returns:
        (H, W) uint8, every value a class or `kind.ignore`.

    Raises:
        DamagedData: no file, no whole PNG of one channel, or a value that is no class.
    """
    # Not OpenCV: it gives a palette's colours, whose indices are the classes.
    from PIL import Image as Pillow

    values = f"whose values are classes 0 to {len(kind.names) - 1} or {kind.ignore}"
    expected = f"a label map, a PNG of one channel {values}"
    data = read_bytes(path, expected)
    if not data.startswith(PNG_SIGNATURE):
        raise DamagedData(path, expected, "a file of another format")
    if (lacking := what_is_cut_off(data)) is not None:
        raise DamagedData(path, expected, lacking)
    try:
        with Pillow.open(io.BytesIO(data)) as stored:
            mode, labels = stored.mode, np.array(stored)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError):
        raise DamagedData(path, expected, f"{len(data)} bytes that do not decode as one") from None
    if mode not in ("L", "P"):
        raise DamagedData(path, expected, FOUND.get(mode, f"an {mode} picture"))
    known = np.zeros(256, bool)
    known[[*range(len(kind.names)), kind.ignore]] = True
    if not known[labels].all():
        odd = labels[~known[labels]]
        raise DamagedData(path, expected, f"the value {odd[0]} ({odd.size} pixels are no class)")
    return labels


def drawn_labels(number: int, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map of the classes 0 and 1, (64, 80) uint8, and its picture, for miniature sets."""
    drawn = draw_shape(generator(0, 0, number, Purpose.MINIATURE), 64, 80)
    labels = drawn.mask.astype(np.uint8)
    labels[:2] = ignore
    return labels, drawn.image
