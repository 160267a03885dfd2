"""LeNet-5 against LeCun, Bottou, Bengio, Haffner 1998. Facts 1.1 and 1.5."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.conformance import check_backbone
from densevision.backbones.initialization import initialize
from densevision.backbones.lenet import (
    CONNECTIONS,
    LeNet5,
    PartialConvolution,
    RadialBasis,
    Subsampling,
    output_codes,
    scaled_tanh,
)
from densevision.backbones.receptive_field import receptive_fields
from densevision.errors import UserError

# facts 1.1: free parameters of each layer.
COUNTS = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}


def lenet(**options: Any) -> LeNet5:
    backbone = create_backbone("lenet5", **options)
    assert isinstance(backbone, LeNet5)
    return backbone


def c3_of(backbone: LeNet5) -> PartialConvolution:
    layer = backbone.get_submodule("c3")
    assert isinstance(layer, PartialConvolution)
    return layer


def absent() -> torch.Tensor:
    """(16, 6): which maps of C3 do not see which of S2."""
    return torch.tensor([[source not in sources for source in range(6)] for sources in CONNECTIONS])


def test_free_parameters_are_sixty_thousand() -> None:
    backbone = lenet()
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in backbone.named_children()}
    assert counts == COUNTS
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 60_000  # trap 5


def test_connections_are_the_papers() -> None:
    backbone = lenet()
    maps = dict(
        zip((level.name for level in backbone.levels), backbone.features(torch.zeros(1, 1, 32, 32)), strict=True)
    )
    units = {name: made[0, 0].numel() for name, made in maps.items()}
    connections = {
        "c1": units["c1"] * 6 * (25 + 1),
        "s2": maps["s2"].numel() * (4 + 1),
        "c3": units["c3"] * sum(25 * len(sources) + 1 for sources in CONNECTIONS),
        "s4": maps["s4"].numel() * (4 + 1),
        "c5": units["c5"] * 120 * (16 * 25 + 1),
        "f6": 84 * (maps["c5"].numel() + 1),
        "output": output_codes(10).numel(),
    }
    # facts 1.1
    assert connections == {
        "c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000, "c5": 48_120, "f6": 10_164, "output": 840,
    }  # fmt: skip
    assert sum(connections.values()) == 340_908


def test_levels_have_the_papers_sides_and_fields() -> None:
    backbone = lenet(num_classes=0)
    maps = backbone.features(torch.zeros(2, 1, 32, 32))
    assert [tuple(made.shape[1:]) for made in maps] == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1),
    ]  # fmt: skip
    fields = receptive_fields(backbone)
    # facts 1.5: r / j / c
    assert [(name, field.size, field.jump, field.center) for name, field in fields.items()] == [
        ("c1", 5, 1, 2), ("s2", 6, 2, 2.5), ("c3", 14, 2, 6.5), ("s4", 16, 4, 7.5), ("c5", 32, 4, 15.5),
    ]  # fmt: skip
    assert [field.jump for field in fields.values()] == [level.stride for level in backbone.levels]


@pytest.mark.parametrize("options", [{}, {"in_channels": 3}, {"levels": 3}, {"num_classes": 4}])
def test_the_backbone_keeps_the_contract(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # Four 5x5 without padding at strides 1, 2 and 4: c5 has seven units less than a quarter of the image.
    monkeypatch.setattr("densevision.backbones.conformance.LOST_UNITS", 8)
    check_backbone(lenet(**{"num_classes": 0, **options}))


def test_squashing_keeps_one_at_one() -> None:
    x = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    made = scaled_tanh(x)
    (slope,) = torch.autograd.grad(made.sum(), x)
    # facts 1.1
    assert made.tolist() == pytest.approx([0.999997, -0.999997, 0], abs=1e-6)
    assert slope.tolist() == pytest.approx([0.75541, 0.75541, 1.14393], abs=1e-5)


def test_every_level_is_squashed() -> None:
    backbone = lenet(num_classes=0, init="he_fan_in")
    maps = backbone.features(1000 * torch.randn(1, 1, 32, 32))
    assert all(float(made.abs().max().detach()) <= 1.7159 for made in maps)
    assert all(float(made.abs().max().detach()) > 1 for made in maps)


def test_subsampling_adds_up_and_learns_a_coefficient_and_a_bias() -> None:
    layer = Subsampling(2)  # trap 5: the sum, not the mean
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, -1.0]))
        layer.bias.copy_(torch.tensor([0.0, 3.0]))
    maps = torch.arange(30.0).view(1, 2, 3, 5)
    made = layer(maps)
    # An odd last row and column are left out.
    assert made.tolist() == [[[[0.5 * (0 + 1 + 5 + 6), 0.5 * (2 + 3 + 7 + 8)]], [[3.0 - 72, 3.0 - 80]]]]
    made[:, 1].sum().backward()
    assert layer.coefficient.grad is not None
    assert layer.bias.grad is not None
    assert layer.coefficient.grad.tolist() == [0, 72 + 80]
    assert layer.bias.grad.tolist() == [0, 2]


def test_every_map_of_s2_is_seen_by_ten_of_c3() -> None:
    seen = [source for sources in CONNECTIONS for source in sources]  # trap 6
    assert [seen.count(source) for source in range(6)] == [10] * 6
    assert len(set(CONNECTIONS)) == 16
    assert [len(sources) for sources in CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    # facts 1.1: the first twelve are neighbors in a ring of six.
    for length, rows in ((3, CONNECTIONS[:6]), (4, CONNECTIONS[6:12])):
        assert set(rows) == {tuple(sorted((first + step) % 6 for step in range(length))) for first in range(6)}


def test_c3_is_a_convolution_of_the_maps_that_it_sees() -> None:
    torch.manual_seed(0)
    layer = c3_of(lenet())
    nn.init.normal_(layer.kernels)
    nn.init.normal_(layer.bias)
    maps = torch.randn(2, 6, 14, 14)
    made, start = layer(maps), 0
    for index, sources in enumerate(CONNECTIONS):
        kernels = layer.kernels[start : start + len(sources)]
        start += len(sources)
        alone = nn.functional.conv2d(maps[:, list(sources)], kernels[None], layer.bias[index : index + 1])
        assert torch.allclose(made[:, index], alone[:, 0], atol=1e-5)
    assert start == len(layer.kernels) == 60


def test_what_c3_does_not_see_stays_zero_under_decay_and_momentum() -> None:
    torch.manual_seed(0)
    backbone = lenet()  # trap 6
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    before = c3_of(backbone).weight().detach()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(backbone(torch.randn(4, 1, 32, 32)), torch.arange(4)).backward()
        optimizer.step()
    after = c3_of(backbone).weight().detach()
    assert not after[absent()].any()
    assert (after != before)[~absent()].any(dim=(-1, -2)).all()


def test_weights_start_by_the_fan_in_of_their_unit() -> None:
    torch.manual_seed(0)
    backbone = lenet()
    for name, n_in in (("c1.weight", 25), ("c5.weight", 400), ("f6.weight", 120)):
        weight = backbone.get_parameter(name)
        assert 0.9 * 2.4 / n_in < float(weight.abs().max().detach()) <= 2.4 / n_in
    # facts 1.1: 75, 100 and 150 inputs
    largest = c3_of(backbone).weight().detach().abs().amax((1, 2, 3))
    bounds = torch.tensor([2.4 / (25 * len(sources)) for sources in CONNECTIONS])
    assert (largest <= bounds).all()
    assert (largest > 0.9 * bounds).all()
    for name, parameter in backbone.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
    assert float(backbone.get_parameter("s4.coefficient").detach().abs().max()) <= 2.4 / 4


def test_the_rule_of_1998_has_its_variance() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(256, 512, 3)
    initialize(layer, "lecun")
    n_in = 256 * 9
    assert layer.weight.var().item() == pytest.approx(1.92 / n_in**2, rel=0.01)  # facts 2.1
    assert float(layer.weight.detach().abs().max()) <= 2.4 / n_in


def test_ten_digits_are_drawn_in_twelve_rows_of_seven_and_differ() -> None:
    codes = output_codes(10)
    assert codes.shape == (10, 84)
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    distances = (codes[:, None] != codes[None]).sum(-1) + 84 * torch.eye(10, dtype=torch.int64)
    assert int(distances.min()) >= 15
    one = codes[1].view(12, 7) > 0
    assert one.any(1).all()
    assert not one[:, 6].any()  # a one is narrow
    seven = codes[7].view(12, 7) > 0
    assert seven[0].all()
    assert not seven[11, 4:].any()


def test_other_counts_of_classes_have_codes_of_their_own_that_never_change() -> None:
    codes = output_codes(100)
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    distances = (codes[:, None] != codes[None]).sum(-1)
    assert int(distances[~torch.eye(100, dtype=torch.bool)].min()) > 20
    assert torch.equal(output_codes(30), codes[:30])
    # `printf 0 | openssl dgst -shake256 -xoflen 11` ends in 69, the low bit first: 1001 0110.
    assert (codes[0, :8] > 0).tolist() == [True, False, False, True, False, True, True, False]
    assert lenet(num_classes=3)(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_distances_are_the_papers_sum_and_are_not_learned() -> None:
    torch.manual_seed(0)
    layer = RadialBasis(10)
    x = torch.randn(3, 84)
    by_hand = [[float(((x[n] - layer.codes[i]) ** 2).sum()) for i in range(10)] for n in range(3)]  # eq. 7
    assert torch.allclose(layer(x), torch.tensor(by_hand), rtol=1e-5)
    assert list(layer.parameters()) == []
    assert "codes" in layer.state_dict()


def test_the_largest_logit_is_the_nearest_digit() -> None:
    backbone = lenet().eval()
    distances: list[torch.Tensor] = []
    backbone.output.register_forward_hook(lambda _module, _inputs, made: distances.append(made.detach()))
    logits = backbone(torch.randn(5, 1, 32, 32))
    assert torch.equal(logits, -distances[0])
    assert (logits <= 0).all()
    assert torch.equal(logits.argmax(1), distances[0].argmin(1))
    # The codes themselves are recognized, each as its digit.
    assert backbone.output(backbone.output.codes).argmin(1).tolist() == list(range(10))
    assert backbone.output(backbone.output.codes).diagonal().tolist() == [0.0] * 10


def test_replicated_over_a_larger_image_equals_each_part() -> None:
    torch.manual_seed(0)
    backbone = lenet(init="he_fan_in").eval()
    image = torch.randn(2, 1, 40, 52)
    with torch.no_grad():
        logits = backbone.forward_dense(image)
        assert logits.shape == (2, 10, 3, 6)
        for row, column in ((0, 0), (2, 1), (1, 5)):
            part = image[:, :, 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
            assert torch.allclose(logits[:, :, row, column], backbone(part), atol=1e-3)


def test_the_classifier_takes_its_own_size_only() -> None:
    backbone = lenet()
    assert backbone.classifier_input_size == (32, 32) == (backbone.preprocessing.crop,) * 2
    with pytest.raises(UserError, match="images of 32 x 32, not of 28 x 28"):
        backbone(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UserError, match="without a classifier"):
        lenet(num_classes=0)(torch.zeros(1, 1, 32, 32))


def test_paper_and_ink_have_the_papers_values() -> None:
    gray = lenet().preprocessing
    assert gray(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)).flatten().tolist() == pytest.approx([-0.1, 1.175])
    assert (gray.resize, gray.crop) == (28, 32)  # facts 1.1: a 28x28 digit and a border
    color = lenet(in_channels=3).preprocessing
    assert color.mean == gray.mean * 3
    assert math.isclose(color.std[2], 1 / 1.275)
