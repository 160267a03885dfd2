"""RAFT: torchvision's implementation as a model of the flow task.

Teed, Deng: RAFT: Recurrent All-Pairs Field Transforms for Optical Flow. ECCV 2020, arXiv:2003.12039. 5,257,536
parameters; the small model (appendix) has 990,162. All pairs of positions at 1/8 of the resolution are correlated once,
and a recurrent unit looks up correlations and updates the flow 12 times.

Deviation: images are padded at the right and the bottom by replicating their border, where the authors' evaluation on
Sintel pads on all sides. Heights and widths that are multiples of 8 from 128 on are not padded.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .networks import FlowNetwork

ITERATIONS = 12
"""Updates in training; the authors evaluate with 32 on Sintel and 24 on KITTI."""

MIN_SIZE = 128
"""Minimum height and width in pixels: the coarsest of the four correlation levels then has two rows and columns."""


class RAFT(FlowNetwork):
    """Recurrent all-pairs field transforms of Teed and Deng 2020 (arXiv:2003.12039).

    Args:
        small: build the small model.
        iterations: number of flow updates.

    Attributes:
        network: torchvision's module, to which torchvision's weights files belong (`published_module`).
    """

    stride = 8

    def __init__(self, small: bool, iterations: int = ITERATIONS) -> None:
        from torchvision.models.optical_flow import raft_large, raft_small

        super().__init__()
        self.iterations = iterations
        self.network = (raft_small if small else raft_large)()

    @property
    def published_module(self) -> nn.Module:
        return self.network

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """The flow after every update, (B, 2, H, W) each; see `FlowNetwork.pyramid`."""
        height, width = first.shape[-2:]
        bottom, right = (max(MIN_SIZE - length, -length % self.stride) for length in (height, width))
        padded = [functional.pad(2 * image - 1, (0, right, 0, bottom), mode="replicate") for image in (first, second)]
        flows = self.network(*padded, num_flow_updates=self.iterations)
        # torchvision keeps the correlations of the last pair: they would occupy memory and prevent a deep copy.
        self.network.corr_block.corr_pyramid = []
        return [flow[..., :height, :width].float() for flow in flows]


def raft_small() -> RAFT:
    """The small model (`--model raft_small`)."""
    return RAFT(small=True)


def raft_large() -> RAFT:
    """The large model (`--model raft_large`)."""
    return RAFT(small=False)
