from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional as F

from densevision.backbones import create_backbone
from densevision.datasets.fields import Depth as DepthKind
from densevision.datasets.fields import Image, Kind
from densevision.datasets.geometry import fitting_size
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.inference import (
    Predictor,
    evaluating,
    original_size,
    pad_by_reflection,
    reach,
    run_padded,
    run_tiled,
)
from densevision.tasks.task import Network, Query

FIELDS: dict[str, Kind] = {"image": Image(), "depth": DepthKind()}
WHOLE = 10**6
"""A tile that no picture outgrows."""


def network(backbone: str = "resnet20_cifar", levels: int | None = None, head: str = "unet") -> Any:
    """A depth network as a training might have left it: statistics that are not 0 and 1, answers of a few metres."""
    torch.manual_seed(0)
    trunk = create_backbone(backbone, classes=0, levels=levels)
    model: Any = Depth().build(FIELDS, trunk, head, None)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    with torch.no_grad():
        model.eval().head.predict.weight.mul_(0.3 / model(torch.rand(1, 3, 64, 64)).log().std())
    return model


def ask(predictor: Predictor, *inputs: Any, **options: Any) -> np.ndarray:
    """The metres that a predictor answers."""
    answer = predictor.predict(*inputs, **options)
    assert isinstance(answer, DepthMap)
    return answer.metres


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Net(Network):
    """Layers in a row that answer at the input's size or below it."""

    takes = "tiled"

    def __init__(self, *layers: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.layers, self.stride = nn.Sequential(*layers), stride

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Depth(), network(), FIELDS, (32, 48))


@pytest.mark.parametrize("size", [(37, 53), (1, 50), (50, 1), (7, 5), (1, 1), (64, 96), (33, 200)])
@pytest.mark.parametrize("view", ["fit", "native"])
def test_an_answer_has_the_pictures_size_and_no_hole(predictor, size, view):
    metres = ask(predictor, picture(*size), view=view)
    assert metres.shape == size and metres.dtype == np.float32
    assert np.isfinite(metres).all() and (metres > 0).all()


def test_every_source_of_a_picture_gets_the_same_answer(predictor, tmp_path):
    array = picture(30, 41)
    PILImage.fromarray(array).save(tmp_path / "a.png")
    tensor = torch.from_numpy(array).movedim(-1, 0)
    expected = ask(predictor, array)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), PILImage.fromarray(array), tensor, tensor / 255):
        np.testing.assert_array_equal(ask(predictor, source), expected)


def test_a_wrong_number_of_inputs_is_refused(predictor):
    for inputs in ((), (picture(8, 8), picture(8, 8))):
        with pytest.raises(UserError, match=rf"depth takes 1 input\(s\) \(image\), not {len(inputs)}"):
            predictor.predict(*inputs)


def test_an_unknown_view_is_refused(predictor):
    with pytest.raises(UserError, match="no view of the task depth named 'natve'; did you mean 'native'"):
        predictor.predict(picture(8, 8), view="natve")


@pytest.mark.parametrize("view", ["fit", "native"])
@pytest.mark.parametrize(
    ("box", "window"),
    [
        # x, y, width, height; top, bottom, left, right.
        ((4, 6, 20, 15), (6, 21, 4, 24)),
        ((3.6, 6.4, 20.2, 14.8), (6, 21, 4, 24)),
        ((-9, -9, 20, 15), (0, 6, 0, 11)),
        ((40, 30, 100, 100), (30, 37, 40, 53)),
        ((-1e9, -1e9, 2e9, 2e9), (0, 37, 0, 53)),
        ((52, 36, 1, 1), (36, 37, 52, 53)),
    ],
)
def test_asked_about_a_box_the_answer_is_that_of_the_part_of_the_picture_within(predictor, box, window, view):
    whole = picture(37, 53)
    top, bottom, left, right = window
    part = np.ascontiguousarray(whole[top:bottom, left:right])
    found = ask(predictor, whole, box=box, view=view, flip=True)
    assert found.shape == (bottom - top, right - left)
    np.testing.assert_array_equal(found, ask(predictor, part, view=view, flip=True))


def test_an_answer_is_told_where_its_part_lies_in_the_picture_and_whether_it_is_one():
    corners = []

    class Placed(Depth):
        def decode(self, output: Any, query: Query) -> Any:
            corners.append(query.corner)
            return super().decode(output, query)

    predictor = Predictor(Placed(), network(), FIELDS, (32, 48))
    for box in ((7, 5, 20, 20), (-7, 5, 20, 20), (0, 0, 20, 20), (0, 0, 53, 37), None):
        predictor.predict(picture(37, 53), box=box)
    predictor.answer({"image": picture(37, 53)})
    # x before y; a part in the corner is a part all the same.
    assert corners == [(7, 5), (0, 5), (0, 0), (0, 0), None, None]


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((53, 0, 10, 10), "53 0 10 10"),
        ((0, -20.5, 10, 20), "0 -20.5 10 20"),
        ((5, 5, 0, 10), "5 5 0 10"),
        ((5, 5, 10, -3), "5 5 10 -3"),
        ((float("nan"), 0, 10, 10), "nan 0 10 10"),
        ((0, 0, float("inf"), 10), "0 0 inf 10"),
    ],
)
def test_a_box_without_a_pixel_of_the_picture_is_refused(predictor, box, said):
    sentence = rf"The box {said} \(x, y, width, height\) holds no pixel of the picture, which is 53 wide and 37 high\."
    with pytest.raises(UserError, match=sentence):
        predictor.predict(picture(37, 53), box=box)


def test_fit_shows_the_network_the_training_size_and_native_the_pictures_own():
    model = network()
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    predictor = Predictor(Depth(), model, FIELDS, (32, 48))
    for view in ("fit", "native", None):
        # 60 x 120 covers 32 x 48 with 32 x 64; native is padded to multiples of the stride of 4.
        predictor.predict(picture(59, 118), view=view)
    assert seen == [(32, 64), (60, 120), (32, 64)]
    assert Depth.views[0] == "fit"


@pytest.mark.parametrize(
    ("source", "trained", "working"),
    [
        ((480, 640), (96, 128), (96, 128)),
        ((480, 960), (96, 128), (96, 192)),
        ((10, 20), (96, 128), (96, 192)),
        # Until its short side were covered a strip would grow to 32 x 64000; it keeps its own length.
        ((1, 2000), (32, 32), (32, 2000)),
        ((2, 100), (32, 32), (32, 256)),
    ],
)
def test_the_working_size_covers_the_training_size_without_blowing_strips_up(source, trained, working):
    assert fitting_size(source, trained) == working


@pytest.mark.parametrize("size", [(12, 12), (13, 9), (1, 6), (6, 1), (2, 3), (1, 1), (31, 2)])
@pytest.mark.parametrize("multiple", [1, 4, 32])
def test_padding_continues_a_picture_by_its_mirror_image_to_the_right_and_below(size, multiple):
    tensor = torch.randn(2, 3, *size)
    padded = pad_by_reflection(tensor, multiple)
    below, right = (-side % multiple for side in size)
    expected = np.pad(tensor.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_the_reach_is_the_one_by_hand():
    assert reach(Net(nn.Conv2d(3, 2, 1))) == 0
    assert reach(Net(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 5, padding=2))) == 3
    assert reach(Net(nn.Conv2d(3, 1, 3, padding=4, dilation=4))) == 4
    assert reach(Net(nn.Conv2d(3, 2, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(5, 1, 2))) == 4
    # Reaches 1 to the left and 3 to the right.
    assert reach(Net(nn.ZeroPad2d((3, 1, 2, 2)), nn.Conv2d(3, 1, 5))) == 3


def test_the_reach_through_a_stride_is_that_of_the_place_that_reaches_farthest():
    # Unit j of a 3x3 convolution of stride 2 sees pixels 2j - 1 to 2j + 1 and bilinear doubling spreads it over
    # 2j - 1 to 2j + 2. Pixel 2i + 1 is seen by i and i + 1: it reaches from 2i - 1 to 2i + 4, three pixels.
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    assert reach(Net(nn.Conv2d(3, 2, 3, 2, 1), double, stride=2)) == 3
    # Unit j of a 7x7 convolution of stride 4 sees 4j - 3 to 4j + 3 and answers for 4j to 4j + 3. Pixel 4i + 1 is seen
    # by i and i + 1: it reaches to 4i + 7, six pixels. Pixels 4i and 4i + 3 reach only three and four.
    assert reach(Net(nn.Conv2d(3, 2, 7, 4, 3), nn.Upsample(scale_factor=4, mode="nearest"), stride=4)) == 6


def test_a_network_that_answers_at_half_the_size_has_its_reach_after_the_resize():
    assert reach(Net(nn.Conv2d(3, 2, 3, 2, 1), stride=2)) == 3


def test_the_reach_covers_every_input_of_a_network_that_takes_several():
    class Both(Net):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
            return self.layers[0](first) + self.layers[1](second)

    model = Both(nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(2, 1, 7, padding=3))
    assert reach(model, 3, 2) == 3
    inputs = [torch.randn(1, 3, 40, 40), torch.randn(1, 2, 40, 40)]
    torch.testing.assert_close(run_padded(model, inputs, tile=16), model(*inputs), atol=1e-5, rtol=1e-5)


def test_a_network_that_sees_all_or_hides_what_it_sees_has_no_reach():
    class Global(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.layers(image) + image.mean()

    with pytest.raises(UserError, match="sees the whole picture at every pixel: it cannot be tiled"):
        reach(Global(nn.Conv2d(3, 3, 1)))

    class Deaf(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.layers(image).nan_to_num()

    with pytest.raises(UserError, match="swallows nan"):
        reach(Deaf(nn.Conv2d(3, 1, 1)))


def test_measuring_the_reach_changes_nothing_and_keeps_no_network_alive():
    model = network(levels=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reach(model) == reach(model) > 0
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    remembered = weakref.ref(model)
    del model
    gc.collect()
    assert remembered() is None


@pytest.fixture(scope="module")
def resnet() -> Any:
    return network("resnet18", 4)


@pytest.mark.parametrize("size", [(272, 336), (195, 301), (530, 97)])
def test_tiles_equal_the_whole(resnet, size):
    # Design 6: to 1e-4 for networks whose levels halve exactly and that hold no global operation.
    image = torch.rand(1, 3, *size)
    with torch.inference_mode():
        whole, tiled = run_padded(resnet, [image], WHOLE), run_padded(resnet, [image], tile=48)
    assert whole.shape == tiled.shape == (1, 1, *size)
    assert whole.log().std() > 0.1
    assert (whole - tiled).abs().max() < 1e-4


def test_tiles_that_see_less_than_the_reach_differ_from_the_whole(resnet):
    image = torch.rand(1, 3, 272, 336)
    with torch.inference_mode():
        whole = resnet(image)
        tiled = run_tiled(resnet, [image], 48, 16)
    assert (whole - tiled).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("backbone", "levels", "head"),
    [
        ("vgg11", 3, "unet"),
        ("resnet20_cifar", None, "up-projection"),
        pytest.param("resnet18", 3, "unetplusplus", marks=pytest.mark.slow),
    ],
)
def test_tiles_of_other_trunks_and_heads_equal_the_whole(backbone, levels, head):
    model, image = network(backbone, levels, head), torch.rand(1, 3, 151, 118)
    with torch.inference_mode():
        whole, tiled = run_padded(model, [image], WHOLE), run_padded(model, [image], tile=32)
    assert (whole - tiled).abs().max() < 1e-4


@pytest.mark.parametrize(("head", "stride"), [("unet", 8), ("up-projection", 8), ("unetplusplus", 32)])
def test_a_network_is_fed_multiples_of_the_strides_its_decoder_knows_beyond_the_trunks_own(head, stride):
    assert network("resnet18", 3, head).stride == stride


def test_tiles_of_an_answer_at_half_the_size_equal_the_whole():
    model = Net(nn.Conv2d(3, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), stride=2)
    image = torch.rand(1, 3, 75, 90)
    with torch.inference_mode():
        whole, tiled = run_padded(model, [image], WHOLE), run_padded(model, [image], tile=16)
    assert whole.shape == (1, 1, 75, 90)
    assert (whole - tiled).abs().max() < 1e-5


def test_a_network_with_a_global_operation_is_never_cut():
    model = network("resnet18", 4, "fpn")
    assert model.takes == "whole"
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    with torch.inference_mode():
        run_padded(model, [torch.rand(1, 3, 100, 130)], tile=32)
    # Padded to multiples of 32, which the pyramid has though the trunk ends at 16.
    assert seen == [(128, 160)]


def test_flipping_averages_the_answer_with_that_of_the_mirrored_picture(predictor):
    array = picture(32, 48)
    plain = ask(predictor, array)
    mirrored = ask(predictor, np.ascontiguousarray(array[:, ::-1]))[:, ::-1]
    assert np.abs(plain - mirrored).max() > 1e-3
    np.testing.assert_allclose(ask(predictor, array, flip=True), (plain + mirrored) / 2, rtol=1e-5)


def test_a_network_in_training_is_asked_in_evaluation_mode_and_left_as_it_was():
    model = network()
    expected = ask(Predictor(Depth(), model, FIELDS, (32, 48)), picture(32, 48))
    model.train()
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    found = ask(Predictor(Depth(), model, FIELDS, (32, 48)), picture(32, 48))
    np.testing.assert_array_equal(found, expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, statistics[name]) for name, value in model.named_buffers())


def test_modes_are_restored_even_when_the_network_fails():
    model = network().train()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())


def test_asking_leaves_no_gradient_and_keeps_no_graph(predictor):
    output = predictor.run({"image": picture(16, 16)})
    assert not output.requires_grad and output.grad_fn is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in predictor.model.parameters())


def test_in_bf16_the_network_is_asked_in_bf16_and_answers_nearly_the_same_in_fp32():
    model = network()
    seen = []
    model.head.predict.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    full, half = (ask(Predictor(Depth(), model, FIELDS, (32, 48), amp=amp), picture(32, 48)) for amp in ("off", "bf16"))
    assert seen == [torch.float32, torch.bfloat16]
    np.testing.assert_allclose(half, full, rtol=0.05)
    assert half.dtype == np.float32


def test_a_picture_of_another_size_than_the_answer_is_met_bilinearly():
    output = torch.arange(12.0).reshape(1, 1, 3, 4)
    query = Query({}, {}, (5, 9), np.eye(3))
    expected = F.interpolate(output, (5, 9), mode="bilinear", align_corners=False)[0].movedim(0, -1)
    np.testing.assert_array_equal(original_size(output, query), expected.numpy())
    np.testing.assert_array_equal(original_size(output, Query({}, {}, (3, 4), np.eye(3)))[..., 0], output[0, 0].numpy())


LARGE_PICTURE = """
import json, resource, sys, time
import numpy as np
from densevision.backbones import create_backbone
from densevision.datasets.fields import Depth as DepthKind, Image
from densevision.tasks.depth import Depth
from densevision.tasks.inference import Predictor

fields = {"image": Image(), "depth": DepthKind()}
model = Depth().build(fields, create_backbone("resnet18", classes=0, levels=4), "unet", None).eval()
predictor = Predictor(Depth(), model, fields, (240, 320), "cpu", sys.argv[2])
picture = np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
answer = predictor.predict(picture, view=sys.argv[1])
assert answer.metres.shape == (4000, 6000)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"before": before / 2**20, "peak": peak / 2**20, "seconds": time.perf_counter() - began}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("view", ["native", "fit"])
@pytest.mark.parametrize("amp", ["auto", "off"])
def test_a_picture_of_24_megapixels_is_answered_within_4_gib(view, amp):
    command = [sys.executable, "-c", LARGE_PICTURE, view, amp]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stderr
    measured = json.loads(found.stdout)
    print(view, amp, measured)
    assert measured["peak"] < 4
