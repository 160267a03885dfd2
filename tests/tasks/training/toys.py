"""Minimal tasks, models and datasets for training tests; importable by processes that tests start."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densevision.datasets.core.geometry import Geometry
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import Depth as DepthKind
from densevision.datasets.field_types import FieldType, Image
from densevision.datasets.shards import Shards, write_shards
from densevision.tasks.depth import Depth
from densevision.tasks.depth.losses import LOSSES
from densevision.tasks.network import Network, Phase
from densevision.tasks.task import Task
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import build_trainer, train
from densevision.tasks.training.state import load_state

TINY: dict[str, Any] = {
    "image_size": (16, 16), "batch_size": 2, "steps": 6, "lr": 0.01, "warmup_steps": 0, "schedule": "cosine",
    "loss": "l1", "ema_decay": 0.0, "clip_grad_norm": 0.0, "workers": 0, "eval_every": 100,
    "log_every": 100, "save_every": 100, "eval_samples": 3,
    "device": "cpu", "amp": "off", "max_zoom": 1.5, "max_rotation": 5.0,
}  # fmt: skip
BACKBONE: dict[str, Any] = {"backbone": "resnet20_cifar", "head": "unet"}
LINEAR: dict[str, Any] = {
    "micro_batches": 4,
    "clip_grad_norm": 0.5,
    "ema_decay": 0.9,
    "optimizer": "sgd",
    "lr": 0.05,
}
UNREPEATABLE = ("images_per_second", "seconds", "total")


class Reliefs(Dataset):
    """Random images whose depth grows with brightness; a tenth of the depth values is unknown."""

    title: ClassVar[str] = "Reliefs"
    terms: ClassVar[str] = "no terms"

    def __init__(self, samples: int = 7, split: str = "train", size: tuple[int, int] = (20, 24)) -> None:
        super().__init__("", split)
        self.samples, self.size = samples, size
        self.fields = {"image": Image(), "depth": DepthKind()}

    def __len__(self) -> int:
        return self.samples

    def read(self, index: int) -> Sample:
        rng = generator(0, len(self.split), index, Purpose.EXAMPLE)
        image = rng.integers(0, 256, (*self.size, 3), dtype=np.uint8)
        depth = (1 + image.mean(-1) / 64).astype(np.float32)
        depth[rng.random(self.size) < 0.1] = np.nan
        return {"image": image, "depth": depth}


class DamagedReliefs(Reliefs):
    """Reliefs whose sample 3 cannot be read."""

    def read(self, index: int) -> Sample:
        if index == 3:
            raise DatasetError("relief-3.png", "a complete image", "a PNG cut off after 7 bytes")
        return super().read(index)


class RecordedShards(Shards):
    """Shards that record which samples training has read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.taken: list[int] = []

    def read_transformed(self, index: int, geometry: Geometry, fields: dict[str, FieldType] | None = None) -> Sample:
        self.taken.append(index)
        return super().read_transformed(index, geometry, fields)


class Plain(Network):
    """Two convolutions: (B, 3, H, W) to (B, 1, H, W)."""

    input_policy = "tiled"
    stride = 2

    def __init__(self, width: int, norm: bool, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(width, 1, 3, padding=1)
        self.pixels = nn.Conv2d(3, 1, 1)
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        coarse = self.second(self.dropout(self.norm(self.first(image)).relu()))
        return F.softplus(self.pixels(image) + F.interpolate(coarse, size=image.shape[-2:], mode="bilinear")).float()


@dataclass(frozen=True)
class Relief(Depth):
    """Depth by two convolutions, with normalization or dropout in two of its models."""

    name: ClassVar[str] = "relief"
    models: ClassVar[dict[str, str]] = {"plain": "", "dropout": "", "normalized": ""}
    width: int = 6

    def build(self, fields, backbone, head, model) -> Network:
        if model is None:
            return super().build(fields, backbone, head, None)
        return Plain(self.width, norm=model != "plain", dropout=0.3 if model == "dropout" else 0.0)


class Exploding(Relief):
    """The loss term `fuse` is nan from the third step on."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        steps = iter((0.0, 0.0))

        def explode(batch, cache):
            return {**phase.loss(batch, cache), "fuse": torch.tensor(next(steps, float("nan")))}

        return (Phase(phase.name, model, explode),)


class Pair(Network):
    """A generator and its critic; `forward` is the generator."""

    input_policy = "tiled"
    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.generator = Plain(6, norm=True, dropout=0.0)
        self.critic = nn.Sequential(nn.Conv2d(4, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.LeakyReLU(0.2), nn.Conv2d(5, 1, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.generator(image)

    def score(self, image: Tensor, meters: Tensor) -> Tensor:
        return self.critic(torch.cat((image, meters), 1))


@dataclass(frozen=True)
class Rivals(Depth):
    """Two phases: a critic learns to tell ground truth from predictions, a generator learns to predict."""

    name: ClassVar[str] = "rivals"
    models: ClassVar[dict[str, str]] = {"pair": ""}
    generator_first: bool = False

    def build(self, fields, backbone, head, model) -> Network:
        return Pair()

    def phases(self, model: Any, fields, loss):
        distance = LOSSES[loss]

        def predict(batch, cache):
            if "prediction" not in cache:
                cache["prediction"] = model(batch["image"])
            return cache["prediction"]

        def criticize(batch, cache):
            prediction = predict(batch, cache).detach()
            true = model.score(batch["image"], batch["depth"][:, None])
            false = model.score(batch["image"], prediction)
            return {"true": F.softplus(-true).mean(), "false": F.softplus(false).mean()}

        def generate(batch, cache):
            prediction = predict(batch, cache)
            fooled = F.softplus(-model.score(batch["image"], prediction)).mean()
            return {"fooled": fooled, **distance(prediction[:, 0], batch["depth"], batch["depth_mask"])}

        phases = (Phase("critic", model.critic, criticize), Phase("generator", model.generator, generate))
        return phases[::-1] if self.generator_first else phases


SHARED: dict[str, tuple[Task, dict[str, Any]]] = {
    name: (task, {**LINEAR, "log_every": 1, "lr": 0.02, "schedule": "constant", "threads": 1, "model": model})
    for name, task, model in (
        ("dropout", Relief(), "dropout"),
        ("critic", Rivals(), "pair"),
        ("generator", Rivals(generator_first=True), "pair"),
    )
}
"""Runs with BatchNorm whose micro-batches several processes share: one network with dropout, and two players."""


def build_toy_trainer(task: Task | str, out: Path, train_set: Dataset | None = None, **options: Any) -> Any:
    """The trainer of a tiny run at its first step; untyped, since tests reach into the modules of its model."""
    options = {**TINY, **options, "out": out}
    return build_trainer(task, Options(), Reliefs() if train_set is None else train_set, Reliefs(5, "test"), options)


def train_toy(task: Task | str, out: Path, train_set: Dataset | None = None, on_step=None, **options: Any) -> dict:
    """A tiny run from start to end."""
    options = {**TINY, **options, "out": out}
    train_set = Reliefs() if train_set is None else train_set
    return train(task, data=train_set, eval_data=Reliefs(5, "test"), on_step=on_step, **options)


def train_shared(name: str, out: Path, micro_batches: int, **options: Any) -> dict:
    """A run of `SHARED`, with steps of so many micro-batches."""
    task, own = SHARED[name]
    return train_toy(task, out, **{**own, "micro_batches": micro_batches, **options})


def train_in_lanes(out: Path, shards: Path) -> list[int]:
    """The run with dropout, with four micro-batches of two images a step, on 24 samples in eight shards, which are
    written first; returns the samples that this process has read, in this order."""
    write_shards(Reliefs(24), shards, per=3)
    train_set = RecordedShards(shards)
    train_shared("dropout", out, 4, train_set=train_set)
    return train_set.taken


def resume_toy(task: Task | str, out: Path, train_set: Dataset | None = None, on_step=None, **options: Any) -> dict:
    """A tiny run from its saved step to its end."""
    train_set = Reliefs() if train_set is None else train_set
    return train(task, data=train_set, eval_data=Reliefs(5, "test"), on_step=on_step, resume=True, out=out, **options)


def weights_after(out: Path) -> dict[str, Tensor]:
    """The final weights of a run."""
    return load_state(out / "last" / "state.pt")["model"]


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The lines of a log without measured times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in UNREPEATABLE} for line in lines]


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """The first difference between two states, compared bit by bit; None if they are equal."""
    if type(one) is not type(other):
        return f"{where}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{where}: keys {one.keys() ^ other.keys()}"
        pairs = [(f"{where}/{key}", one[key], other[key]) for key in one if key not in UNREPEATABLE]
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f"{where}: {len(one)} and {len(other)} entries"
        pairs = [(f"{where}/{number}", *both) for number, both in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, Tensor):
        return None if torch.equal(one, other) and one.dtype == other.dtype else where
    else:
        return None if one == other or (one != one and other != other) else f"{where}: {one} and {other}"
    return next((result for path, a, b in pairs if (result := difference(a, b, path)) is not None), None)


def largest_gap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest absolute difference between two sets of weights."""
    assert one.keys() == other.keys()
    return max(float((one[name].detach().double() - other[name].detach().double()).abs().max()) for name in one)


def stop_after(step: int, with_signal: signal.Signals = signal.SIGINT) -> Callable[[int], None]:
    """An `on_step` that interrupts a run after a step, as Ctrl-C does."""

    def on_step(done: int) -> None:
        if done == step:
            signal.raise_signal(with_signal)

    return on_step


def require_same_runs(one: Path, other: Path) -> None:
    """Weights, optimizers, averages, best score and log of two finished runs are equal bit by bit."""
    first, second = (load_state(folder / "last" / "state.pt") for folder in (one, other))
    assert difference(first, second) is None
    assert log_lines(one) == log_lines(other)
    for name in ("best.safetensors", "last/checkpoint.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
