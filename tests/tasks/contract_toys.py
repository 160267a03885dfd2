"""Toy tasks that each strain the contract in one way: views with cameras, numbers, depth, clips, noise, sequences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import Camera, Depth, FieldType, Image, Scalar
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.png import read_depth_png
from densevision.datasets.formats.video import write_video
from densevision.tasks.image_io import load_image
from densevision.tasks.network import Network, Phase
from densevision.tasks.policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from densevision.tasks.prediction import OutputSpec, Prediction
from densevision.tasks.task import Defaults, Metrics, MonitoredMetric, Task
from densevision.tasks.training.options import Options

SIZE = (64, 96)
VIEWS, FRAMES, JOINTS, NOISE = 3, 4, 5, 6
COLOR = Image()


@dataclass(frozen=True)
class Joints(FieldType):
    """Joints in space, (J, 3) float32 millimeters in the camera's frame."""

    rank: ClassVar[int] = 2

    def check(self, value):
        return None if value.shape[-2:] == (JOINTS, 3) else (f"{JOINTS}x3 millimeters", str(value.shape))

    def _transform(self, value, geometry):
        return value


@dataclass(frozen=True)
class Noise(FieldType):
    """A vector of noise, (NOISE,) float32."""

    rank: ClassVar[int] = 1

    def check(self, value):
        return None if value.shape == (NOISE,) else (f"{NOISE} numbers", str(value.shape))

    def _transform(self, value, geometry):
        return value


@dataclass(frozen=True, repr=False)
class Array(Prediction):
    """What a toy predicts, as an array of a field type."""

    values: np.ndarray
    field_type: FieldType
    unit: ClassVar[str] = "units of the toy"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        try:
            return self.field_type.colorize(self.values, reference.values if isinstance(reference, Array) else None)
        except TypeError:
            return np.zeros((8, 8, 3), np.uint8)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        array, image, video = (Path(folder) / f"{stem}{end}" for end in (".npy", ".png", ".mp4"))
        np.save(array, self.values)
        if self.field_type == COLOR and self.values.ndim == 4:
            return [array, write_video(video, map(COLOR.colorize, self.values), 5)]
        write_image(image, self.to_image())
        return [array, image]


class MeanError(Metrics):
    """Mean absolute difference."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def update(self, prediction: Any, ground_truth: Sample) -> None:
        target = ground_truth["target"]
        assert prediction.values.shape == target.shape
        self.errors.append(float(np.abs(prediction.values.astype(float) - target).mean()))

    def state(self) -> list[float]:
        return self.errors

    def merge(self, states) -> None:
        self.errors = sorted(error for state in states for error in state)

    def compute(self) -> dict[str, float]:
        return {"error": float(np.mean(sorted(self.errors))) if self.errors else float("nan")}


class Toy(Task):
    """The field `target` from all other fields. A toy states its data, its network and what is unusual about it."""

    title: ClassVar[str] = "A toy"
    paper: ClassVar[str] = "none"
    defaults: ClassVar[Defaults] = Defaults(data="", backbone=None, head=None, recipe="toy")
    models: ClassVar[dict[str, str]] = {"toy": ""}
    recipes: ClassVar[dict[str, Options]] = {"toy": Options(model="toy", steps=2, image_size=SIZE, warmup_steps=0)}
    losses: ClassVar[tuple[str, ...]] = ("l1",)
    protocols: ClassVar[tuple[str, ...]] = ("all",)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("error", higher_is_better=False)

    data: ClassVar[dict[str, FieldType]]
    network: ClassVar[type[Network]]
    spec: ClassVar[OutputSpec]

    @staticmethod
    def draw(rng: np.random.Generator) -> Sample:
        """A sample."""
        raise NotImplementedError

    def inputs(self, fields):
        return {
            name: self.require_field(fields, name, type(kind)) for name, kind in self.data.items() if name != "target"
        }

    def targets(self, fields):
        return {"target": self.require_field(fields, "target", type(self.data["target"]))}

    def build(self, fields, backbone, head, model):
        return self.network()

    def phases(self, model, fields, loss):
        def difference(batch, cache):
            output, target = model(*(batch[name] for name in self.inputs(fields))), batch["target"]
            return {"l1": (output.reshape(target.shape) - target).abs().mean()}

        return (Phase("toy", model, difference),)

    def metrics(self, protocol):
        return MeanError()

    def baseline(self, dataset):
        mean = np.mean([dataset.read(index)["target"] for index in dataset.spread(4)], axis=0)
        return lambda sample: Array(np.asarray(mean), self.data["target"])

    def output_spec(self, model, fields):
        return self.spec

    def decode(self, output, context):
        kind = self.data["target"]
        if not kind.input_channels:
            values = output[0].numpy().reshape((JOINTS, 3) if kind.rank else ())
        else:
            # Maps (C, H, W), or clips of them (T, C, H, W), at the size of the image.
            resized = F.interpolate(output.flatten(0, -4), context.size, mode="bilinear").movedim(1, -1).numpy()
            values = resized if output.ndim == 5 else resized[0][..., 0] if kind.rank == 2 else resized[0]
        return Array(values, kind)

    def ground_truth(self, sample, fields):
        return Array(sample["target"], self.data["target"])


class Samples(Dataset):
    """Five samples of a toy."""

    title: ClassVar[str] = "Samples of a toy"
    terms: ClassVar[str] = "none"

    def __init__(self, task: Toy, split: str = "train") -> None:
        super().__init__("", split)
        self.task = task
        self.fields = {name: kind for name, kind in task.data.items() if not isinstance(kind, Noise)}

    def __len__(self) -> int:
        return 5

    def read(self, index: int) -> Sample:
        return self.task.draw(generator(0, len(self.split), index, Purpose.EXAMPLE))


def random_image(rng: np.random.Generator, *leading: int) -> np.ndarray:
    """Colors between two random ones, (..., H, W, 3) float32 in [0, 1]."""
    first, second = rng.uniform(0, 1, (2, *leading, 1, 1, 3))
    return (first + (second - first) * np.linspace(0, 1, SIZE[1])[:, None] + np.zeros((*SIZE, 1))).astype(np.float32)


def as_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(image * 255).astype(np.uint8)


# Several views with cameras


class ViewsNetwork(Network):
    """(B, N, 3, H, W) views and (B, N, 3, 3) cameras to (B, 1, H, W) meters."""

    input_policy = "tiled"
    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3 * VIEWS, 1, 3, padding=1)
        self.cameras: Tensor | None = None

    def forward(self, views: Tensor, cameras: Tensor) -> Tensor:
        self.cameras = cameras
        return F.softplus(self.layer(views.flatten(1, 2))) * cameras[:, :1, :1, :1].squeeze(1)[..., None] / 50


class NoFlip(AugmentationPolicy):
    """No augmentation: a camera cannot be mirrored."""

    def limits(self, augmentation, fields, source):
        return Augmentation()


class ViewsInference(InferencePolicy):
    def inputs_per_prediction(self, fields):
        return VIEWS

    def read_inputs(self, sources, fields):
        cameras = np.load(sources[0].path.with_name("cameras.npy"))
        return {"views": np.stack([load_image(source) for source in sources]), "cameras": cameras}


@dataclass(frozen=True)
class Views(Toy):
    """Depth of the first of several views, which have cameras."""

    name: ClassVar[str] = "views"
    data: ClassVar[dict[str, FieldType]] = {"views": COLOR, "cameras": Camera(), "target": Depth()}
    network = ViewsNetwork
    spec = OutputSpec(("depth",), "meters")

    @staticmethod
    def draw(rng):
        views = random_image(rng, VIEWS)
        cameras = np.stack([np.array([[50.0 + view, 0, 40], [0, 50 + view, 30], [0, 0, 1]]) for view in range(VIEWS)])
        return {"views": as_bytes(views), "cameras": cameras, "target": 1 + views[0].mean(-1)}

    @property
    def augmentation(self):
        return NoFlip()

    @property
    def inference(self):
        return ViewsInference(("native", "fit"))


# One number per image


class ScoreNetwork(Network):
    """(B, 3, H, W) to (B, 1) scores."""

    input_policy = "fixed"
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image.mean((-1, -2)))


@dataclass(frozen=True)
class Score(Toy):
    """A score of an image."""

    name: ClassVar[str] = "score"
    data: ClassVar[dict[str, FieldType]] = {"image": COLOR, "target": Scalar()}
    network = ScoreNetwork
    spec = OutputSpec(("score",), "points", "values")

    @staticmethod
    def draw(rng):
        image = random_image(rng)
        return {"image": as_bytes(image), "target": np.asarray(image.mean())}


# A depth image in, joints in space out


class JointsNetwork(Network):
    """(B, 1, H, W) meters to (B, J, 3) millimeters."""

    input_policy = "fixed"
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 3 * JOINTS)

    def forward(self, depth: Tensor) -> Tensor:
        return self.layer(depth.mean((-1, -2))).unflatten(1, (JOINTS, 3))


class DepthFile(InferencePolicy):
    def read_inputs(self, sources, fields):
        return {"depth": read_depth_png(sources[0].path, 1000)}


@dataclass(frozen=True)
class Hand(Toy):
    """Joints in space from a depth image."""

    name: ClassVar[str] = "hand"
    data: ClassVar[dict[str, FieldType]] = {"depth": Depth(), "target": Joints()}
    network = JointsNetwork
    spec = OutputSpec(("x", "y", "z"), "millimeters", "keypoints")

    @staticmethod
    def draw(rng):
        depth = 0.5 + random_image(rng)[..., 0]
        return {"depth": depth, "target": (1000 * depth.mean() + np.zeros((JOINTS, 3))).astype(np.float32)}

    @property
    def inference(self):
        return DepthFile()


# Clips in and out


class ClipNetwork(Network):
    """(B, T, 3, H, W) to (B, T, 3, H, W), by a convolution in space and time."""

    input_policy = "whole"
    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(3, 3, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.layer(clip.transpose(1, 2)).transpose(1, 2)


class FramesInference(InferencePolicy):
    def inputs_per_prediction(self, fields):
        return FRAMES

    def read_inputs(self, sources, fields):
        return {"clip": np.stack([load_image(source) for source in sources])}


@dataclass(frozen=True)
class Clips(Toy):
    """The next clip after a clip."""

    name: ClassVar[str] = "clips"
    data: ClassVar[dict[str, FieldType]] = {"clip": COLOR, "target": COLOR}
    network = ClipNetwork
    spec = OutputSpec(("red", "green", "blue"), "image")

    @staticmethod
    def draw(rng):
        clip = random_image(rng, FRAMES)
        return {"clip": as_bytes(clip), "target": clip[::-1].copy()}

    @property
    def inference(self):
        return FramesInference()


# Samples from noise


class NoiseNetwork(Network):
    """(B, NOISE) to (B, 3, *SIZE)."""

    input_policy = "fixed"
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(NOISE, 3)

    def forward(self, noise: Tensor) -> Tensor:
        return self.layer(noise)[..., None, None].expand(-1, 3, *SIZE)


def noise_of(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(NOISE).astype(np.float32)


class WithNoise(AugmentationPolicy):
    def augment(self, sample, rng, color_jitter):
        return sample if "noise" in sample else {**sample, "noise": noise_of(rng or np.random.default_rng(0))}


class NoiseInference(InferencePolicy):
    def inputs_per_prediction(self, fields):
        return 0

    def read_inputs(self, sources, fields):
        (seed,) = sources
        return {"noise": noise_of(np.random.default_rng(seed))}


class NoisySamples(Samples):
    """Samples with noise, reproducibly."""

    def __init__(self, samples: Samples) -> None:
        super().__init__(samples.task, samples.split)
        self.fields = samples.task.data

    def read(self, index: int) -> Sample:
        return {**super().read(index), "noise": noise_of(np.random.default_rng(index))}


class NoiseEvaluation(EvaluationPolicy):
    def dataset(self, dataset: Any) -> Dataset:
        return NoisySamples(dataset)


@dataclass(frozen=True)
class FromNoise(Toy):
    """Images from noise alone."""

    name: ClassVar[str] = "from-noise"
    data: ClassVar[dict[str, FieldType]] = {"noise": Noise(), "target": COLOR}
    network = NoiseNetwork
    spec = OutputSpec(("red", "green", "blue"), "image")

    @staticmethod
    def draw(rng):
        return {"target": random_image(rng)}

    def inputs(self, fields) -> dict[str, FieldType]:
        return {"noise": Noise()}

    @property
    def augmentation(self):
        return WithNoise()

    @property
    def inference(self):
        return NoiseInference(("native",))

    @property
    def evaluation(self):
        return NoiseEvaluation(self.protocols)


# A complete folder as one prediction


class BackgroundNetwork(Network):
    """(B, T, 3, H, W), for any T, to (B, 3, H, W)."""

    input_policy = "tiled"
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.layer(frames.mean(1))


class FolderInference(InferencePolicy):
    def inputs_per_prediction(self, fields):
        return None

    def read_inputs(self, sources, fields):
        return {"frames": np.stack([load_image(source) for source in sources])}


@dataclass(frozen=True)
class Background(Toy):
    """The background of a sequence of any length."""

    name: ClassVar[str] = "background"
    data: ClassVar[dict[str, FieldType]] = {"frames": COLOR, "target": COLOR}
    network = BackgroundNetwork
    spec = OutputSpec(("red", "green", "blue"), "image")

    @staticmethod
    def draw(rng):
        frames = random_image(rng, FRAMES)
        return {"frames": as_bytes(frames), "target": frames.mean(0)}

    @property
    def inference(self):
        return FolderInference(("native", "fit"))


TOYS: tuple[Toy, ...] = (Views(), Score(), Hand(), Clips(), FromNoise(), Background())
NEW_FIELD_TYPES = {kind.__name__: kind for kind in (Joints, Noise)}
