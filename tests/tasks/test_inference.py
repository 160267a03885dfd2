from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor

from densevision.datasets.core.geometry import fitting_size
from densevision.datasets.field_types import SegmentationMask
from densevision.datasets.hand.hand_fields import CubeDepth
from densevision.datasets.synthetic import RoomViews
from densevision.errors import UserError
from densevision.limits import LIMITS
from densevision.tasks import list_tasks
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.inference import Predictor, load
from densevision.tasks.prediction import PredictionContext
from densevision.tasks.tiling import eval_mode

from .depth_network import FIELDS, depth_network


def predict_meters(predictor: Predictor, *inputs: Any, **options: Any) -> np.ndarray:
    prediction = predictor.predict(*inputs, **options)
    assert isinstance(prediction, DepthMap)
    return prediction.meters


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Depth(), depth_network(), FIELDS, (32, 48))


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

    predictor = Predictor(Recording(), depth_network(), FIELDS, (32, 48))
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


@pytest.mark.parametrize("box", ["1,2,3,4", (1, 2, 3), 5])
def test_a_box_is_four_numbers(predictor, box):
    with pytest.raises(UserError, match="give four numbers: x, y, width and height in pixels"):
        predictor.predict(image(37, 53), box=box)


def test_fit_resizes_to_the_training_size_and_native_does_not():
    model = depth_network()
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


def test_flip_averages_with_the_prediction_for_the_flipped_image(predictor):
    array = image(32, 48)
    plain = predict_meters(predictor, array)
    flipped = predict_meters(predictor, np.ascontiguousarray(array[:, ::-1]))[:, ::-1]
    assert np.abs(plain - flipped).max() > 1e-3
    np.testing.assert_allclose(predict_meters(predictor, array, flip=True), (plain + flipped) / 2, rtol=1e-5)


def test_a_model_in_training_mode_is_evaluated_and_restored():
    model = depth_network()
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
    model = depth_network().train()
    with pytest.raises(ZeroDivisionError), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())


def test_inference_has_no_gradient_and_no_graph(predictor):
    output = predictor.run_network([{"image": image(16, 16)}])
    assert not output.requires_grad and output.grad_fn is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in predictor.model.parameters())


def test_bf16_inference_returns_nearly_equal_fp32_predictions():
    model = depth_network()
    dtypes = []
    model.head.predict.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    full, half = (
        predict_meters(Predictor(Depth(), model, FIELDS, (32, 48), amp=amp), image(32, 48)) for amp in ("off", "bf16")
    )
    assert dtypes == [torch.float32, torch.bfloat16]
    np.testing.assert_allclose(half, full, rtol=0.05)
    assert half.dtype == np.float32


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
