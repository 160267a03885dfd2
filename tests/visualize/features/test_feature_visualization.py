"""Feature visualization: parameterizations, priors, random transforms, and optimization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from densevision.errors import UserError
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.core.objectives import Channel, ClassLogit, Neuron
from densevision.visualize.core.targets import parse_target
from densevision.visualize.features.feature_visualization import (
    BN_WARMUP_STEPS,
    OptimizationOptions,
    feature_visualization,
)
from densevision.visualize.features.parameterization import (
    GRAY,
    FFTParam,
    PixelParam,
    alpha_norm,
    apply_transform,
    bn_statistics_loss,
    color_correlation,
    frequency_scale,
    gaussian_blur,
    random_transform,
    total_variation,
)

from ..core.test_model import state_of
from ..toys import Toy, random_image, toy, untrained

CLASS = ClassLogit("class 1", 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_alpha_norm_sums_powers():
    x = torch.tensor([[[[2.0, -1.0], [0.0, 3.0]]], [[[0.5, 0.0], [0.0, 0.0]]]])
    assert alpha_norm(x, 6).tolist() == [2**6 + 1 + 3**6, 0.5**6]


def test_total_variation_matches_manual_computation():
    # Facts 4: the difference is 0 at the last column and row. Right: 3, 0 / -4, 0. Below: -1, -8 / 0, 0.
    x = torch.tensor([[[[1.0, 4.0], [0.0, -4.0]]]])
    assert total_variation(x).item() == 3**2 + 1 + 8**2 + 4**2
    assert total_variation(x, beta=1).item() == pytest.approx(math.sqrt(3**2 + 1) + 8 + 4, rel=1e-4)
    assert total_variation(torch.cat((x, x), 1)).item() == 2 * total_variation(x).item()


def test_total_variation_of_a_constant_image_has_a_finite_gradient():
    # Facts 4: the gradient of a power below 1 at 0.
    for beta in (1.0, 1.5, 2.0):
        flat = torch.full((1, 3, 4, 5), 0.5, requires_grad=True)
        total_variation(flat, beta).sum().backward()
        assert flat.grad is not None and torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (8, 5), (1, 3)])
def test_frequency_scale_is_that_of_lucid(size):
    height, width = size
    scale = frequency_scale(size)
    assert scale.shape == (height, width // 2 + 1)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    expected = np.sqrt(width * height) / np.maximum(np.hypot(rows, columns), 1 / max(width, height))
    np.testing.assert_allclose(scale.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(12, 10), (11, 9), (6, 13)])
def test_fft_param_has_the_image_size_and_all_frequencies_have_gradients(size):
    param = FFTParam(2, 3, size, generator())
    result = param.to_image()
    assert result.shape == (2, 3, *size) and result.min() > 0 and result.max() < 1
    (result * torch.randn(result.shape, generator=generator(1))).sum().backward()
    assert param.params.grad is not None
    # The real part of every frequency has a gradient, also in the last column of an odd width.
    assert (param.params.grad[..., 0] != 0).all()


def test_fft_param_of_one_frequency_matches_manual_computation():
    param = FFTParam(1, 1, (8, 8), generator())
    with torch.no_grad():
        param.params.zero_()
        param.params[0, 0, 0, 1, 0] = 1.0
    # One cycle over the width: scale sqrt(64) / (1 / 8) = 64; irfft2 gives 2 * 64 / 64 * cosine; a quarter of that.
    expected = torch.sigmoid(0.5 * torch.cos(2 * math.pi * torch.arange(8) / 8)).expand(8, 8)
    torch.testing.assert_close(param.to_image()[0, 0], expected)


@pytest.mark.parametrize("size", [(16, 24), (12, 20)])
def test_fft_param_at_half_scale_is_the_subsampled_image_without_high_frequencies(size):
    param = FFTParam(1, 3, size, generator())
    with torch.no_grad():
        param.params[:, :, size[0] // 4 : -(size[0] // 4) + 1] = 0
        param.params[:, :, :, size[1] // 4 :] = 0
    torch.testing.assert_close(param.to_image(0.5), param.to_image()[..., ::2, ::2])
    noisy = FFTParam(1, 3, size, generator())
    assert noisy.to_image(0.5).shape == (1, 3, size[0] // 2, size[1] // 2)


def test_color_correlation_is_that_of_natural_images():
    # Facts 4: the longest column of the matrix is .462 long.
    assert color_correlation().norm(dim=0).max() == pytest.approx(1.0)
    assert color_correlation()[0, 0] == pytest.approx(0.26 / 0.462, abs=1e-3)
    param = FFTParam(1, 3, (4, 4), generator())
    with torch.no_grad():
        param.params.zero_()
        param.params[0, 1, 0, 0, 0] = 1.0
    # The second component changes red against blue, and not green.
    red, green, blue = param.to_image()[0, :, 0, 0].tolist()
    assert green == 0.5 and red > 0.5 and red + blue == pytest.approx(1.0)


def test_pixels_start_at_gray_and_stay_in_range():
    param = PixelParam(2, (0.2, 0.4, 0.6), 3, (6, 5), generator(), init_std=0.01)
    assert param.to_image().mean((0, 2, 3)).tolist() == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    with torch.no_grad():
        param.params.add_(5)
    param.clamp()
    assert param.to_image().max() == 1


def test_blur_keeps_the_mean_and_smooths():
    x = random_image(15, 11)[0]
    assert gaussian_blur(torch.full((1, 2, 6, 6), 0.3), 1.0).allclose(torch.tensor(0.3))
    assert total_variation(gaussian_blur(x, 1.0)) < total_variation(x) / 4
    impulse = torch.zeros(1, 1, 21, 21)
    impulse[..., 10, 10] = 1
    kernel = torch.exp(-torch.arange(-10, 11).square() / 2.0)
    kernel = torch.where(torch.arange(-10, 11).abs() <= 3, kernel, torch.zeros(())) / kernel[7:14].sum()
    torch.testing.assert_close(gaussian_blur(impulse, 1.0)[0, 0], kernel[:, None] * kernel[None])


def test_identity_transform_changes_nothing():
    x = random_image(9, 14)[0]
    torch.testing.assert_close(apply_transform(x, torch.eye(2, 3)), x)


def test_a_rotation_by_90_degrees_is_exact_and_fills_with_gray():
    x = random_image(5, 9)[0]
    rotated = apply_transform(x, torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(rotated[..., 2:7], x[..., 2:7].rot90(1, (2, 3)))
    assert (rotated[..., :2] == GRAY).all()


def test_random_transforms_have_the_ranges_of_lucid():
    rng = generator()
    transforms = torch.stack([random_transform(rng) for _ in range(400)])
    scales = 1 / transforms[:, :, :2].det().abs().sqrt()
    angles = torch.atan2(transforms[:, 1, 0], transforms[:, 0, 0]).rad2deg()
    # Facts 4: jitter 8 and 4 (to either side half of it), scale .90 to 1.10 in steps of .02, -10 to 10 degrees.
    assert 0.9 - 1e-4 <= scales.min() < 0.92 and 1.08 < scales.max() <= 1.1 + 1e-4
    assert angles.min() == pytest.approx(-10, abs=0.1) and angles.max() == pytest.approx(10, abs=0.1)
    assert (transforms[:, :, 2].abs() * 112 <= 6).all() and (transforms[:, :, 2].abs() * 112 > 4).any()


def test_bn_statistics_loss_is_the_distance_of_batch_means_and_variances():
    norm = nn.BatchNorm2d(2).eval()
    assert norm.running_mean is not None
    norm.running_mean.copy_(torch.tensor([1.0, 0.0]))
    maps = torch.randn(3, 2, 4, 5, generator=generator())
    with bn_statistics_loss(norm) as pop_loss:
        norm(maps)
        norm(maps)
        loss = pop_loss()
        assert pop_loss().tolist() == 0
    means, variances = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
    once = (means - torch.tensor([1.0, 0.0])).norm() + (variances - 1).norm()
    # The first normalization has a weight of 10.
    torch.testing.assert_close(loss, 11 * once)
    assert not norm._forward_pre_hooks


@pytest.mark.parametrize("param", ["fft", "pixel"])
def test_optimization_raises_the_score_above_start_and_noise(param):
    model = toy()
    minimum_scores: list[float] = []
    options = OptimizationOptions(param=param, steps=40, lr=0.2, transform_strength=0.5, bn_weight=0)
    result = feature_visualization(
        model, CLASS, size=(24, 21), count=2, options=options,
        progress=lambda done, total, scores: minimum_scores.append(min(scores.values())),
    )  # fmt: skip
    assert result.array.shape == (2, 3, 24, 21) and result.array.min() >= 0 and result.array.max() <= 1
    assert len(minimum_scores) == 40 and float(result.scores.min()) > minimum_scores[0] + 0.1
    assert float(result.scores.min()) > float(model.forward(random_image(24, 21)).output[0, 1])


def test_images_of_a_batch_equal_those_optimized_alone_from_the_same_noise():
    model, options = (
        toy(),
        OptimizationOptions(param="pixel", steps=BN_WARMUP_STEPS + 4, transform_strength=0, bn_weight=0),
    )
    both = feature_visualization(model, CLASS, size=(12, 10), count=2, options=options)
    alone = feature_visualization(model, CLASS, size=(12, 10), count=1, options=options)
    np.testing.assert_allclose(both.array[:1], alone.array, atol=1e-4, rtol=0)
    assert not np.array_equal(both.array[0], both.array[1])


def test_per_image_objectives():
    model, classes = toy(), (CLASS, ClassLogit("class 4", 4))
    options = OptimizationOptions(steps=BN_WARMUP_STEPS + 20, lr=0.2, transform_strength=0)
    result = feature_visualization(model, classes, size=(24, 20), options=options)
    logits = model.forward((torch.from_numpy(result.array),)).output.detach()
    torch.testing.assert_close(torch.from_numpy(result.scores), logits[[0, 1], [1, 4]])
    assert logits[0, 1] > logits[1, 1] and logits[1, 4] > logits[0, 4]


def test_a_larger_decay_power_raises_low_frequencies():
    usual, steep = frequency_scale((16, 16)), frequency_scale((16, 16), 1.5)
    # The frequencies are 1/16 and 4/16 cycles a pixel: 4^1.5 apart instead of 4.
    assert float(usual[0, 1] / usual[0, 4]) == pytest.approx(4)
    assert float(steep[0, 1] / steep[0, 4]) == pytest.approx(8)


def test_the_seed_determines_the_image():
    model = toy()
    first, second, other = (
        feature_visualization(model, CLASS, size=(16, 16), steps=20, seed=seed).array for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_every_prior_lowers_its_own_loss():
    model = toy()

    def optimize(**kwargs: Any) -> tuple[torch.Tensor, float]:
        options = OptimizationOptions(
            param="pixel", steps=60, lr=0.02, transform_strength=0, **{"bn_weight": 0.0, **kwargs}
        )
        pixels = torch.from_numpy(feature_visualization(model, CLASS, size=(16, 16), options=options).array)
        with bn_statistics_loss(model.module) as pop_loss, torch.no_grad():
            model.forward((pixels,))
            return pixels, float(pop_loss())

    baseline, bn_loss = optimize()
    gray = baseline.new_tensor(model.neutral_color).view(1, -1, 1, 1)
    assert alpha_norm(optimize(l_alpha_weight=0.1)[0] - gray, 2) < alpha_norm(baseline - gray, 2) / 2
    assert total_variation(optimize(tv_weight=0.1)[0]) < total_variation(baseline) / 2
    assert total_variation(optimize(blur=0.7)[0]) < total_variation(baseline)
    assert optimize(bn_weight=4.0)[1] < bn_loss


def test_the_model_is_unchanged():
    model = toy("re-used in place")
    before, weights = state_of(model.module), [each.clone() for each in model.module.state_dict().values()]
    feature_visualization(model, CLASS, size=(12, 10), steps=3)
    with pytest.raises(UserError):
        feature_visualization(model, Neuron("a", 1, 50, 0), size=(12, 10), steps=3)
    assert state_of(model.module) == before
    assert all(
        torch.equal(first, other) for first, other in zip(weights, model.module.state_dict().values(), strict=True)
    )


def with_a_bias(value: float) -> Toy:
    """A toy with the given bias in channel a:2."""
    backbone = Toy(norm=False)
    assert backbone.conv1.bias is not None
    with torch.no_grad():
        backbone.conv1.bias[2] = value
    return backbone


def test_an_initially_inactive_channel_is_optimized():
    # Facts 4: without the deconvnet rule, the mean of an inactive channel has no gradient here.
    model = inspect_backbone(with_a_bias(-1.0))
    objective = Channel("a", 2)
    assert not model.forward((torch.full((1, 3, 12, 10), 0.45),), ("a",)).levels["a"][:, 2].any()
    result = feature_visualization(model, objective, size=(12, 10), steps=60, lr=0.2, transform_strength=0)
    assert result.scores[0] > 0.1


def test_a_dead_channel_is_an_error_with_the_nearest_active_ones():
    model = inspect_backbone(with_a_bias(-1e4))
    with pytest.raises(UserError, match=r"No pixel changes a:2 .*: it is not active; nearest active ones: a:[0-9]"):
        feature_visualization(model, Channel("a", 2), size=(12, 10), steps=5)


def test_a_model_with_two_inputs_gives_two_images():
    model = untrained("flow")
    objective = parse_target("flow-u@10,10,20,20", model)
    result = feature_visualization(model, objective, size=(32, 32), steps=4)
    assert result.array.shape == (2, 3, 32, 32) and not np.array_equal(*result.array)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"lr": -1.0}, "--lr is -1"),
        ({"bn_weight": float("nan")}, "--bn-weight is nan"),
        ({"alpha": 0.5}, "--alpha 0.5"),
        ({"blur": 1.0}, "add --param pixel"),
        ({"coarse_fraction": 2.0}, "--coarse-fraction is 2"),
        ({"coarse_fraction": 0.5, "param": "pixel"}, "--coarse-fraction is 0.5"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        feature_visualization(toy(), CLASS, size=(12, 10), **options)


def test_the_command_writes_an_image_and_its_array(run, tmp_path):
    result = run(
        *(
            "visualize",
            "feature-visualization",
            "--model",
            "lenet5_mnist",
            "--target",
            "class:3",
            "--out",
            "three.png",
        ),
        *("--count", "2", "--steps", "6", "--param", "fft", "--seed", "1"),
    )
    assert result.out.splitlines()[-1] == "Wrote three.png and three.npy.", result
    array = np.load(tmp_path / "three.npy")
    assert array.shape == (2, 1, 32, 32) and array.dtype == np.float32
    assert "After 6 steps: class:3 (0) " in result.out


def test_the_command_prints_errors_as_one_line(run):
    words = ("visualize", "feature-visualization", "--model", "lenet5_mnist", "--out", "three.png", "--target")
    assert "has the classes 0 to 9, not 33" in run(*words, "class:33").error
    assert "--count 0" in run(*words, "class:3", "--count", "0").error
