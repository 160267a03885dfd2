"""Losses of video prediction: distance to the frames that follow, and the two players of VGAN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ..network import Batch, LossTerms, Phase
from .networks import VGAN, PredictedFrames, VideoNetwork
from .vgan import CLIP_FRAMES, Discriminator

MASK_PENALTY = 0.01
"""Weight of the mean mask where no true mask is known, so that what is static belongs to the background."""
TRUE_MASK, GIVEN_MASK = 0.2, 0.1
"""Weight of the mean difference to the true masks, where they are known, and of the cross-entropy with that of the last
given frame."""
MASK_BLURS = (1, 5, 17)
"""Sides in pixels of the squares over which masks are averaged before they are compared."""
LAMBDA_FRAME = 10.0
"""Weight of the first frame of clips from a frame, for values in [-1, 1] (their code)."""


def l1(predicted: PredictedFrames, batch: Batch, context: int) -> LossTerms:
    """Mean absolute difference to the frames that follow, and terms of mask and background.

    Args:
        predicted: T frames.
        batch: `clip`, (B, context + T or more, 3, H, W) in [0, 1]; where known, `mask`, (B, ..., H, W) bool, and
            `background`, (B, 3, H, W).
        context: number of given frames.
    """
    times = slice(context, context + predicted.frames.shape[1])
    terms = {"l1": (predicted.frames - batch["clip"][:, times]).abs().mean()}
    if "mask" in batch:
        terms["mask"] = TRUE_MASK * mask_distance(predicted.masks[:, :, 0], batch["mask"][:, times].float())
        if predicted.given_mask is not None:
            given_mask = predicted.given_mask[:, 0].clamp(1e-4, 1 - 1e-4)
            known = batch["mask"][:, context - 1].float()
            terms["given_mask"] = GIVEN_MASK * F.binary_cross_entropy(given_mask, known)
    else:
        terms["mask"] = MASK_PENALTY * predicted.masks.mean()
    if "background" in batch and predicted.background is not None:
        terms["background"] = (predicted.background - batch["background"][:, None]).abs().mean()
    return terms


def mask_distance(masks: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of masks (B, T, H, W), averaged over blurred versions.

    Blurred, a foreground that is nearer to the right place is better even if it does not overlap. A cross-entropy would
    favor one that is spread thinly over wrong places.
    """
    distances = []
    for size in MASK_BLURS:
        blurred = F.avg_pool2d(masks - true, size, max(1, size // 4), size // 2, count_include_pad=False)
        distances.append(blurred.abs().mean())
    return torch.stack(distances).mean()


def adversarial_phases(model: VideoNetwork, inputs: list[str], context: int) -> tuple[Phase, ...]:
    """The discriminator's part of a step, then the generator's.

    Real and generated clips are separate batches for the discriminator, whose normalization sees one or the other.

    Raises:
        UserError: the model is not VGAN, or predicts less than a complete clip.
    """
    if not isinstance(model, VGAN):
        raise UserError("--loss adversarial trains VGAN: add --model vgan or --model vgan-narrow, or use --loss l1.")
    repeated = min(context, 1)
    if model.frames + repeated != CLIP_FRAMES:
        raise UserError(
            f"--loss adversarial trains on clips of {CLIP_FRAMES} frames: set --frames {CLIP_FRAMES - repeated}."
        )
    discriminator = Discriminator(model.width // (4 if context else 8))

    def generate(batch: Batch, cache: dict):
        if "layers" not in cache:
            cache["layers"] = model.generate(tuple(batch[name] for name in inputs))
        return cache["layers"]

    def classify(clip: Tensor, real: bool) -> Tensor:
        logits = discriminator(clip + model.clip_noise * torch.randn_like(clip) if model.clip_noise else clip)
        return F.cross_entropy(logits, logits.new_full((len(logits),), int(real), dtype=torch.long))

    def discriminator_loss(batch: Batch, cache: dict) -> LossTerms:
        first = context - repeated
        real = 2 * batch["clip"][:, first : first + CLIP_FRAMES].transpose(1, 2) - 1
        return {"D_real": classify(real, True), "D_fake": classify(generate(batch, cache).clip.detach(), False)}

    def generator_loss(batch: Batch, cache: dict) -> LossTerms:
        layers = generate(batch, cache)
        terms = {"G_GAN": classify(layers.clip, True)}
        if context:
            last = 2 * batch[inputs[-1]] - 1
            terms["G_frame"] = LAMBDA_FRAME * (layers.clip[:, :, 0] - last).abs().mean()
        elif layers.background is not None:
            terms["G_mask"] = model.mask_weight * layers.mask.mean()
        return terms

    return Phase("discriminator", discriminator, discriminator_loss), Phase("generator", model, generator_loss)
