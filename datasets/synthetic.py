"""Synthetic datasets: generated samples with exact ground truth. The renderers are in `rendering/`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .core.geometry import Size, covering_size
from .dataset import Sample, SyntheticDataset
from .field_types import (
    Box,
    Camera,
    ClassLabel,
    Depth,
    DepthRange,
    Extrinsics,
    FieldType,
    Flow,
    Image,
    Keypoints,
    Mask,
    Scalar,
    SegmentationMask,
)
from .formats.image import EncodedImage
from .hand.cube import HandFrame
from .hand.hand_fields import Cube, CubeDepth, Joints
from .hand.skeletons import ICVL, icvl_joints
from .image_folders import ImageFolders
from .pose.skeletons import LSP
from .rendering import facades, shapes
from .rendering.boats import draw_boats
from .rendering.chairs import draw_chairs, draw_moving
from .rendering.figures import draw_figure
from .rendering.hands import ROTATION, SENSOR, draw_hand, palm_of
from .rendering.poses import EVERYDAY, SPORT, Manner
from .rendering.recognition_game import play, random_scene, render_scene
from .rendering.room_views import render_views
from .rendering.rooms import render_room

MAX_PHOTO_SIZE = 640
"""Maximum length of a photo in pixels in `SyntheticChairs`; longer ones are reduced, since a scene does not show
more."""

MISLABELED = 0.2
"""Share of wrong joint labels in the training split of `SyntheticMislabeledFigures`."""


class SyntheticRooms(SyntheticDataset):
    """Ray-cast furnished rooms: image, depth along the optical axis in meters, camera matrix."""

    title: ClassVar[str] = "Rooms (synthetic)"
    field_types: ClassVar[dict[str, FieldType]] = {"image": Image(), "depth": Depth(), "camera": Camera()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        return render_room(rng, *size)


class RoomViews(SyntheticDataset):
    """Rooms of `synthetic-rooms` seen from five places: four views with their cameras, and a target between them with
    its depth. The views have one exposure, and few rooms have highlights (`rendering/room_views.py`)."""

    title: ClassVar[str] = "Rooms from five places (synthetic)"
    default_size: ClassVar[Size] = (64, 80)
    default_protocol: ClassVar[str] = "border-4"
    depth_range: ClassVar[tuple[float, float]] = (0.6, 10.0)
    field_types: ClassVar[dict[str, FieldType]] = {
        "views": Image(),
        "cameras": Camera(),
        "poses": Extrinsics(),
        "camera": Camera(),
        "depth_range": DepthRange(),
        "image": Image(),
        "depth": Depth(),
    }

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        rendered = {**render_views(rng, *size), "depth_range": np.array(self.depth_range, np.float32)}
        return {name: rendered[name] for name in self.field_types}


class SyntheticShapes(SyntheticDataset):
    """One shape per image, of a uniformly random class: arrow, crescent, cross, disc, drop, heart, ring, square, star,
    triangle."""

    title: ClassVar[str] = "Shapes (synthetic)"
    default_size: ClassVar[Size] = (64, 64)
    test_samples: ClassVar[int] = 1000
    field_types: ClassVar[dict[str, FieldType]] = {"image": Image(), "category": ClassLabel(shapes.NAMES)}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        shape = shapes.draw_shape(rng, *size)
        return {"image": shape.image, "category": np.array(shape.category, np.int64)}


class SyntheticWeather(SyntheticDataset):
    """Clean images, a shape or a room with equal probability. The degradations (`rendering/weather.py`) are options of
    the restoration task."""

    title: ClassVar[str] = "Weather (synthetic)"
    field_types: ClassVar[dict[str, FieldType]] = {"image": Image()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        is_shape = rng.random() < 0.5
        return {"image": shapes.draw_shape(rng, *size).image if is_shape else render_room(rng, *size)["image"]}


class SyntheticFacades(SyntheticDataset):
    """Label maps of facades in the twelve classes of the CMP facade database (walls, windows, doors, ornaments ...),
    and images, whose paint, light and weather cannot be inferred from the labels."""

    title: ClassVar[str] = "Facades (synthetic)"
    default_protocol: ClassVar[str] = "fcn-score-synthetic-facades"
    default_size: ClassVar[Size] = (128, 128)
    cpu_heavy: ClassVar[bool] = False
    field_types: ClassVar[dict[str, FieldType]] = {"labels": SegmentationMask(facades.NAMES), "image": Image()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        facade = facades.draw_facade(rng, *size)
        return {"labels": facade.labels, "image": facade.image}


class RecognitionGame(SyntheticDataset):
    """Scenes with the memorability score that 20 simulated players give them; it says nothing of what people remember.

    What the players recognize is a documented function of what is visible, with false alarms and the noise of a finite
    number of players (`rendering/recognition_game.py`). `expected_score` is the score without that noise, `first_half`
    and `second_half` are the scores of the halves of the players: metrics have their ceiling from them, and no network
    reads them.

    Attributes:
        players: number of players who rate every image.
        count_false_alarms: whether false alarms are subtracted from the hits, as in LaMem.
    """

    title: ClassVar[str] = "Recognition game, 20 simulated players (synthetic)"
    default_size: ClassVar[Size] = (64, 64)
    test_samples: ClassVar[int] = 1000
    cpu_heavy: ClassVar[bool] = False
    players: ClassVar[int] = 20
    count_false_alarms: ClassVar[bool] = True
    field_types: ClassVar[dict[str, FieldType]] = {
        "image": Image(),
        **dict.fromkeys(("score", "expected_score", "first_half", "second_half"), Scalar()),
    }

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        scene = random_scene(rng)
        ratings = play(scene, self.players, rng, count_false_alarms=self.count_false_alarms)
        scores = (ratings.score, ratings.expected, *ratings.halves)
        names = list(self.field_types)[1:]
        return {"image": render_scene(scene, size), **dict(zip(names, map(np.array, scores), strict=True))}


class RecognitionGame40(RecognitionGame):
    """The same scenes with the scores of 40 players: half the variance of the noise."""

    title: ClassVar[str] = "Recognition game, 40 simulated players (synthetic)"
    players: ClassVar[int] = 40


class RecognitionGameHits(RecognitionGame):
    """The same scenes and players, whose false alarms are not counted: the score is the share of hits."""

    title: ClassVar[str] = "Recognition game, hits of 20 simulated players (synthetic)"
    count_false_alarms: ClassVar[bool] = False


class PhotoTextured(SyntheticDataset):
    """Base class of datasets whose textures are generated or, with a root, photos of that folder, with the splits of
    `image-folders`.

    Attributes:
        photos_per_sample: number of photos used for a sample.
    """

    photos_per_sample: ClassVar[int]

    def __init__(
        self, root: str | Path | None = None, split: str = "train", size: Size | None = None, seed: int = 0
    ) -> None:
        super().__init__(root, split, size, seed)
        self._photos = ImageFolders(root, split) if root else None
        if self._photos is not None:
            self.terms = f"rendered with photos: {self._photos.terms}"  # type: ignore[misc]

    def random_photos(self, rng: np.random.Generator) -> list[EncodedImage]:
        """Random photos, not decoded yet; none without a root."""
        if self._photos is None:
            return []
        indices = rng.integers(len(self._photos), size=self.photos_per_sample)
        return [self._photos.open(int(index)) for index in indices]


class SyntheticChairs(PhotoTextured):
    """Objects in front of a moving background: two images, the flow of every pixel from the first to the second, and
    whether it is visible there."""

    title: ClassVar[str] = "Chairs (synthetic)"
    default_size: ClassVar[Size] = (192, 256)
    photos_per_sample: ClassVar[int] = 3
    field_types: ClassVar[dict[str, FieldType]] = {
        "first": Image(),
        "second": Image(frame=1),
        "flow": Flow(),
        "visible": Mask(),
    }

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        return draw_chairs(rng, *size, [_reduced(photo.decode()) for photo in self.random_photos(rng)])


def _reduced(photo: np.ndarray) -> np.ndarray:
    scale = MAX_PHOTO_SIZE / max(photo.shape[:2])
    if scale >= 1:
        return photo
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


class MovingPhotos(PhotoTextured):
    """Clips of 8 frames: objects in front of a background, each with its own small motion, the same from every frame to
    the next. Objects and background are textured as those of `synthetic-chairs`."""

    title: ClassVar[str] = "Moving photos (synthetic)"
    default_size: ClassVar[Size] = (64, 64)
    photos_per_sample: ClassVar[int] = 3
    field_types: ClassVar[dict[str, FieldType]] = {"clip": Image()}
    num_frames: ClassVar[int] = 8

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        photos = [_reduced(photo.decode()) for photo in self.random_photos(rng)]
        return {"clip": draw_moving(rng, self.num_frames, *size, photos)}


class Boats(SyntheticDataset):
    """Clips of 16 frames: one or two boats in front of a static background (`rendering/boats.py`), with the background
    and the mask of the boats. The first frame tells where a boat points, by its hue how fast it is, and by its stripe
    whether it turns."""

    title: ClassVar[str] = "Boats, 16 frames (synthetic)"
    default_size: ClassVar[Size] = (64, 64)
    cpu_heavy: ClassVar[bool] = False
    field_types: ClassVar[dict[str, FieldType]] = {"clip": Image(), "background": Image(), "mask": Mask()}
    num_frames: ClassVar[int] = 16

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        clip = draw_boats(rng, self.num_frames, *size)
        return {"clip": clip.frames, "background": clip.background, "mask": clip.masks}


class Boats32(Boats):
    """`Boats` with 32 frames, the length of the clips of Vondrick et al. 2016."""

    title: ClassVar[str] = "Boats, 32 frames (synthetic)"
    num_frames: ClassVar[int] = 32


class SyntheticFigures(PhotoTextured):
    """One person in the center of each image, upright and mostly seen from the front: the fourteen joints of Leeds
    Sports Pose, each visible, occluded or outside the image, and the box of the person. Photos serve as the background
    and as textures of some clothes."""

    title: ClassVar[str] = "Figures (synthetic)"
    default_size: ClassVar[Size] = (128, 128)
    test_samples: ClassVar[int] = 500
    photos_per_sample: ClassVar[int] = 2
    manner: ClassVar[Manner] = EVERYDAY
    field_types: ClassVar[dict[str, FieldType]] = {"image": Image(), "joints": Keypoints(LSP), "box": Box()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        # A background shows at least half of a photo: at twice the size of the image, it is never enlarged.
        photo_size = 2 * size[0], 2 * size[1]
        photos = [photo.decode(covering_size(photo.size, photo_size)) for photo in self.random_photos(rng)]
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


class SyntheticHands(SyntheticDataset):
    """Right hands of capsules in the depth images of a sensor with noise and holes: what is in a cube of 250 mm around
    the palm, as DeepPrior cuts it (`hand/cube.py`), and the sixteen joints of ICVL in space."""

    title: ClassVar[str] = "Hands (synthetic)"
    default_size: ClassVar[Size] = (128, 128)
    test_samples: ClassVar[int] = 500
    cube_side: ClassVar[float] = 250.0
    rotation: ClassVar[tuple[float, float, float]] = ROTATION
    field_types: ClassVar[dict[str, FieldType]] = {
        "depth": CubeDepth(),
        "camera": Camera(),
        "cube": Cube(),
        "joints": Joints(ICVL),
    }

    def read_frame(self, index: int) -> HandFrame:
        """Render the complete depth image of a sample, with its labels."""
        return self._draw(self.random_stream(index))

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        frame = self._draw(rng)
        return frame.cut(frame.palm, size)

    def _draw(self, rng: np.random.Generator) -> HandFrame:
        hand = draw_hand(rng, SENSOR, rotation=self.rotation)
        return HandFrame(hand.depth, hand.camera, icvl_joints(hand.joints), palm_of(hand.joints), self.cube_side)
