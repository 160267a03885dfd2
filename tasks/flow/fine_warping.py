"""Fine optical flow head: `Warping`, whose finest estimate is repeated on images of twice the size.

After Hur, Roth: Iterative Residual Refinement for Joint Optical Flow and Occlusion Estimation. CVPR 2019,
arXiv:1904.05290, section 3.2: one estimator with the same weights at every scale refines what a coarser scale found.
Here the last estimator and the context network run again on the finest level of the backbone for the enlarged images:
flow at stride 2, from features that resolve half a unit of stride 4. There are no further parameters, and a checkpoint
of `Warping` is one of this head.
"""

from __future__ import annotations

from torch import Tensor

from .warping import Warping

ENLARGEMENT = 2


class FineWarping(Warping):
    """Coarse-to-fine flow head, from stride 32 to stride 2; see `Warping`."""

    @property
    def fine_levels(self) -> int:
        """Number of levels of the backbone that `repeat` needs, from fine to coarse."""
        return self.level_indices[0] + 1

    def repeat(self, first: list[Tensor], second: list[Tensor], flow: Tensor, hidden: Tensor) -> Tensor:
        """The finest estimate again, from enlarged images.

        Args:
            first, second: the first `fine_levels` levels of the backbone for each image, enlarged.
            flow: the finest flow, (B, 2, h, w), in pixels of the image that is not enlarged.
            hidden: features of the second finest estimate, which the last estimator has learned to read.

        Returns:
            (B, 2, 2h, 2w) float32, in pixels of the image that is not enlarged.
        """
        stride = self.strides[0] / ENLARGEMENT
        maps1, maps2 = (self.match[0](levels[-1]) for levels in (first, second))
        return self.refined(*self.update(len(self.strides) - 1, stride, maps1, maps2, (flow, hidden)), stride)
