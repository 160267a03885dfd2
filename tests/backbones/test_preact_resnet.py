"""Pre-activation ResNets against He et al. 2016 and timm. Counts: facts 1.4; fields: facts 1.5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.backbones.conformance import check_backbone
from densevision.backbones.preact_resnet import PREACT_TABLE, PreActBlock, PreActResNet
from densevision.backbones.receptive_field import receptive_fields
from densevision.errors import UserError

# facts 1.4: the table "Pre-activation ResNets".
COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("preact110_cifar", {}, 1_727_962),
    ("preact110_cifar", {"shortcut": "B"}, 1_730_522),
    ("preact164_cifar", {}, 1_703_258),
    ("preact164_cifar", {"num_classes": 100}, 1_726_388),
    ("preact1001_cifar", {}, 10_327_706),
    ("preact1001_cifar", {"num_classes": 100}, 10_350_836),
    ("preact152", {}, 60_185_128),
    ("preact152", {"first_unit_norm": True}, 60_185_256),
    ("preact200", {}, 64_666_152),
    ("preact200", {"first_unit_norm": True}, 64_666_280),
]


def with_weights(network: nn.Module) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, (nn.Conv2d, nn.BatchNorm2d))]


def in_order_of_use(network: nn.Module, run: Any, image: Tensor) -> list[nn.Module]:
    """The convolutions and normalizations of a network as one pass meets them."""
    met: list[nn.Module] = []
    hooks = [part.register_forward_hook(lambda part, *_: met.append(part)) for part in with_weights(network)]
    with torch.no_grad():
        run(image)
    for hook in hooks:
        hook.remove()
    return met


@pytest.mark.parametrize(("name", "options", "expected"), COUNTS)
def test_parameters_are_those_of_the_paper(name: str, options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, **options)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == expected


@pytest.mark.parametrize("name", PREACT_TABLE)
def test_the_name_is_the_number_of_weight_layers(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
    inside = [part for key, part in backbone.named_modules() if isinstance(part, nn.Conv2d) and ".shortcut" not in key]
    assert len(inside) + 1 == int(name.removeprefix("preact").removesuffix("_cifar"))


def test_a_unit_leaves_its_sum_untouched_and_the_next_normalizes_it() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("preact164_cifar", levels=1)
    units = [unit for unit in backbone.modules() if isinstance(unit, PreActBlock)]
    x = torch.randn(2, 64, 8, 8)
    kinds = [type(layer) for layer in units[1].residual]
    assert kinds == [nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * 3
    assert torch.equal(units[1](x), x + units[1].residual(x))
    assert units[1](x).min() < 0


@pytest.mark.parametrize("name", ["preact110_cifar", "preact164_cifar"])
def test_where_the_shape_changes_the_shortcut_sees_what_was_rectified(name: str) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name)
    seen: list[Tensor] = []
    for stage in (1, 2, 3):
        unit = backbone.get_submodule(f"stage{stage}.0")
        assert isinstance(unit, PreActBlock)
        assert isinstance(unit.residual[0], nn.Conv2d)
        assert not any(isinstance(part, nn.BatchNorm2d) for part in unit.shortcut.modules())
        unit.shortcut.register_forward_hook(lambda _part, inputs, _made: seen.append(inputs[0]))
    with torch.no_grad():
        maps = backbone.features(torch.randn(2, 3, 16, 16))
    # What the next stage reads is the level itself.
    assert torch.equal(seen[1], maps[0])
    assert torch.equal(seen[2], maps[1])
    assert all(float(given.min()) == 0 for given in (*seen, *maps))


def test_fifty_layers_of_these_units_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    torch.manual_seed(0)
    monkeypatch.setitem(PREACT_TABLE, "preact50", ((3, 4, 6, 3), True))
    ours = PreActResNet("preact50", num_classes=5, stride_in="3x3")
    peer: Any = timm.create_model("resnetv2_50", num_classes=5)
    assert sum(parameter.numel() for parameter in peer.parameters()) == sum(p.numel() for p in ours.parameters())
    image = torch.randn(2, 3, 65, 96)
    pairs = zip(
        in_order_of_use(ours, ours.features, image),
        in_order_of_use(peer, peer.forward_features, image),
        strict=True,
    )
    for mine, theirs in pairs:
        theirs.load_state_dict(mine.state_dict())
    # timm's stem pools before it normalizes: with positive factors and statistics that do not move that is the same.
    with torch.no_grad():
        made, expected = ours.eval().features(image)[-1], peer.eval().forward_features(image)
    assert (made - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert expected.abs().max() > 1


def test_the_places_of_the_stride_are_other_functions() -> None:
    torch.manual_seed(0)
    first, second = create_backbone("preact152", levels=3), create_backbone("preact152", levels=3, stride_in="3x3")
    assert first.options["stride_in"] == "1x1"
    second.load_state_dict(first.state_dict())  # trap 11: nothing in the tensors tells them apart
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        a, b = first.features(image), second.features(image)
    assert torch.equal(a[1], b[1])
    assert (a[2] - b[2]).abs().max() > 0.1


def test_levels_see_as_far_as_those_of_the_original_units() -> None:
    with torch.device("meta"):
        small, large = create_backbone("preact110_cifar", num_classes=0), create_backbone("preact152", num_classes=0)
    fields = receptive_fields(small)
    assert [(field.size, field.jump, field.center) for field in fields.values()] == [
        (75, 1, 0),
        (217, 2, 0),
        (501, 4, 0),
    ]
    # facts 1.5, the row "152 v1".
    assert [field.size for field in receptive_fields(large).values()] == [7, 35, 163, 1315, 1507]


def test_the_mean_of_forward_dense_is_forward() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("preact110_cifar")
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = backbone(image)
        assert logits.shape == (2, 10)
        assert torch.allclose(backbone.forward_dense(image).mean((2, 3)), logits, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("preact164_cifar", {"shortcut": "A"}, "made of bottlenecks"),
        ("preact110_cifar", {"shortcut": "C"}, "'A-centered' or 'B', not 'C'"),
        ("preact110_cifar", {"stride_in": "1x1"}, "no 1x1 convolution"),
        ("preact200", {"stride_in": "2x2"}, "'1x1' or '3x3'"),
        ("preact164_cifar", {"first_unit_norm": True}, "no pool to normalize after"),
    ],
)
def test_options_that_a_network_cannot_have_are_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        create_backbone(name, **options)


@pytest.mark.slow
def test_preact_networks_keep_the_contract() -> None:
    # Rounding grows through a hundred fresh layers: 4e-5 between two orders of adding up.
    check_backbone("preact110_cifar", ((32, 32), (33, 40)), tolerance=1e-3)
