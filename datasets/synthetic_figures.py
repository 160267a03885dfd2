"""Synthetic pose datasets: rendered people with exact joints."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .core.geometry import Size, covering_size, plain_resize
from .dataset import Sample, SyntheticDataset
from .field_types import Box, Image, Keypoints
from .image_folders import ImageFolders
from .pose.skeletons import LSP
from .rendering.figures import draw_figure
from .rendering.poses import EVERYDAY, SPORT, Manner

PHOTOS = 2
"""Number of photos used per image: for the background, and as textures of some clothes."""

MISLABELED = 0.2
"""Share of wrong joint labels in the training split of `SyntheticMislabeledFigures`."""


class SyntheticFigures(SyntheticDataset):
    """One person in the center of each image, upright and mostly seen from the front: the fourteen joints of Leeds
    Sports Pose, each visible, occluded or outside the image, and the box of the person.

    Without a root, backgrounds and clothes have generated textures. With a root, most textures are photos of that
    folder, with the splits of `image-folders`.
    """

    title: ClassVar[str] = "Figures (synthetic)"
    default_size: ClassVar[Size] = (128, 128)
    test_samples: ClassVar[int] = 500
    manner: ClassVar[Manner] = EVERYDAY

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image(), "joints": Keypoints(LSP), "box": Box()}
        self._photos = ImageFolders(root, "train" if split == "train" else "test") if root else None
        if self._photos is not None:
            self.terms = f"rendered with photos: {self._photos.terms}"  # type: ignore[misc]

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        # A background shows at least half of a photo: at twice the size of the image, it is never enlarged.
        photo_size = 2 * size[0], 2 * size[1]
        photos = []
        if self._photos is not None:
            for index in rng.integers(len(self._photos), size=PHOTOS):
                sample, _ = self._photos.read_for(
                    int(index), lambda source: plain_resize(source, covering_size(source, photo_size))
                )
                photos.append(sample["image"])
        figure = draw_figure(rng, *size, photos, self.manner)
        return {"image": figure.image, "joints": figure.joints, "box": figure.box}


class SyntheticAthletes(SyntheticFigures):
    """People in sports poses, in any orientation: for pretraining before Leeds Sports Pose."""

    title: ClassVar[str] = "Athletes (synthetic)"
    manner: ClassVar[Manner] = SPORT


class SyntheticMislabeledFigures(SyntheticFigures):
    """Figures with a fifth of the training labels wrong: these joints are at random positions in the image.

    The labels of the test split are correct, so that scores measure robustness to label noise.
    """

    title: ClassVar[str] = "Figures with a fifth of the joints mislabeled (synthetic)"

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        sample = super().generate(rng, size)
        if self.split == "train":
            joints = sample["joints"].copy()
            wrong = rng.random(len(joints)) < MISLABELED
            positions = rng.uniform(0, 1, (len(joints), 2)) * (size[1] - 1, size[0] - 1)
            joints[wrong, :2] = positions[wrong]
            sample["joints"] = joints
        return sample
