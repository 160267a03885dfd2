"""Networks that predict the next frames: any backbone that moves the last frame, and VGAN in its task's form."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...backbones.backbone import Backbone
from ...errors import UserError
from ..heads.head import Head
from ..network import Network
from .matching import match_blocks, motion_nearby
from .vgan import CLIP_FRAMES, STRIDE, FrameGenerator, Layers, NoiseGenerator
from .warping import fill, move, splat

HEAD_CHANNELS = 7
"""Output channels of a head for `MotionPredictor`: corrections of the background and a mask (4); from a single frame
velocity and turn, from several a flow and the share of their motion that is continued (3)."""
FLOW_SCALE, CONTINUATION_SCALE = 4.0, 5.0
"""Pixels of motion in a frame's time, and shares of the motion that is continued, per unit of a head's output."""
INITIAL_MASK = -4.0
"""Bias of the mask of a single frame before training: next to nothing is foreground."""
LEAST_WEIGHT = 1e-6
"""Weight below which no foreground has arrived at a pixel."""
TURN_SCALE = 0.1
"""Radians of turn per frame, per unit of a head's output."""


class PredictedFrames(NamedTuple):
    """Frames, and what they are composed of (`compose`).

    Attributes:
        frames: (B, T, 3, H, W) in about [0, 1].
        masks: (B, T, 1, H, W) in [0, 1], the share of the moving foreground.
        foreground: (B, T, 3, H, W).
        background: (B, T, 3, H, W), or (B, 1, 3, H, W) if it is the same behind all frames; None without one.
        given_mask: (B, 1, H, W), the share of the foreground in the last given frame; None if it is not predicted.
    """

    frames: Tensor
    masks: Tensor
    foreground: Tensor
    background: Tensor | None
    given_mask: Tensor | None = None


def compose(masks: Tensor, foreground: Tensor, background: Tensor) -> PredictedFrames:
    """Frames of a foreground in front of a background; see `PredictedFrames`."""
    return PredictedFrames(masks * foreground + (1 - masks) * background, masks, foreground, background)


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

    A frame is mask * foreground + (1 - mask) * background: the foreground is the last given frame, moved. Motion and
    corrections of the background start at 0: an untrained network copies the last frame.

    From several frames, the next one is predicted, and then the one after it from that (**rollout**); its pixels say
    where they came from, by a flow with a part that continues the motion between the last two given frames, as
    `match_blocks` finds it; what stood still, and has no motion nearby, stays exactly as it is.

    From a single frame, all frames are predicted at once, in front of one background: its pixels say what belongs to
    the foreground and on which arc it leaves, so that its small motion at first teaches the large one later; the
    background behind it is filled from what surrounds it, and corrected.

    Args:
        backbone: any backbone with three channels per given frame.
        head: a head with `HEAD_CHANNELS` channels.
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
        if context == 1:
            nn.init.constant_(predict.bias[3], INITIAL_MASK)

    def predict_frames(self, inputs: tuple[Tensor, ...], frames: int) -> PredictedFrames:
        return self._leave(inputs[0], frames) if self.context == 1 else self._roll_out(inputs, frames)

    def _output(self, given: tuple[Tensor, ...]) -> Tensor:
        stacked = torch.cat(given, dim=1)
        features = self.backbone.features(self.backbone.preprocessing(stacked))
        return self.head(features, (stacked.shape[-2], stacked.shape[-1])).float()

    def _leave(self, first: Tensor, frames: int) -> PredictedFrames:
        """The frames after a single one, whose foreground leaves its place."""
        correction, mask, velocity, turn = self._output((first,)).split((3, 1, 2, 1), dim=1)
        mask = mask.sigmoid()
        times = torch.arange(1, frames + 1, device=first.device)[:, None, None, None]
        flows = arcs(FLOW_SCALE * velocity[:, None], TURN_SCALE * turn[:, None], times)
        leaving = torch.cat((mask * first, mask), dim=1)[:, None].expand(-1, frames, -1, -1, -1)
        arrived = splat(leaving.flatten(0, 1), flows.flatten(0, 1)).unflatten(0, (-1, frames))
        colors, weights = arrived[:, :, :3], arrived[:, :, 3:]
        background = (fill(first, 1 - mask) + mask * correction)[:, None]
        predicted = compose(weights.clamp(max=1), colors / weights.clamp(min=LEAST_WEIGHT), background)
        return predicted._replace(given_mask=mask)

    def _roll_out(self, given: tuple[Tensor, ...], frames: int) -> PredictedFrames:
        """Each frame from those before it."""
        seen, steps = list(given), []
        # Matched once, between given frames: what is predicted gets blurred.
        motion = match_blocks(seen[-1], seen[-2])
        for _ in range(frames):
            last, output = seen[-1], self._output(tuple(seen[-self.context :]))
            correction, flow, mask, share = output.split((3, 2, 1, 1), dim=1)
            flow = FLOW_SCALE * flow + CONTINUATION_SCALE * share * motion
            moving = motion_nearby(last, seen[-2])
            step = compose(moving * mask.sigmoid(), move(last, flow), last + moving * correction)
            # What moves takes its motion with it.
            motion = move(motion, flow)
            steps.append(step)
            seen.append(step.frames)
        parts = zip(*(step[:4] for step in steps), strict=True)
        return PredictedFrames(*(torch.stack(part, dim=1) for part in parts))


def arcs(velocity: Tensor, turn: Tensor, times: Tensor) -> Tensor:
    """Displacements of points that move at constant speed and turn at a constant rate: those of any rigid motion.

    Args:
        velocity: (..., 2, H, W) at time 0, pixels per frame, x then y.
        turn: (..., 1, H, W) radians per frame, from x to y.
        times: frames, broadcast with these.

    Returns:
        (..., 2, H, W) pixels.
    """
    angle = turn * times / 2
    # Over the chord, which has half the turn.
    length = times * torch.sinc(angle / math.pi)
    (x, y), cosine, sine = velocity.split(1, dim=-3), angle.cos(), angle.sin()
    return length * torch.cat((cosine * x - sine * y, sine * x + cosine * y), dim=-3)


class VGAN(VideoNetwork):
    """A generator of `vgan`, from noise (`context` 0) or from given frames.

    The first frame of a clip from given frames repeats the last of them; the predicted frames follow it.

    Args:
        context: number of given frames.
        frames: number of predicted frames.
        width: channels of the first maps of the generator from noise, 512 in the paper; the one from frames has twice
            as many.
        two_streams: whether there are a mask and a background.
        clip_noise: standard deviation of normal noise that is added to all clips that the discriminator sees, for
            values in [-1, 1] (Sønderby et al., ICLR 2017, arXiv:1610.04490); 0 in the paper.
        mask_bias: initial bias of the mask; 0 in the paper. Below 0, a clip is mostly background at first.
        mask_weight: weight of the mean mask in the loss of clips from noise; 0.1 in the authors' code.

    Raises:
        UserError: more frames than a clip has.
    """

    def __init__(
        self,
        context: int,
        frames: int,
        width: int = 512,
        two_streams: bool = True,
        clip_noise: float = 0.0,
        mask_bias: float = 0.0,
        mask_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.context, self.frames, self.width = context, frames, width
        self.clip_noise, self.mask_weight = clip_noise, mask_weight
        limit = CLIP_FRAMES - min(context, 1)
        if frames > limit:
            raise UserError(f"A clip has {CLIP_FRAMES} frames: --frames is {frames}; it must be at most {limit}.")
        self.generator: NoiseGenerator | FrameGenerator
        if context:
            self.generator = FrameGenerator(3 * context, 2 * width, two_streams)
        else:
            self.generator = NoiseGenerator(width, two_streams)
        if self.generator.mask_head is not None:
            nn.init.constant_(self.generator.mask_head[0].bias, mask_bias)  # type: ignore[index, arg-type]
        self.input_policy = "whole" if context else "fixed"
        self.stride = STRIDE

    def generate(self, inputs: tuple[Tensor, ...]) -> Layers:
        """The complete clip of 32 frames, in [-1, 1]."""
        return self.generator(2 * torch.cat(inputs, dim=1) - 1 if self.context else inputs[0])

    def predict_frames(self, inputs: tuple[Tensor, ...], frames: int) -> PredictedFrames:
        layers, first = self.generate(inputs), min(self.context, 1)
        clip, masks = (each.transpose(1, 2)[:, first : first + frames] for each in (layers.clip, layers.mask))
        foreground = layers.foreground.transpose(1, 2)[:, first : first + frames]
        background = None if layers.background is None else (layers.background.transpose(1, 2) + 1) / 2
        return PredictedFrames((clip + 1) / 2, masks, (foreground + 1) / 2, background)


def vgan(context: int, frames: int) -> VGAN:
    """The network of Vondrick et al. 2016."""
    return VGAN(context, frames)


def vgan_one_stream(context: int, frames: int) -> VGAN:
    """The same without a background."""
    return VGAN(context, frames, two_streams=False)


def vgan_narrow(context: int, frames: int) -> VGAN:
    """A quarter of the width for CPUs, with noise against a discriminator that wins too soon."""
    return VGAN(context, frames, width=128, clip_noise=0.1, mask_bias=-2.0, mask_weight=1.0)
