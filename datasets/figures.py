"""Figures and athletes: drawn people with exact joints; nothing to download."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .dataset import Sample, World
from .fields import Box, Image, Keypoints
from .geometry import Size, covering_size, plain_resize
from .photographs import Photographs
from .skeletons import LSP
from .worlds.figures import draw_figure
from .worlds.poses import EVERYDAY, SPORT, Manner

PHOTOGRAPHS = 2
"""Photographs that one picture is made with: its backdrop, and what some clothes are cut out of."""


MISLABELLED = 0.2
"""Share of the joints of `MislabelledFigures` whose label is wrong."""


class Figures(World):
    """Unseen people without end, one in the middle of each picture, upright and mostly seen from the front: fourteen
    joints as in the Leeds Sports Poses, each seen, hidden or outside of the picture, and the person's box.

    Without a root, backdrops and clothes are this package's own grounds and patterns. With one, mostly the photographs
    in that folder, split as `photographs` splits them.
    """

    title: ClassVar[str] = "Figures (embedded world)"
    default_size: ClassVar[Size] = (128, 128)
    test_samples: ClassVar[int] = 500
    manner: ClassVar[Manner] = EVERYDAY

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image(), "joints": Keypoints(LSP), "box": Box()}
        self._photographs = Photographs(root, "train" if split == "train" else "test") if root else None
        if self._photographs is not None:
            self.terms = f"drawn with photographs: {self._photographs.terms}"  # type: ignore[misc]

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        # A backdrop shows half of a photograph or more: one of twice the picture's size is never enlarged.
        fine = 2 * size[0], 2 * size[1]
        photographs = []
        if self._photographs is not None:
            for index in rng.integers(len(self._photographs), size=PHOTOGRAPHS):
                sample, _ = self._photographs.read_for(
                    int(index), lambda source: plain_resize(source, covering_size(source, fine))
                )
                photographs.append(sample["image"])
        drawn = draw_figure(rng, *size, photographs, self.manner)
        return {"image": drawn.image, "joints": drawn.joints, "box": drawn.box}


class Athletes(Figures):
    """Figures that climb, tumble and fly, turned anywhere: what to learn before the Leeds Sports Poses."""

    title: ClassVar[str] = "Athletes (embedded world)"
    manner: ClassVar[Manner] = SPORT


class MislabelledFigures(Figures):
    """Figures whose training labels are a fifth wrong: such a joint is said to be anywhere in the picture.

    The unseen figures have the true joints, so that a score tells what was learned in spite of the mistakes.
    """

    title: ClassVar[str] = "Figures with a fifth of the joints mislabelled (embedded world)"

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        sample = super().draw(rng, size)
        if self.split == "train":
            joints = sample["joints"].copy()
            wrong = rng.random(len(joints)) < MISLABELLED
            anywhere = rng.uniform(0, 1, (len(joints), 2)) * (size[1] - 1, size[0] - 1)
            joints[wrong, :2] = anywhere[wrong]
            sample["joints"] = joints
        return sample
