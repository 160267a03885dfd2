"""Networks that predict the next frames: any backbone that moves the last frame, and VGAN in its task's form."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...backbones.backbone import Backbone
from ...errors import UserError
from ..heads.head import Head
from ..network import Network
from .matching import match_blocks, move
from .vgan import CLIP_FRAMES, STRIDE, FrameGenerator, Layers, NoiseGenerator

FLOW_SCALE, CONTINUATION_SCALE = 4.0, 5.0
"""Pixels of motion, and shares of the motion that is continued, per unit of a head's output."""


class PredictedFrames(NamedTuple):
    """Frames and the share of the moving foreground in each pixel.

    Attributes:
        frames: (B, T, 3, H, W) in about [0, 1].
        masks: (B, T, 1, H, W) in [0, 1].
        background: (B, 3, H, W), what is behind the foreground of every frame; None if there is no such image.
    """

    frames: Tensor
    masks: Tensor
    background: Tensor | None


class VideoNetwork(Network):
    """A network whose output is frames and masks.

    Attributes:
        frames: number of predicted frames.
    """

    frames: int

    @abstractmethod
    def predict_frames(self, inputs: tuple[Tensor, ...], frames: int) -> PredictedFrames:
        """The first of the predicted frames, with what they are composed of.

        Args:
            inputs: given frames, (B, 3, H, W) each in [0, 1], or noise, (B, 100).
            frames: how many, at most `self.frames`.
        """

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, 4 T, H, W): red, green, blue and mask of every predicted frame."""
        predicted = self.predict_frames(inputs, self.frames)
        return torch.cat((predicted.frames, predicted.masks), dim=2).flatten(1, 2)


class MotionPredictor(VideoNetwork):
    """A backbone that reads the given frames side by side, and a head that tells how the last of them goes on.

    A frame is mask * foreground + (1 - mask) * background: the foreground is the last frame moved by a flow, the
    background is the last frame with painted corrections. Flow and corrections start at 0: an untrained network
    copies the last frame. From several frames, the next one is predicted, and then the one after it from that; the flow
    has a part that continues the motion between the last two given frames, as `match_blocks` finds it. From a single
    frame, all frames are predicted at once, each by a motion of the given one, in front of one background.

    Args:
        backbone: any backbone with three channels per given frame.
        head: a head with `head_channels` channels.
        context: number of given frames.
        frames: number of predicted frames.
    """

    backbone: Backbone
    head: Head
    input_policy = "whole"

    def __init__(self, backbone: Backbone, head: Head, context: int, frames: int) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride
        self.context, self.frames = context, frames
        predict = head.predict
        assert isinstance(predict, nn.Conv2d) and predict.bias is not None
        nn.init.zeros_(predict.weight)
        nn.init.zeros_(predict.bias)

    @property
    def batchable(self) -> bool:
        """Not where blocks are matched: the softmax of their differences amplifies the rounding errors of a batch."""
        return self.context == 1

    def predict_frames(self, inputs: tuple[Tensor, ...], frames: int) -> PredictedFrames:
        if self.context == 1:
            (predicted, masks, background), _ = self._step(inputs, None)
            return PredictedFrames(predicted[:, :frames], masks[:, :frames], background)
        given, steps = list(inputs), []
        # Matched once, between given frames: what is predicted gets blurred.
        motion = match_blocks(given[-1], given[-2])
        for _ in range(frames):
            step, flow = self._step(tuple(given[-self.context :]), motion)
            # What moves takes its motion with it.
            motion = move(motion, flow)
            steps.append(step)
            given.append(step.frames[:, 0])
        return PredictedFrames(
            torch.cat([step.frames for step in steps], dim=1), torch.cat([step.masks for step in steps], dim=1), None
        )

    def _step(self, given: tuple[Tensor, ...], motion: Tensor | None) -> tuple[PredictedFrames, Tensor]:
        """All frames that one pass of the head predicts, and the flow of the first.

        Args:
            given: frames, (B, 3, H, W) each.
            motion: (B, 2, H, W) pixels, of which the flow contains a share; None from a single frame.
        """
        stacked = torch.cat(given, dim=1)
        features = self.backbone.features(self.backbone.preprocessing(stacked))
        output = self.head(features, (stacked.shape[-2], stacked.shape[-1])).float()
        last, background = given[-1], given[-1] + output[:, :3]
        flow_and_mask = (output[:, 3:] if motion is None else output[:, 3:6]).unflatten(1, (-1, 3))
        flows, masks = FLOW_SCALE * flow_and_mask[:, :, :2], flow_and_mask[:, :, 2:].sigmoid()
        if motion is not None:
            flows = flows + (CONTINUATION_SCALE * output[:, 6:] * motion)[:, None]
        moved = torch.stack([move(last, flow) for flow in flows.unbind(1)], dim=1)
        frames = masks * moved + (1 - masks) * background[:, None]
        return PredictedFrames(frames, masks, background), flows[:, 0]


def head_channels(context: int, frames: int) -> int:
    """Output channels of a head for `MotionPredictor`: corrections of the background, flow and mask per frame, and of
    several given frames the share of their motion that is continued."""
    return 3 + 3 * frames if context == 1 else 7


class VGAN(VideoNetwork):
    """A generator of `vgan`, from noise (`context` 0) or from given frames.

    The first frame of a clip from given frames repeats the last of them; the predicted frames follow it.

    Args:
        context: number of given frames.
        frames: number of predicted frames.
        width: channels of the first maps of the generator from noise, 512 in the paper; the one from frames has twice
            as many.
        two_streams: whether there are a mask and a background.

    Raises:
        UserError: more frames than a clip has.
    """

    def __init__(self, context: int, frames: int, width: int = 512, two_streams: bool = True) -> None:
        super().__init__()
        self.context, self.frames, self.width = context, frames, width
        limit = CLIP_FRAMES - min(context, 1)
        if frames > limit:
            raise UserError(f"A clip has {CLIP_FRAMES} frames: --frames is {frames}; it must be at most {limit}.")
        self.generator: NoiseGenerator | FrameGenerator
        if context:
            self.generator = FrameGenerator(3 * context, 2 * width, two_streams)
        else:
            self.generator = NoiseGenerator(width, two_streams)
        self.input_policy = "whole" if context else "fixed"
        self.stride = STRIDE

    def generate(self, inputs: tuple[Tensor, ...]) -> Layers:
        """The complete clip of 32 frames, in [-1, 1]."""
        return self.generator(2 * torch.cat(inputs, dim=1) - 1 if self.context else inputs[0])

    def predict_frames(self, inputs: tuple[Tensor, ...], frames: int) -> PredictedFrames:
        layers, first = self.generate(inputs), min(self.context, 1)
        clip, masks = (each.transpose(1, 2)[:, first : first + frames] for each in (layers.clip, layers.mask))
        background = None if layers.background is None else (layers.background[:, :, 0] + 1) / 2
        return PredictedFrames((clip + 1) / 2, masks, background)


def vgan(context: int, frames: int) -> VGAN:
    """The network of Vondrick et al. 2016."""
    return VGAN(context, frames)


def vgan_one_stream(context: int, frames: int) -> VGAN:
    """The same without a background."""
    return VGAN(context, frames, two_streams=False)


def vgan_narrow(context: int, frames: int) -> VGAN:
    """A quarter of the width, for CPUs."""
    return VGAN(context, frames, width=128)
