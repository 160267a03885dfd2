"""Video prediction: the next frames of a video, a clip from its first frame, or clips from noise.

Vondrick, Pirsiavash, Torralba: Generating Videos with Scene Dynamics ("VGAN"). NIPS 2016, arXiv:1609.02612. Their
networks are `--model vgan` and its siblings; otherwise, any backbone with a head that moves the last frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, Mask
from ...errors import UserError
from ...registry import lookup
from ..heads import HEADS, create_head
from ..network import Batch, LossTerms, Phase
from ..prediction import OutputSpec, Prediction, PredictionContext, eight_bits
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .baselines import copy_last
from .losses import adversarial_phases, l1
from .metrics import PROTOCOLS, metrics_of
from .networks import HEAD_CHANNELS, MotionPredictor, VideoNetwork
from .policies import ClipAugmentation, ClipEvaluation, ClipInference, Division
from .predicted_clip import PredictedClip
from .recipes import RECIPES

MAX_CONTEXT, MAX_FRAMES = 8, 32


@dataclass(frozen=True)
class Video(Task[VideoNetwork]):
    """Given frames in, the frames that follow out."""

    context: int = 4
    """Number of given frames, up to 8; 1: a clip from its first frame, 0: clips from noise."""
    frames: int = 4
    """Number of predicted frames, up to 32."""
    rollout: int = 1
    """Number of predicted frames that the loss compares, if each is predicted from those before it (--context 2 or
    more)."""

    name: ClassVar[str] = "video"
    title: ClassVar[str] = "Video prediction"
    paper: ClassVar[str] = "Vondrick et al. 2016 (VGAN), arXiv:1609.02612"
    defaults: ClassVar[Defaults] = Defaults(
        data="moving-photos",
        backbone="resnet18",
        head="unet",
        recipe="moving-photos",
        photo_recipe="videos",
    )
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    models: ClassVar[dict[str, str]] = {
        "vgan": "tasks.video.networks:vgan",
        "vgan-narrow": "tasks.video.networks:vgan_narrow",
        "vgan-one-stream": "tasks.video.networks:vgan_one_stream",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = ("l1", "adversarial")
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("error", higher_is_better=False)

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("context", self.context, 0, MAX_CONTEXT),
            ("frames", self.frames, 1, MAX_FRAMES),
            ("rollout", self.rollout, 1, MAX_FRAMES),
        ):
            if not least <= value <= most:
                raise UserError(f"--{name} is {value}; it must be from {least} to {most}.")

    @property
    def division(self) -> Division:
        """Which frames of a clip are given, and which follow."""
        return Division(self.context, self.frames)

    @property
    def frame_names(self) -> list[str]:
        """Names of the given frames, the oldest first."""
        return [name for name in self.division.inputs if name != "noise"]

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The given frames, `frame1` to `frameN`, or `noise`; both are made from clips."""
        return self.division.inputs

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """`clip`, with the given frames before those that follow; `mask` and `background` if the dataset has them."""
        known = {name: fields[name] for name, kind in (("mask", Mask), ("background", Image)) if
                 isinstance(fields.get(name), kind)}  # fmt: skip
        return {"clip": self.require_field(fields, "clip", Image), **known}

    @property
    def augmentation(self) -> ClipAugmentation:
        return ClipAugmentation(self.division)

    @property
    def inference(self) -> ClipInference:
        return ClipInference(context=self.context)

    @property
    def evaluation(self) -> ClipEvaluation:
        return ClipEvaluation(self.protocols, self.division)

    def backbone_options(self, fields: dict[str, FieldType]) -> dict[str, int]:
        return {"in_channels": 3 * max(1, self.context), "num_classes": 0}

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> VideoNetwork:
        """Given frames (B, 3, H, W) in [0, 1], or noise (B, 100), to (B, 4 T, H, W): color and mask of every frame."""
        if model is not None:
            return lookup("model", model, self.models)(self.context, self.frames)
        assert backbone is not None and head is not None
        if not self.context:
            raise UserError(
                "--context 0 makes clips from noise, which a backbone cannot read: add --model vgan-narrow."
            )
        head_module = create_head(head, backbone.levels, HEAD_CHANNELS)
        return MotionPredictor(backbone, head_module, self.context, self.frames)

    def phases(self, model: VideoNetwork, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase for l1; for adversarial the discriminator's, then the generator's, which reuses its clips."""
        inputs = list(self.division.inputs)
        if loss == "adversarial":
            return adversarial_phases(model, inputs, self.context)
        lookup("loss of the task video", loss, dict.fromkeys(self.losses))
        if not self.context:
            raise UserError(
                "--loss l1 compares frames with those that followed; clips from noise need --loss adversarial."
            )
        frames = min(self.rollout, self.frames) if self.context > 1 else self.frames

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            given = tuple(batch[name] for name in inputs)
            return l1(model.predict_frames(given, frames), batch, self.context)

        return (Phase("video", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        lookup("video protocol", protocol, dict.fromkeys(self.protocols))
        return metrics_of(protocol, self.division)

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The last given frame again; instead of clips from noise, the first clip of the training set."""
        if not self.context:
            clip = self.division.cut(dataset.read(0))["clip"]
            return lambda sample: PredictedClip(clip)

        def copied(sample: Sample) -> PredictedClip:
            given = list(sample["clip"][: self.context])
            still = np.zeros((self.frames, *given[-1].shape[:2]), np.float32)
            return PredictedClip(copy_last(given, self.frames), given, still)

        return copied

    def output_spec(self, model: VideoNetwork, fields: dict[str, FieldType]) -> OutputSpec:
        names = [f"{name}-{time}" for time in range(1, self.frames + 1) for name in ("red", "green", "blue", "mask")]
        return OutputSpec(tuple(names), "sRGB from 0 to 1, and the share of what moves, of every predicted frame")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Frames and masks at the size of the given frames."""
        values = resize_to_input(output, context)
        values = np.moveaxis(values.reshape(*values.shape[:2], -1, 4), 2, 0)
        given = [*context.inputs.get("history", ()), *(context.inputs[name] for name in self.frame_names)]
        return PredictedClip(eight_bits(values[..., :3]), given, np.clip(values[..., 3], 0, 1))

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        clip = np.stack([Image().colorize(frame) for frame in sample["clip"]])
        masks = sample.get("mask")
        true = None if masks is None else self.division.following(masks).astype(np.float32)
        return PredictedClip(self.division.following(clip), list(sample["clip"][: self.context]), true)
