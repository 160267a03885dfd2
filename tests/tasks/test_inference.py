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
from densevision.datasets.core.geometry import fitting_size
from densevision.datasets.field_types import Depth as DepthKind
from densevision.datasets.field_types import FieldType, Image, SegmentationMask
from densevision.datasets.hand.hand_fields import CubeDepth
from densevision.datasets.synthetic import RoomViews
from densevision.errors import UserError
from densevision.limits import LIMITS
from densevision.tasks import list_tasks
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.inference import Predictor, load
from densevision.tasks.network import Network
from densevision.tasks.prediction import PredictionContext
from densevision.tasks.tiling import (
    eval_mode,
    pad_by_reflection,
    receptive_radius,
    resize_to_input,
    run_padded,
    run_tiled,
)

FIELDS: dict[str, FieldType] = {"image": Image(), "depth": DepthKind()}
UNTILED = 10**6
"""A tile size larger than every image."""


def network(backbone: str = "resnet20_cifar", levels: int | None = None, head: str = "unet") -> Any:
    """A depth network as after training: statistics other than 0 and 1, predictions of a few meters."""
    torch.manual_seed(0)
    encoder = create_backbone(backbone, num_classes=0, levels=levels)
    model: Any = Depth().build(FIELDS, encoder, head, None)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    with torch.no_grad():
        model.eval().head.predict.weight.mul_(0.3 / model(torch.rand(1, 3, 64, 64)).log().std())
    return model


def predict_meters(predictor: Predictor, *inputs: Any, **options: Any) -> np.ndarray:
    prediction = predictor.predict(*inputs, **options)
    assert isinstance(prediction, DepthMap)
    return prediction.meters


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Net(Network):
    """A sequence of layers, with an output at the size of the input or below it."""

    input_policy = "tiled"

    def __init__(self, *layers: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.layers, self.stride = nn.Sequential(*layers), stride

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Depth(), network(), FIELDS, (32, 48))


@pytest.mark.parametrize("size", [(37, 53), (1, 50), (50, 1), (7, 5), (1, 1), (64, 96), (33, 200)])
@pytest.mark.parametrize("mode", ["fit", "native"])
def test_a_prediction_has_the_image_size_and_valid_values(predictor, size, mode):
    meters = predict_meters(predictor, image(*size), mode=mode)
    assert meters.shape == size and meters.dtype == np.float32
    assert np.isfinite(meters).all() and (meters > 0).all()


def test_every_source_of_an_image_gives_the_same_prediction(predictor, tmp_path):
    array = image(30, 41)
    PILImage.fromarray(array).save(tmp_path / "a.png")
    tensor = torch.from_numpy(array).movedim(-1, 0)
    expected = predict_meters(predictor, array)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), PILImage.fromarray(array), tensor, tensor / 255):
        np.testing.assert_array_equal(predict_meters(predictor, source), expected)


def test_a_wrong_number_of_inputs_is_refused(predictor):
    for inputs in ((), (image(8, 8), image(8, 8))):
        with pytest.raises(UserError, match=rf"model takes 1 input\(s\) \(image\), not {len(inputs)}"):
            predictor.predict(*inputs)


def test_an_unknown_input_mode_is_refused(predictor):
    with pytest.raises(UserError, match="no input mode of the task depth named 'natve'; did you mean 'native'"):
        predictor.predict(image(8, 8), mode="natve")


@pytest.mark.parametrize("mode", ["fit", "native"])
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
def test_the_prediction_for_a_box_is_that_for_the_crop(predictor, box, window, mode):
    array = image(37, 53)
    top, bottom, left, right = window
    crop = np.ascontiguousarray(array[top:bottom, left:right])
    meters = predict_meters(predictor, array, box=box, mode=mode, flip=True)
    assert meters.shape == (bottom - top, right - left)
    np.testing.assert_array_equal(meters, predict_meters(predictor, crop, mode=mode, flip=True))


def test_decode_gets_the_offset_of_the_crop():
    offsets = []

    class Recording(Depth):
        def decode(self, output: Any, context: PredictionContext) -> Any:
            offsets.append(context.offset)
            return super().decode(output, context)

    predictor = Predictor(Recording(), network(), FIELDS, (32, 48))
    for box in ((7, 5, 20, 20), (-7, 5, 20, 20), (0, 0, 20, 20), (0, 0, 53, 37), None):
        predictor.predict(image(37, 53), box=box)
    predictor.predict_sample({"image": image(37, 53)})
    # x before y; a crop at the corner has the offset (0, 0).
    assert offsets == [(7, 5), (0, 5), (0, 0), (0, 0), None, None]


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ((53, 0, 10, 10), "53 0 10 10"),
        ((0, -20.5, 10, 20), "0 -20.5 10 20"),
        ((5, 5, 0, 10), "5 5 0 10"),
        ((5, 5, 10, -3), "5 5 10 -3"),
        ((float("nan"), 0, 10, 10), "nan 0 10 10"),
        ((0, 0, float("inf"), 10), "0 0 inf 10"),
    ],
)
def test_a_box_without_a_pixel_of_the_image_is_refused(predictor, box, text):
    message = rf"The box {text} \(x, y, width, height\) contains no pixel of the image, which is 53 wide and 37 high\."
    with pytest.raises(UserError, match=message):
        predictor.predict(image(37, 53), box=box)


def test_fit_resizes_to_the_training_size_and_native_does_not():
    model = network()
    sizes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    predictor = Predictor(Depth(), model, FIELDS, (32, 48))
    for mode in ("fit", "native", None):
        # 60 x 120 covers 32 x 48 with 32 x 64; native is padded to multiples of the stride of 4.
        predictor.predict(image(59, 118), mode=mode)
    assert sizes == [(32, 64), (60, 120), (32, 64)]
    assert Depth().inference.modes[0] == "fit"


@pytest.mark.parametrize(
    ("source", "trained", "working"),
    [
        ((480, 640), (96, 128), (96, 128)),
        ((480, 960), (96, 128), (96, 192)),
        ((10, 20), (96, 128), (96, 192)),
        # Covering its short side would enlarge a strip to 32 x 64000; it keeps its own length.
        ((1, 2000), (32, 32), (32, 2000)),
        ((2, 100), (32, 32), (32, 256)),
    ],
)
def test_the_fitting_size_covers_the_training_size_except_for_strips(source, trained, working):
    assert fitting_size(source, trained) == working


@pytest.mark.parametrize("size", [(12, 12), (13, 9), (1, 6), (6, 1), (2, 3), (1, 1), (31, 2)])
@pytest.mark.parametrize("multiple", [1, 4, 32])
def test_padding_reflects_the_image_to_the_right_and_below(size, multiple):
    tensor = torch.randn(2, 3, *size)
    padded = pad_by_reflection(tensor, multiple)
    below, right = (-side % multiple for side in size)
    expected = np.pad(tensor.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_the_receptive_radius_equals_that_by_hand():
    assert receptive_radius(Net(nn.Conv2d(3, 2, 1))) == 0
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 5, padding=2))) == 3
    assert receptive_radius(Net(nn.Conv2d(3, 1, 3, padding=4, dilation=4))) == 4
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(5, 1, 2))) == 4
    # 1 to the left and 3 to the right.
    assert receptive_radius(Net(nn.ZeroPad2d((3, 1, 2, 2)), nn.Conv2d(3, 1, 5))) == 3


def test_the_receptive_radius_through_a_stride_is_the_maximum():
    # Unit j of a 3x3 convolution of stride 2 covers pixels 2j - 1 to 2j + 1, and bilinear doubling spreads it over
    # 2j - 1 to 2j + 2. Pixel 2i + 1 is covered by i and i + 1: it affects 2i - 1 to 2i + 4, three pixels away.
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, 2, 1), double, stride=2)) == 3
    # Unit j of a 7x7 convolution of stride 4 covers 4j - 3 to 4j + 3 and is enlarged to 4j to 4j + 3. Pixel 4i + 1 is
    # covered by i and i + 1: it affects up to 4i + 7, six pixels away. Pixels 4i and 4i + 3: three and four.
    assert receptive_radius(Net(nn.Conv2d(3, 2, 7, 4, 3), nn.Upsample(scale_factor=4, mode="nearest"), stride=4)) == 6


def test_the_receptive_radius_of_a_half_size_output_includes_the_resize():
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, 2, 1), stride=2)) == 3


def test_the_receptive_radius_is_the_maximum_over_all_inputs():
    class Both(Net):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
            return self.layers[0](first) + self.layers[1](second)

    model = Both(nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(2, 1, 7, padding=3))
    assert receptive_radius(model, 3, 2) == 3
    inputs = [torch.randn(1, 3, 40, 40), torch.randn(1, 2, 40, 40)]
    torch.testing.assert_close(run_padded(model, inputs, tile=16), model(*inputs), atol=1e-5, rtol=1e-5)


def test_global_operations_and_removed_nan_have_no_receptive_radius():
    class Global(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.layers(image) + image.mean()

    with pytest.raises(UserError, match="depends on the complete image: it cannot be tiled"):
        receptive_radius(Global(nn.Conv2d(3, 3, 1)))

    class NanFree(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.layers(image).nan_to_num()

    with pytest.raises(UserError, match="removes nan"):
        receptive_radius(NanFree(nn.Conv2d(3, 1, 1)))


def test_measuring_the_receptive_radius_has_no_side_effects():
    model = network(levels=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert receptive_radius(model) == receptive_radius(model) > 0
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.fixture(scope="module")
def resnet() -> Any:
    return network("resnet18", 4)


@pytest.mark.parametrize(
    "size", [(195, 301), *(pytest.param(size, marks=pytest.mark.slow) for size in ((272, 336), (530, 97)))]
)
def test_tiled_inference_equals_one_pass(resnet, size):
    # Design 6: to 1e-4 for networks whose levels halve exactly and that contain no global operation.
    image = torch.rand(1, 3, *size)
    with torch.inference_mode():
        untiled, tiled = run_padded(resnet, [image], UNTILED), run_padded(resnet, [image], tile=48)
    assert untiled.shape == tiled.shape == (1, 1, *size)
    assert untiled.log().std() > 0.1
    assert (untiled - tiled).abs().max() < 1e-4


def test_tiles_with_too_little_overlap_differ(resnet):
    image = torch.rand(1, 3, 272, 336)
    with torch.inference_mode():
        untiled = resnet(image)
        tiled = run_tiled(resnet, [image], 48, 16)
    assert (untiled - tiled).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("backbone", "levels", "head"),
    [
        ("vgg11", 3, "unet"),
        ("resnet20_cifar", None, "up-projection"),
        pytest.param("resnet18", 3, "unetplusplus", marks=pytest.mark.slow),
    ],
)
def test_tiled_inference_of_other_models_equals_one_pass(backbone, levels, head):
    model, image = network(backbone, levels, head), torch.rand(1, 3, 151, 118)
    with torch.inference_mode():
        untiled, tiled = run_padded(model, [image], UNTILED), run_padded(model, [image], tile=32)
    assert (untiled - tiled).abs().max() < 1e-4


@pytest.mark.parametrize(("head", "stride"), [("unet", 8), ("up-projection", 8), ("unetplusplus", 32)])
def test_the_stride_of_a_model_includes_that_of_its_decoder(head, stride):
    assert network("resnet18", 3, head).stride == stride


def test_tiled_inference_with_a_half_size_output_equals_one_pass():
    model = Net(nn.Conv2d(3, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), stride=2)
    image = torch.rand(1, 3, 75, 90)
    with torch.inference_mode():
        untiled, tiled = run_padded(model, [image], UNTILED), run_padded(model, [image], tile=16)
    assert untiled.shape == (1, 1, 75, 90)
    assert (untiled - tiled).abs().max() < 1e-5


def test_a_model_with_a_global_operation_is_not_tiled():
    model = network("resnet18", 4, "fpn")
    assert model.input_policy == "whole"
    sizes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    with torch.inference_mode():
        run_padded(model, [torch.rand(1, 3, 100, 130)], tile=32)
    # Padded to multiples of 32, the stride of the pyramid, though the backbone ends at 16.
    assert sizes == [(128, 160)]


def test_flip_averages_with_the_prediction_for_the_flipped_image(predictor):
    array = image(32, 48)
    plain = predict_meters(predictor, array)
    flipped = predict_meters(predictor, np.ascontiguousarray(array[:, ::-1]))[:, ::-1]
    assert np.abs(plain - flipped).max() > 1e-3
    np.testing.assert_allclose(predict_meters(predictor, array, flip=True), (plain + flipped) / 2, rtol=1e-5)


def test_a_model_in_training_mode_is_evaluated_and_restored():
    model = network()
    expected = predict_meters(Predictor(Depth(), model, FIELDS, (32, 48)), image(32, 48))
    model.train()
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    meters = predict_meters(Predictor(Depth(), model, FIELDS, (32, 48)), image(32, 48))
    np.testing.assert_array_equal(meters, expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, statistics[name]) for name, value in model.named_buffers())


def test_training_mode_is_restored_after_an_error():
    model = network().train()
    with pytest.raises(ZeroDivisionError), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())


def test_inference_has_no_gradient_and_no_graph(predictor):
    output = predictor.run_network([{"image": image(16, 16)}])
    assert not output.requires_grad and output.grad_fn is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in predictor.model.parameters())


def test_bf16_inference_returns_nearly_equal_fp32_predictions():
    model = network()
    dtypes = []
    model.head.predict.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    full, half = (
        predict_meters(Predictor(Depth(), model, FIELDS, (32, 48), amp=amp), image(32, 48)) for amp in ("off", "bf16")
    )
    assert dtypes == [torch.float32, torch.bfloat16]
    np.testing.assert_allclose(half, full, rtol=0.05)
    assert half.dtype == np.float32


def test_an_output_of_another_size_is_resized_bilinearly():
    output = torch.arange(12.0).reshape(1, 1, 3, 4)
    context = PredictionContext({}, {}, (5, 9), np.eye(3))
    expected = F.interpolate(output, (5, 9), mode="bilinear", align_corners=False)[0].movedim(0, -1)
    np.testing.assert_array_equal(resize_to_input(output, context), expected.numpy())
    np.testing.assert_array_equal(
        resize_to_input(output, PredictionContext({}, {}, (3, 4), np.eye(3)))[..., 0], output[0, 0].numpy()
    )


LARGE_IMAGE = """
import json, resource, sys, time
import numpy as np
from densevision.backbones import create_backbone
from densevision.datasets.field_types import Depth as DepthKind, Image
from densevision.tasks.depth import Depth
from densevision.tasks.inference import Predictor, load

fields = {"image": Image(), "depth": DepthKind()}
model = Depth().build(fields, create_backbone("resnet18", num_classes=0, levels=4), "unet", None).eval()
predictor = Predictor(Depth(), model, fields, (240, 320), "cpu", sys.argv[2])
image = np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
prediction = predictor.predict(image, mode=sys.argv[1])
assert prediction.meters.shape == (4000, 6000)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"before": before / 2**20, "peak": peak / 2**20, "seconds": time.perf_counter() - began}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["native", "fit"])
@pytest.mark.parametrize("amp", ["auto", "off"])
def test_an_image_of_24_megapixels_needs_less_than_4_gib(mode, amp):
    command = [sys.executable, "-c", LARGE_IMAGE, mode, amp]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert process.returncode == 0, process.stderr
    measured = json.loads(process.stdout)
    print(mode, amp, measured)
    assert measured["peak"] < 4


# --- batches ----------------------------------------------------------------------------------------------------


def random_inputs(predictor: Predictor, size: tuple[int, int], seed: int) -> tuple[Any, ...]:
    """Random inputs of a model: images (H, W, C) uint8, label maps (H, W), and depth (H, W) in millimeters."""
    if predictor.task.inference.reads_scenes:
        return (RoomViews(None, "test", size).read(seed),)
    rng = np.random.default_rng(seed)
    return tuple(
        rng.integers(0, len(kind.names), size)
        if isinstance(kind, SegmentationMask)
        else rng.integers(300, 500, size, dtype=np.uint16)
        if isinstance(kind, CubeDepth)
        else rng.integers(0, 256, (*size, kind.input_channels), dtype=np.uint8)
        for kind in predictor.preprocessor.inputs.values()
    )


@pytest.mark.parametrize("name", list_tasks())
def test_predictions_in_a_batch_equal_those_one_by_one(name):
    predictor = load(name, "cpu", "off")
    # Two sizes in turn: only those of one size at the network can run together.
    inputs = [random_inputs(predictor, (40, 56) if seed % 3 else (56, 40), seed) for seed in range(5)]
    # A mirrored hand and mirrored cameras are refused.
    flip = name not in ("hand_pose", "view_synthesis")
    prepared = [predictor.load_inputs(*each, flip=flip) for each in inputs]
    outputs = predictor.forward(prepared, 4)
    for one, output in zip(prepared, outputs, strict=True):
        (alone,) = predictor.forward([one])
        assert output.shape == alone.shape
        # The softmax over block differences of video amplifies the rounding.
        bound = (1e-4 if name == "video" else 1e-5) * max(1.0, float(alone.abs().max()))
        assert float((output - alone).abs().max()) <= bound
    predictions = predictor.predict_batch(inputs[:3], batch_size=2)
    assert [type(each) for each in predictions] == [type(predictor.predict(*inputs[0]))] * 3


def test_only_samples_of_one_size_and_mode_run_together(predictor, monkeypatch):
    runs: list[tuple[int, ...]] = []
    model = predictor.model
    monkeypatch.setattr(model, "forward", lambda image: (runs.append(tuple(image.shape)), image[:, :1] + 1)[1])
    sizes = [(32, 48), (64, 48), (32, 48), (32, 48)]
    prepared = [predictor.load_inputs(image(*size), mode="native") for size in sizes]
    predictor.forward(prepared, 2)
    assert sorted(runs) == [(1, 3, 32, 48), (1, 3, 64, 48), (2, 3, 32, 48)]


def test_a_model_that_mixes_a_batch_runs_one_by_one(predictor, monkeypatch):
    runs: list[int] = []
    monkeypatch.setattr(type(predictor.model), "batchable", False)
    monkeypatch.setattr(predictor.model, "forward", lambda image: (runs.append(len(image)), image[:, :1] + 1)[1])
    predictor.forward([predictor.load_inputs(image(32, 32)) for _ in range(3)], 8)
    assert runs == [1, 1, 1]


def test_a_batch_that_does_not_fit_into_memory_runs_one_by_one(predictor, monkeypatch):
    def limited(image: Tensor) -> Tensor:
        if len(image) > 1:
            raise torch.OutOfMemoryError
        return image[:, :1] + 1

    monkeypatch.setattr(predictor.model, "forward", limited)
    prepared = [predictor.load_inputs(np.rot90(image(32, 32), turns).copy()) for turns in range(3)]
    for output, one in zip(predictor.forward(prepared, 3), prepared, strict=True):
        torch.testing.assert_close(output, predictor.forward([one])[0])


@pytest.mark.parametrize(
    "suffix", ["png", *(pytest.param(name, marks=pytest.mark.slow) for name in ("jpg", "tiff", "gif"))]
)
def test_a_file_is_opened_once(predictor, tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    PILImage.fromarray(image(40, 56)).save(path)
    script = f"""
import sys
from densevision.tasks.image_io import ImageFile, count_pixels
from densevision.tasks.preprocessing import Preprocessor
from densevision.datasets.field_types import Depth as DepthType, Image
from densevision.tasks.depth import Depth
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
file = ImageFile({str(path)!r})
assert count_pixels(file) == 40 * 56
inputs = Preprocessor(Depth(), {{"image": Image(), "depth": DepthType()}}, (64, 96)).load([file])
assert inputs.sample["image"].shape == (40, 56, 3)
assert [str(one) for one in opened].count({str(path)!r}) == 1, opened
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", [b"depth", None, 7, ["depth"], "x" * 5000])
def test_what_names_no_model_is_an_error(name):
    with pytest.raises(UserError):
        load(name)


def test_a_strip_is_not_enlarged_beyond_the_limit_of_megapixels(monkeypatch, predictor):
    monkeypatch.setattr(LIMITS, "max_megapixels", 1)
    with pytest.raises(UserError, match="at the network; use another input mode"):
        predictor.load_inputs(np.zeros((1, 900_000, 3), np.uint8))
