"""What papers share: response normalization (facts 1.2, trap 1) and fully connected layers as convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones.layers import LRN, LocalResponseNorm, linear_as_convolution
from densevision.errors import UserError


def by_hand(a: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """The paper's section 3.3, channel by channel."""
    made = []
    for i in range(a.shape[1]):
        low, high = max(0, i - size // 2), min(a.shape[1] - 1, i + size // 2)
        made.append(a[:, i] / (k + alpha * a[:, low : high + 1].square().sum(1)) ** beta)
    return torch.stack(made, 1)


@pytest.mark.parametrize("numbers", [(5, 1e-4, 0.75, 2.0), (5, 2e-5, 0.75, 1.0), (3, 0.5, 0.5, 1.5)])
def test_response_normalization_is_the_papers_sum_at_border_and_interior_channels(numbers) -> None:
    torch.manual_seed(0)
    a = 20 * torch.randn(2, 9, 3, 4, dtype=torch.float64)
    difference = (LocalResponseNorm(LRN(*numbers))(a) - by_hand(a, *numbers)).abs()
    assert difference.amax((0, 2, 3)).max() < 1e-13  # trap 1; facts 1.2: 4e-15


def test_the_papers_numbers_are_the_default_and_torchs_alpha_is_five_times_as_large() -> None:
    torch.manual_seed(0)
    a = 20 * torch.randn(2, 9, 3, 4, dtype=torch.float64)
    made = LocalResponseNorm()(a)
    assert torch.allclose(made, nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(a), rtol=1e-14)
    # facts 1.2: with activations of std 20 the wrong alpha shows, by up to a fifth
    assert (nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(a) / made).max() > 1.05


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_squared_and_summed_in_float32(autocast: bool) -> None:
    torch.manual_seed(0)
    a = (20 * torch.randn(2, 9, 3, 4)).bfloat16().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        made = LocalResponseNorm()(a)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, by_hand(a.double(), 5, 1e-4, 0.75, 2.0).bfloat16())  # only the result is rounded


def test_a_linear_layer_slides_over_a_map_and_refuses_one_that_is_too_small() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3 * 4, 5)
    maps = torch.randn(2, 3, 4, 6)
    made = linear_as_convolution(linear, maps, side=2)
    assert made.shape == (2, 5, 3, 5)
    assert torch.allclose(made[:, :, 1, 3], linear(maps[:, :, 1:3, 3:5].flatten(1)), atol=1e-6)
    with pytest.raises(UserError, match="sees 2 x 2 units at once, and this image has 1 x 6"):
        linear_as_convolution(linear, maps[:, :, :1], side=2)
