"""ICVL hand posture dataset (Tang, Chang, Tejani, Kim: Latent Regression Forest, CVPR 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import Problem
from ..examples import fake_hand
from ..field_types import Skeleton
from ..formats.png import read_png16, write_png16
from . import skeletons
from .cube import camera_matrix, project, unproject
from .hand_files import HandFiles

CUBE_MM = 250.0
MIN_ORIGINAL = 7
"""Length of the names of folders with recorded frames, which are dates; the folders of their rotated copies have
shorter names, which are angles."""

EXPECTED = "lines 'FOLDER/image_0000.png' and 16 times 'u v d'"


class ICVL(HandFiles):
    """Sixteen joints in 16-bit depth images of 240x320 in millimeters.

    The root contains `train.txt`, `test_seq_1.txt` and `test_seq_2.txt`, and the images of their lines in `Depth/`. The
    rotated copies of training frames are left out, as DeepPrior does. DeepPrior's figures are those of
    `test_seq_1` (702 frames), the last split; others report on it and `test_seq_2` (894 frames) together.
    """

    title: ClassVar[str] = "ICVL hand posture"
    terms: ClassVar[str] = "no explicit license, academic: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "test_seq_2", "test_seq_1")
    skeleton: ClassVar[Skeleton] = skeletons.ICVL
    palm: ClassVar[int] = 0
    camera: ClassVar[np.ndarray] = camera_matrix(241.42, 241.42, 160, 120)

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        file = self.root / f"{split}.txt"
        names, values, problems = [], [], list[Problem]()
        # Lines end in a space and two carriage returns.
        for line in read_lines(file, EXPECTED):
            name, *numbers = line.split()
            if split == "train" and len(name.partition("/")[0]) < MIN_ORIGINAL:
                continue
            try:
                uvd = np.array(numbers, np.float64).reshape(16, 3)
            except ValueError:
                uvd = np.full((16, 3), np.nan)
            if not (np.isfinite(uvd).all() and (uvd[:, 2] > 0).all()):
                problems.append(Problem(str(file), EXPECTED, f"'{line[:60]}'"))
                continue
            names.append(f"Depth/{name}")
            values.append(unproject(uvd[:, :2], uvd[:, 2], self.camera))
        self.set_hands(names, np.reshape(values, (-1, 16, 3)), np.full(len(names), CUBE_MM), problems)

    def read_depth(self, path: Path) -> np.ndarray:
        return read_png16(path)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        folders = {"train": "201403121135", "test_seq_1": "test_seq_1", "test_seq_2": "test_seq_2"}
        for number, (split, folder) in enumerate(folders.items()):
            lines = []
            for frame in range(2):
                hand = fake_hand(2 * number + frame, (240, 320), cls.camera)
                joints = skeletons.icvl_joints(hand.joints)
                uvd = np.column_stack([project(joints, cls.camera), joints[:, 2]])
                (Path(root) / "Depth" / folder).mkdir(parents=True, exist_ok=True)
                write_png16(Path(root) / "Depth" / folder / f"image_{frame:04}.png", hand.depth.astype(np.uint16))
                numbers = "".join(f"{value:.3f} " for value in uvd.ravel())
                lines.append(f"{folder}/image_{frame:04}.png {numbers}\r\r\n")
                if split == "train":
                    lines.append(f"22-5/{folder}/image_{frame:04}.png {numbers}\r\r\n")
            (Path(root) / f"{split}.txt").write_text("".join(lines), newline="")
