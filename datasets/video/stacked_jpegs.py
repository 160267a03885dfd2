"""Stacked JPEG files: the clips of Vondrick, Pirsiavash and Torralba (NIPS 2016), one image per clip.

The frames of a clip stand above each other in one JPEG file: its width is the side of the square frames, its height the
number of frames times that. A list names one file per line; what follows the first word is ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError
from ..dataset import FileDataset, Sample
from ..examples import fake_clip
from ..field_types import FieldType, Image
from ..formats.image import read_image, write_image

SIDE = 128
"""Side of the frames in the released files, pixels; the UCF-101 files have 256."""


class StackedJPEGs(FileDataset):
    """Clips of 32 frames in `train.txt` and `test.txt`, which list files relative to the root.

    A shorter clip repeats its last frame, as in the authors' code; of a longer one, the first 32 frames are read. Their
    code trains on a gray clip if a file cannot be read; here, that is an error.
    """

    title: ClassVar[str] = "Stacked JPEG files (Vondrick et al. 2016)"
    terms: ClassVar[str] = "license of your files"
    num_frames: ClassVar[int] = 32

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields: dict[str, FieldType] = {"clip": Image()}
        lines = read_lines(self.root / f"{split}.txt", "the path of a stacked JPEG file per line")
        self.set_files([(line.split()[0],) for line in lines])

    def read(self, index: int) -> Sample:
        path = self.root / self.files(index)[0]
        image = read_image(path)
        height, side = image.shape[:2]
        if height % side:
            expected = "square frames above each other: a height that is a multiple of the width"
            raise DatasetError(path, expected, f"{side}x{height}")
        frames = image.reshape(-1, side, side, 3)
        times = np.minimum(np.arange(self.num_frames), len(frames) - 1)
        return {"clip": frames[times]}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for number, split in enumerate(cls.splits):
            names = []
            for index in range(2):
                names.append(f"videos/{split}-{index}.jpg")
                frames = fake_clip(10 * number + index, 32 - index, SIDE)
                write_image(Path(root) / names[-1], frames.reshape(-1, SIDE, 3))
            (Path(root) / f"{split}.txt").write_text("".join(f"{name} 0\n" for name in names))
