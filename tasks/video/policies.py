"""Clips as given and following frames, and noise: augmentation, inference and evaluation of video prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...datasets.core.geometry import Size
from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, Noise
from ...errors import UserError
from ..image_io import load_image
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from .vgan import NOISE

HISTORY = 16
"""Frames of a video that are read to continue it, its last ones."""
EPOCH = 1
"""Epoch of the noise of evaluations; synthetic datasets use epoch 0 of the same purpose."""


@dataclass(frozen=True)
class Division:
    """Division of a clip into given frames and those that follow.

    Attributes:
        context: number of given frames; 0: noise.
        frames: number of frames that follow.
    """

    context: int
    frames: int

    @property
    def inputs(self) -> dict[str, FieldType]:
        """`frame1`, `frame2`, ..., the oldest first, or `noise`."""
        return {f"frame{number}": Image() for number in range(1, self.context + 1)} or {"noise": Noise(NOISE)}

    def cut(self, sample: Sample) -> Sample:
        """The fields of a sample that have frames, without the frames that are not needed.

        Raises:
            UserError: the clip is too short.
        """
        length, needed = len(sample["clip"]), self.context + self.frames
        if length < needed:
            raise UserError(
                f"--context {self.context} and --frames {self.frames} need clips of {needed} frames, and this one has "
                f"{length}: give smaller numbers, or a dataset of longer clips."
            )
        return {name: value[:needed] if name in ("clip", "mask") else value for name, value in sample.items()}

    def following(self, clip: np.ndarray) -> np.ndarray:
        """The frames of a clip (T, ...) that are predicted, (frames, ...)."""
        return clip[self.context : self.context + self.frames]

    def with_inputs(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A sample with a clip, and the inputs taken from it, or from the random generator."""
        if not self.context:
            return {**sample, "noise": noise(rng)}
        return {**sample, **dict(zip(self.inputs, sample["clip"], strict=False))}


def noise(rng: np.random.Generator) -> np.ndarray:
    """The input of a generator from noise, (100,) float32."""
    return rng.standard_normal(NOISE).astype(np.float32)


@dataclass(frozen=True)
class ClipAugmentation(AugmentationPolicy):
    """Inputs from a clip; at inference they are given."""

    division: Division

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        if "clip" not in sample:
            return sample
        return self.division.with_inputs(self.division.cut(sample), rng or np.random.default_rng(0))


@dataclass(frozen=True)
class ClipInference(InferencePolicy):
    """One image for a clip from its first frame, a complete video or folder of frames for its continuation, or a seed.

    The frames before the given ones are `history`, for the video that is written.
    """

    context: int = 4
    modes: tuple[str, ...] = ("native", "fit")
    context_fields: tuple[str, ...] = ("history",)
    last_frames: int | None = HISTORY

    def inputs_per_prediction(self, fields: dict[str, FieldType]) -> int | None:
        return self.context if self.context < 2 else None

    def newest_frames(self, fields: dict[str, FieldType]) -> int:
        return self.context

    def read_inputs(self, sources: Sequence[Any], fields: dict[str, FieldType]) -> Sample:
        if not self.context:
            (seed,) = sources
            return {"noise": noise(np.random.default_rng(seed))}
        if len(sources) < self.context:
            raise UserError(f"The model takes {self.context} consecutive frames or more, not {len(sources)}.")
        inputs = super().read_inputs(sources[-self.context :], fields)
        if self.context == 1 or len(sources) == self.context:
            return inputs
        history = [load_image(source) for source in sources[: -self.context]]
        size = next(iter(inputs.values())).shape
        if any(frame.shape != size for frame in history):
            raise UserError("The frames of a sequence must have one size, and these differ.")
        return {**inputs, "history": np.stack(history)}


@dataclass(frozen=True)
class ClipEvaluation(EvaluationPolicy):
    """Clips with the inputs taken from them, or with reproducible noise."""

    division: Division = Division(4, 4)

    def default_protocol(self, dataset: Dataset) -> str:
        return self.protocols[0] if self.division.context else self.protocols[1]

    def dataset(self, dataset: Dataset) -> Dataset:
        return DividedClips(dataset, self.division)


class DividedClips(Dataset):
    """A dataset of clips with the inputs as additional fields."""

    def __init__(self, clips: Dataset, division: Division) -> None:
        super().__init__(clips.root, clips.split)
        self.clips, self.division = clips, division
        self.title, self.terms, self.splits = clips.title, clips.terms, clips.splits  # type: ignore[misc]
        self.infinite, self.skipped = clips.infinite, clips.skipped
        self.fields = {**division.inputs, **clips.fields}

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, index: int) -> Sample:
        sample = self.division.cut(self.clips.read(index))
        return self.division.with_inputs(sample, generator(0, EPOCH, index, Purpose.TEST_SYNTHESIS))

    def sample_name(self, index: int) -> str:
        return self.clips.sample_name(index)

    def with_size(self, size: Size) -> Dataset:
        return DividedClips(self.clips.with_size(size), self.division)
