"""Multiplane image: planes with colors and alpha in front of one of the photos, composed into any nearby camera.

Zhou, Tucker, Flynn, Fyffe, Snavely: Stereo Magnification: Learning View Synthesis Using Multiplane Images. SIGGRAPH
2018, arXiv:1805.09817. Unlike a plane sweep in the target, the planes are found once for a scene, and every view of it
is rendered from the same ones.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import SHARPNESS, ViewNetwork, exact_positions, zero_weights
from .plane_sweep import Rig, SweepVolume, sampling_grid, smooth, sweep

STRIDE = 8
SURE = 2.0
"""Output for the blending weights at the start: the planes have 98 % of the color of the photo."""


def visibility(alpha: Tensor) -> Tensor:
    """Share of each plane in the composition by the over operator, back to front; the farthest plane is opaque.

    Args:
        alpha: (B, D, ...) from 0 to 1, nearest plane first.

    Returns:
        (B, D, ...), which sums to 1 over the planes: alpha times what the planes in front let through.
    """
    alpha = torch.cat([alpha[:, :-1], torch.ones_like(alpha[:, -1:])], 1)
    passed = (1 - alpha[:, :-1]).cumprod(1)
    return alpha * torch.cat([torch.ones_like(alpha[:, :1]), passed], 1)


def alpha_logits(scores: Tensor) -> Tensor:
    """Logits of the alpha for which `visibility` is the softmax of `scores` over the planes, (B, D, ...).

    A plane hides those behind it: its alpha is its probability as a share of that of all planes that it does not come
    after. The farthest is opaque whatever its logit, which is 0.
    """
    behind = scores.flip(1).logcumsumexp(1).flip(1)[:, 1:]
    return torch.cat([scores[:, :-1] - behind, torch.zeros_like(scores[:, -1:])], 1)


class MultiplaneImages(ViewNetwork):
    """The network of Stereo Magnification, for V photos (V = 2 in the paper), with `width` 64.

    The first photo, and the others swept over D planes in front of it, go through an encoder and decoder with layer
    normalization. Outputs are alpha and a blending weight per plane and pixel, and a background image; a plane has the
    color of the first photo, blended with the background. 16,892,227 parameters for two photos and 32 planes, as the
    released code has. Here, alpha starts at the plane sweep in front of the first photo, and the planes at its color.

    Args:
        views, planes: V and D, fixed.
        width: channels of the first layer.
    """

    margin = 0
    fixed = True

    def __init__(self, views: int, planes: int, width: int = 64) -> None:
        super().__init__(views, planes)
        w = width
        self.down1 = _layers(_conv(3 + 3 * planes * (views - 1), w), _conv(w, 2 * w, stride=2))
        self.down2 = _layers(_conv(2 * w, 2 * w), _conv(2 * w, 4 * w, stride=2))
        self.down3 = _layers(_conv(4 * w, 4 * w), _conv(4 * w, 4 * w), _conv(4 * w, 8 * w, stride=2))
        self.middle = _layers(*(_conv(8 * w, 8 * w, dilation=2) for _ in range(3)))
        self.up3 = _layers(_up(16 * w, 4 * w), _conv(4 * w, 4 * w), _conv(4 * w, 4 * w))
        self.up2 = _layers(_up(8 * w, 2 * w), _conv(2 * w, 2 * w))
        self.up1 = _layers(_up(4 * w, w), _conv(w, w))
        self.last = nn.Conv2d(w, 2 * planes + 3, 1)
        zero_weights(self.last)
        with torch.no_grad():
            self.last.bias[:planes] = SURE  # type: ignore[index]

    def encode(self, views: Tensor, rig: Rig) -> Tensor:
        """(B, D, 4, H, W): red, green, blue and alpha of the planes in front of the first photo, nearest first."""
        self.require_numbers(views.shape[1], self.planes)
        size = views.shape[-2], views.shape[-1]
        reference, around = views[:, :1], rig.from_first_source()
        others = Rig(around.cameras[:, :-1], around.poses[:, :-1], around.camera, around.depth_range)
        with exact_positions(views):
            swept = sweep(views[:, 1:], others, rig.depths(self.planes), size)
        stacked = torch.cat([2 * views[:, 0] - 1, ((2 * swept.colors - 1) * swept.alpha).flatten(1, 3)], 1)
        outputs = self._outputs(stacked)
        weights, alphas, background = outputs.split([self.planes, self.planes, 3], 1)
        photo = reference[:, :, None].expand(-1, -1, self.planes, -1, -1, -1).float()
        complete = SweepVolume(
            torch.cat([photo, swept.colors], 1), torch.cat([torch.ones_like(swept.alpha[:, :1]), swept.alpha], 1),
            swept.depths,
        )  # fmt: skip
        scores = -SHARPNESS * smooth(complete.disagreement(complete.mean))
        # (1 + tanh x) / 2, the range of the paper, is the sigmoid of 2 x.
        alpha = torch.sigmoid(2 * alphas[:, :, None] + alpha_logits(scores))
        weight = torch.sigmoid(2 * weights)[:, :, None]
        colors = weight * photo[:, 0] + (1 - weight) * torch.sigmoid(2 * background)[:, None]
        return torch.cat([colors, alpha], 2)

    def _outputs(self, stacked: Tensor) -> Tensor:
        """(B, 2 D + 3, H, W) float32 before the tanh, from (B, C, H, W) of any size."""
        height, width = stacked.shape[-2:]
        padded = F.pad(stacked, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        one = self.down1(padded)
        two = self.down2(one)
        three = self.down3(two)
        decoded = self.up3(torch.cat([self.middle(three), three], 1))
        decoded = self.up2(torch.cat([decoded, two], 1))
        decoded = self.up1(torch.cat([decoded, one], 1))
        return self.last(decoded)[..., :height, :width].float()

    def render(self, encoded: Tensor, rig: Rig, size: tuple[int, int]) -> Tensor:
        """The target in one pass, (B, 4, h, w), from the planes; outside of them, from the color of their border."""
        planes, depths = encoded.flatten(0, 1).float(), rig.depths(self.planes)
        around = rig.from_first_source()
        target = Rig(around.cameras[:, -1:], around.poses[:, -1:], around.camera, around.depth_range)
        with exact_positions(encoded):
            homographies = torch.linalg.inv(target.homographies(depths)[:, 0].double()).float()
            grid, inside = sampling_grid(homographies, size, encoded.shape[-2:])
            warped = F.grid_sample(planes, grid.flatten(0, 1), padding_mode="border", align_corners=True)
        colors, alpha = warped.unflatten(0, encoded.shape[:2]).split([3, 1], 2)
        shares = visibility(alpha * inside[:, :, None])
        color = (shares * colors).sum(1)
        plane = shares[:, :, 0].argmax(1)
        depth = self._depths(rig, depths, size).gather(1, plane[:, None])
        return torch.cat([color, depth], 1)

    def _depths(self, rig: Rig, depths: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, D, h, w): depths of the planes in the frame of the target, where they are tilted."""
        rows, columns = torch.meshgrid(*(torch.arange(n, device=depths.device) for n in size), indexing="ij")
        pixels = torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1).double()
        rays = torch.linalg.inv(rig.camera.double()) @ pixels
        rotation, shift = rig.poses[:, 0, 2, :3].double(), rig.poses[:, 0, 2, 3].double()
        # A point z r of the target is on the plane at depth d of the photo if R_3 z r + t_3 = d.
        slopes = (rotation[:, None] @ rays).clamp(min=1e-6)
        return ((depths.double() - shift[:, None])[:, :, None] / slopes).float().unflatten(-1, size)

    def decide(self, volume: SweepVolume) -> Tensor:
        raise NotImplementedError


def light_multiplane_images(views: int, planes: int) -> MultiplaneImages:
    """`MultiplaneImages` with a quarter of the channels."""
    return MultiplaneImages(views, planes, width=16)


def _conv(channels: int, following: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, following, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _up(channels: int, following: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, following, 4, 2, padding=1, bias=False)


def _layers(*convolutions: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Convolutions with layer normalization over channels and positions, and ReLU."""
    normalized = ((each, nn.GroupNorm(1, each.out_channels), nn.ReLU()) for each in convolutions)
    return nn.Sequential(*itertools.chain.from_iterable(normalized))
