"""RAFT, torchvision's, among the networks of this task.

Teed, Deng: RAFT: Recurrent All-Pairs Field Transforms for Optical Flow. ECCV 2020, arXiv:2003.12039. 5,257,536
parameters; the small form (appendix) 990,162. All pairs of cells at an eighth of the picture's sides are correlated
once, and a recurrent unit looks up and corrects its motion 12 times.

Deviation: pictures are continued by their border's colours to the right and below, where the authors' evaluation on
Sintel continues them on all sides. Sides that are multiples of 8 from 128 on stay as they are.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .network import FlowNetwork

ITERATIONS = 12
"""Corrections in training; the authors evaluate with 32 on Sintel and 24 on KITTI."""

SMALLEST = 128
"""Sides of the smallest picture, in pixels: at the coarsest of four levels an eighth of it has two cells."""


class RAFT(FlowNetwork):
    """Recurrent all-pairs field transforms of Teed and Deng 2020 (arXiv:2003.12039).

    Args:
        small: the small form.
        iterations: how often the motion is corrected.

    Attributes:
        network: torchvision's.
        published: the part that torchvision's files hold.
    """

    stride = 8

    def __init__(self, small: bool, iterations: int = ITERATIONS) -> None:
        from torchvision.models.optical_flow import raft_large, raft_small

        super().__init__()
        self.iterations = iterations
        self.network = (raft_small if small else raft_large)()

    @property
    def published(self) -> nn.Module:
        return self.network

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """The motion after every correction, (B, 2, H, W) each; see `FlowNetwork.pyramid`."""
        height, width = first.shape[-2:]
        below, right = (max(SMALLEST - side, -side % self.stride) for side in (height, width))
        fitted = [functional.pad(2 * one - 1, (0, right, 0, below), mode="replicate") for one in (first, second)]
        flows = self.network(*fitted, num_flow_updates=self.iterations)
        # torchvision keeps the correlations of the last pair, which would hold their memory and forbid a deep copy.
        self.network.corr_block.corr_pyramid = []
        return [flow[..., :height, :width].float() for flow in flows]


def raft_small() -> RAFT:
    """The small form, as `--network raft_small` builds it."""
    return RAFT(small=True)


def raft_large() -> RAFT:
    """The large form, as `--network raft_large` builds it."""
    return RAFT(small=False)
