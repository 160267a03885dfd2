"""Scene: photos with known cameras, and datasets of scenes, in which every photo is predicted from the others.

Poses are [R t] from the scene to the camera: x right, y down, z forward, as OpenCV has them. Pixel centers are at
integers. Readers convert what their files state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.geometry import Size, scaling
from ..core.problems import DatasetError, Problem, require_same_size
from ..dataset import Dataset, Sample
from ..field_types import Camera, DepthRange, Extrinsics, FieldType, Image, Mask
from ..formats.image import read_image

MAX_SOURCES = 8
"""Sources of a sample, the nearest first; a task may take fewer."""
TEST_EVERY = 8
"""One view in this many, from the first on, is a test view, as in LLFF; if a dataset does not say which."""
MAX_TURN = np.pi / 3
"""Angle between the axes of two cameras above which they are not neighbors, whatever their distance."""
FIELDS: dict[str, FieldType] = {
    "views": Image(),
    "cameras": Camera(),
    "poses": Extrinsics(),
    "camera": Camera(),
    "depth_range": DepthRange(),
    "image": Image(),
}


@dataclass(frozen=True)
class View:
    """A camera, with its photo if there is one.

    Attributes:
        name: of the photo, without suffix.
        camera: (3, 3) intrinsic matrix for images of `size`.
        size: (height, width) of the images that the camera was measured on; photos may be smaller.
        pose: (3, 4) [R t] from the scene to the camera.
        depth_range: nearest and farthest depth of what is seen.
        file: the photo; None: no camera was there.
        mask: file of the mask of the pixels for which the pose holds; None: for all.
    """

    name: str
    camera: np.ndarray
    size: Size
    pose: np.ndarray
    depth_range: tuple[float, float]
    file: Path | None = None
    mask: Path | None = None

    @property
    def center(self) -> np.ndarray:
        """(3,) position of the camera in the scene."""
        return -self.pose[:, :3].T @ self.pose[:, 3]

    def camera_at(self, size: Size) -> np.ndarray:
        """(3, 3) intrinsic matrix for images of another size."""
        return scaling(size[1] / self.size[1], size[0] / self.size[0]) @ self.camera

    def pose_from(self, other: View) -> np.ndarray:
        """(3, 4) [R t] from the frame of another camera to that of this one."""
        rotation = self.pose[:, :3] @ other.pose[:, :3].T
        return np.column_stack([rotation, self.pose[:, 3] - rotation @ other.pose[:, 3]])


@dataclass(frozen=True)
class Scene:
    """Photos of one scene.

    Attributes:
        root: its folder.
        views: its views, at least two.
        test: names of the test views; None: one in `TEST_EVERY`.
    """

    root: Path
    views: tuple[View, ...]
    test: frozenset[str] | None = None

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise DatasetError.from_problems(problems)

    def _problems(self):
        if len(self.views) < 2:
            found = f"{len(self.views)} photo(s) with a camera"
            yield Problem(str(self.root), "at least two photos with their cameras", found)
        for view in self.views:
            where = str(view.file or self.root)
            for field_type, value in (
                (Camera(), view.camera),
                (Extrinsics(), view.pose),
                (DepthRange(), np.array(view.depth_range, np.float32)),
            ):
                if (mismatch := field_type.check(value)) is not None:
                    yield Problem(f"{where} ({type(field_type).__name__.lower()})", *mismatch)

    def __len__(self) -> int:
        return len(self.views)

    def view(self, name_or_number: str | int) -> View:
        """A view by name or number.

        Raises:
            UserError: there is none of this name.
        """
        if isinstance(name_or_number, int):
            return self.views[name_or_number]
        stem = Path(name_or_number).stem
        found = [view for view in self.views if name_or_number == view.name or stem == Path(view.name).stem]
        if len(found) != 1:
            names = ", ".join(view.name for view in self.views[:8])
            raise DatasetError(self.root, f"one view named '{name_or_number}'", f"{names}{', ...' * (len(self) > 8)}")
        return found[0]

    @cached_property
    def test_names(self) -> frozenset[str]:
        """Names of the test views."""
        if self.test is not None:
            return self.test
        return frozenset(view.name for view in self.views[::TEST_EVERY])

    def nearest(self, target: View, count: int, without: frozenset[str] = frozenset()) -> list[View]:
        """The photos nearest to a target, without it, by the distance of the cameras; those turned away come last."""
        others = [view for view in self.views if view.name not in without and view.name != target.name]

        def distance(view: View) -> tuple[bool, float]:
            cosine = float(np.clip(view.pose[2, :3] @ target.pose[2, :3], -1, 1))
            return bool(np.arccos(cosine) > MAX_TURN), float(np.linalg.norm(view.center - target.center))

        return sorted(others, key=distance)[:count]

    def sample(self, target: View, sources: Sequence[View]) -> Sample:
        """The sample that predicts a view from photos.

        Args:
            target: one of `views`, or a camera without a photo, for which the sample has no `image`.
            sources: the photos, which do not include that of the target, the nearest first.

        Raises:
            DatasetError: no source, a photo that cannot be read, or photos that differ in size.
        """
        if not sources:
            raise DatasetError(self.root, f"photos to predict '{target.name}' from", "none but itself")
        photos = [read_photo(view) for view in sources]
        for view, photo in zip(sources, photos, strict=True):
            require_same_size(photos[0], photo, view.file or self.root, f"the other photos ({sources[0].name})")
        size = photos[0].shape[0], photos[0].shape[1]
        sample = {
            "views": np.stack(photos),
            "cameras": np.stack([view.camera_at(size) for view in sources]),
            "poses": np.stack([view.pose_from(target) for view in sources]),
            "camera": target.camera_at(size),
            "depth_range": np.array(target.depth_range, np.float32),
        }
        if target.file is not None:
            sample["image"] = read_photo(target)
            require_same_size(photos[0], sample["image"], target.file, f"the other photos ({sources[0].name})")
            if target.mask is not None:
                sample["mask"] = read_image(target.mask)[..., 0] > 127
                require_same_size(photos[0], sample["mask"], target.mask, "its photo")
        return sample


def read_photo(view: View) -> np.ndarray:
    """The photo of a view, (H, W, 3) uint8."""
    assert view.file is not None
    return read_image(view.file)


class SceneDataset(Dataset):
    """Photos of scenes; a sample is one photo with the nearest others and all cameras.

    In the training split, each training view is predicted from the other training views (leave-one-out), in the test
    split each test view from the training views.
    """

    default_protocol: ClassVar[str] = "border-8"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.scenes = list(self.read_scenes(self.root))
        self._samples = [
            (scene, view)
            for scene in self.scenes
            for view in scene.views
            if (view.name in scene.test_names) == (split == "test")
        ]
        masked = all(view.mask is not None for scene in self.scenes for view in scene.views)
        self.fields = {**FIELDS, "mask": Mask()} if masked else dict(FIELDS)
        if not self._samples:
            raise DatasetError(self.root, f"views of the split '{split}'", "none")

    @classmethod
    @abstractmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        """The scenes of a root.

        Raises:
            DatasetError: files are missing or damaged.
        """

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, index: int) -> Sample:
        scene, view = self._samples[index]
        return scene.sample(view, scene.nearest(view, MAX_SOURCES, without=scene.test_names))

    def sample_name(self, index: int) -> str:
        file = self._samples[index][1].file
        return file.relative_to(self.root).as_posix() if file is not None and file.is_relative_to(self.root) else ""
