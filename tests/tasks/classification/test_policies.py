from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.datasets.core.geometry import MAX_FIT_FACTOR, Filter, transform_points
from densevision.datasets.field_types import Image
from densevision.errors import UserError
from densevision.tasks.classification import Classification
from densevision.tasks.classification.metrics import ClassScores
from densevision.tasks.classification.networks import Probabilities
from densevision.tasks.crops import DENSE_CROPS, TEST_CROPS, center_crop, with_short_side
from densevision.tasks.inference import Predictor
from densevision.tasks.network import Classifier

from .toys import Linear, fields

TRAINED = (224, 224)
WEIGHTS = Preprocessing()


def rendered(height: int, width: int, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(blurred, np.empty_like(blurred), 0, 255, cv2.NORM_MINMAX)[..., :channels]


def crops_of(view: str, source: np.ndarray, trained=TRAINED, weights=WEIGHTS) -> list[np.ndarray]:
    """What the network sees of an image under a view."""
    geometries = TEST_CROPS[view]((source.shape[0], source.shape[1]), trained, weights)
    return [Image(source.shape[2]).transform(source, geometry) for geometry in geometries]


def theirs(source: np.ndarray, resize: int, crop: int, mode: str) -> np.ndarray:
    """torchvision's Resize and CenterCrop of a PIL image, the protocol of its published scores."""
    whole: Any = Pillow.fromarray(source)
    return np.asarray(transforms.center_crop(transforms.resize(whole, [resize], InterpolationMode(mode)), [crop, crop]))


def window(geometry, pixels: tuple[int, int]) -> tuple[int, int]:
    """(y, x) in the image of an output pixel (y, x)."""
    x, y = transform_points(np.linalg.inv(geometry.matrix()), np.array(float(pixels[1])), np.array(float(pixels[0])))
    return round(float(y)), round(float(x))


# --- one crop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "offset"), [(254, 15), (255, 16), (256, 16), (257, 16), (258, 17), (259, 18)])
def test_the_central_crop_rounds_half_to_even(side, offset):
    # facts 2.3: int(round((H - h) / 2)), 15.5 -> 16, 16.5 -> 16, 17.5 -> 18 [c]
    weights = Preprocessing(resize=side, crop=224)
    (geometry,) = center_crop((side, side), TRAINED, weights)
    assert geometry.size == TRAINED
    assert window(geometry, (0, 0)) == (offset, offset)
    source = rendered(side, side)
    np.testing.assert_array_equal(
        crops_of("center-crop", source, weights=weights)[0], theirs(source, side, 224, "bilinear")
    )


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(375, 500), (500, 333), (256, 341), (97, 131), (257, 256), (640, 641), (225, 900)])
def test_the_central_crop_is_torchvisions_to_one_gray_level(size, mode):
    source = rendered(*size)
    (ours,) = crops_of("center-crop", source, weights=Preprocessing(interpolation=mode))
    gap = np.abs(ours.astype(int) - theirs(source, 256, 224, mode))
    # torch's weights have 16 bits, Pillow's 22: where both passes of the bicubic filter round away, it is two levels.
    assert gap.mean() < 0.3 and (gap > 1).mean() < (1e-4 if mode == "bicubic" else 1e-9) and gap.max() <= 2


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (341, 256), (1, 3), (259, 260), (1000, 7)])
def test_the_long_side_is_rounded_down_as_in_torchvision_and_strips_are_squeezed(size):
    height, width = with_short_side(size, 256)
    assert min(height, width) == 256
    if max(size) <= MAX_FIT_FACTOR * min(size):
        empty: Any = Pillow.new("L", size[::-1])
        assert (width, height) == transforms.resize(empty, [256]).size
    else:
        assert max(height, width) == MAX_FIT_FACTOR * 256


def test_a_strip_that_is_reduced_keeps_its_aspect():
    assert with_short_side((512, 10240), 256) == (256, 5120)


def test_the_short_side_is_in_the_weights_proportion_at_another_size_of_training():
    # 256 / 224 of 112 is 128, so that the margin is 8 on every side.
    (geometry,) = center_crop((128, 128), (112, 112), WEIGHTS)
    assert geometry.size == (112, 112) and window(geometry, (0, 0)) == (8, 8)


def test_weights_whose_crop_is_larger_than_the_image_see_its_mirror_image_beside_it():
    # LeNet-5's 28 x 28 digits in 32 x 32 (facts 1.1)
    digit = rendered(28, 28, 1)
    (seen,) = crops_of("center-crop", digit, (32, 32), Preprocessing(resize=28, crop=32))
    np.testing.assert_array_equal(seen, np.pad(digit, ((2, 2), (2, 2), (0, 0)), "reflect"))


# --- ten crops --------------------------------------------------------------------------------------------------


def test_ten_crops_are_at_the_places_of_krizhevsky():
    # facts 2.3: of 256 x 256 at (y, x) (0, 0), (0, 32), (32, 0), (32, 32), (16, 16), then the same mirrored
    geometries = TEST_CROPS["ten-crop"]((256, 256), TRAINED, WEIGHTS)
    places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert [window(geometry, (0, 0)) for geometry in geometries[:5]] == places
    assert [window(geometry, (0, 223)) for geometry in geometries[5:]] == places
    assert [np.linalg.det(geometry.matrix()) > 0 for geometry in geometries] == [True] * 5 + [False] * 5


def test_ten_crops_are_torchvisions_windows_as_a_set():
    source = rendered(256, 256)
    whole: Any = Pillow.fromarray(source)
    expected = {np.asarray(crop).tobytes() for crop in transforms.ten_crop(whole, [224, 224])}
    assert len(expected) == 10
    assert {crop.tobytes() for crop in crops_of("ten-crop", source)} == expected


def test_ten_crops_of_a_wide_image_are_of_its_central_square():
    geometries = TEST_CROPS["ten-crop"]((256, 400), TRAINED, WEIGHTS)
    columns = [window(geometry, (0, 0))[1] for geometry in geometries[:5]]
    assert columns == [72, 104, 72, 104, 88]


# --- dense ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "sides"), [("dense", [256]), ("dense-3-scales", [256, 384, 512])])
def test_dense_views_show_the_whole_image_and_its_mirror_image(view, sides):
    # Simonyan and Zisserman 2014, section 4.2: Q in {256, 384, 512}
    geometries = TEST_CROPS[view]((300, 400), TRAINED, WEIGHTS)
    assert [geometry.size for geometry in geometries] == [
        (side, side * 400 // 300) for side in sides for _ in range(2)
    ]  # fmt: skip
    source = rendered(300, 400)
    plain, mirrored = crops_of(view, source)[:2]
    np.testing.assert_array_equal(plain[:, ::-1], mirrored)


def test_dense_views_need_the_map_of_scores_and_others_for_one_prediction():
    task: Any = Classification()
    model = task.build(fields(), Linear(), None, None)
    assert {view for view in task.inference.modes if task.inference.network(model, view).dense} == set(DENSE_CROPS)


def test_dense_logits_are_averaged_over_the_places_before_the_softmax():
    # Simonyan and Zisserman 2014, section 3.2: the class score map is spatially averaged
    class Split(Linear):
        def forward_dense(self, image: Tensor) -> Tensor:
            return torch.tensor([[8.0, 0.0, 0.0], [0.0, 2.0, 0.0]]).T[None, :, None]

    probabilities = Probabilities(Classifier(Split()), dense=True)(torch.rand(1, 3, 4, 4))
    torch.testing.assert_close(probabilities, torch.tensor([[4.0, 1.0, 0.0]]).softmax(1))


def test_a_backbone_without_a_map_of_scores_refuses_dense_views_in_one_sentence():
    class Closed(Linear):
        def forward_dense(self, image: Tensor) -> Tensor:
            return super(Linear, self).forward_dense(image)

        def forward(self, image: Tensor) -> Tensor:
            return self.fc(image).mean((2, 3))

    predictor = Predictor(Classification(), Classifier(Closed()), fields(), (16, 16))
    with pytest.raises(UserError, match="linear has no dense class scores"):
        predictor.predict(rendered(20, 20), mode="dense")


@pytest.mark.slow
def test_dense_evaluation_of_vgg_is_its_fully_connected_network_at_224_and_shifts_with_the_image():
    # trap 7: fc6's order of inputs. vgg11 is the lightest; its classifier is that of all (facts 1.3).
    torch.manual_seed(0)
    backbone = create_backbone("vgg11", num_classes=3, init="he_fan_in").eval()
    model = Classifier(backbone).eval()
    with torch.inference_mode():
        image = torch.rand(1, 3, 224, 224)
        forward, mapped = model(image), model.forward_dense(image)
        assert mapped.shape == (1, 3, 1, 1) and forward.std() > 0.01
        torch.testing.assert_close(mapped[..., 0, 0], forward, rtol=1e-4, atol=1e-4)
        del image
        # pool5's unit sees 75 pixels to either side of its center (facts 1.5: r = 150): a constant border as wide as
        # three units hides the zeros of the padding from the units that are compared.
        large = torch.full((1, 3, 544, 544), 0.5)
        large[..., 192:352, 192:352] = torch.rand(1, 3, 160, 160)
        moved = large.roll((32, 32), (2, 3))
        one, other = model.forward_dense(large), model.forward_dense(moved)
        assert one.shape == (1, 3, 11, 11)  # 544 / 32 - 6
        inside = one[..., 3:7, 3:7]
        assert inside.std() > 0.001
        torch.testing.assert_close(other[..., 4:8, 4:8], inside, rtol=1e-4, atol=1e-4)


# --- every view -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", Classification().inference.modes)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5, 9), (31, 33), (16, 16), (61, 40)])
def test_an_image_of_any_size_is_classified_at_any_size_of_training(view, channels, size):
    kinds = fields(channels=channels)
    for trained in ((16, 16), (20, 17)):
        predictor = Predictor(Classification(), Classifier(Linear(in_channels=channels)), kinds, trained)
        prediction = predictor.predict_sample({"image": rendered(*size, channels=channels)}, view)
        assert isinstance(prediction, ClassScores) and prediction.probabilities.shape == (3,)
        assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("view", Classification().inference.modes)
def test_a_view_that_runs_backwards_over_memory_is_an_image_too(view):
    # cv2's BGR turned to RGB, or an image mirrored by its strides
    source = rendered(40, 30)
    turned = np.ascontiguousarray(source[:, ::-1, ::-1])[:, ::-1, ::-1]
    assert min(turned.strides) < 0
    for ours, expected in zip(crops_of(view, turned, (16, 16)), crops_of(view, source, (16, 16)), strict=True):
        np.testing.assert_array_equal(ours, expected)


class Corners(Linear):
    """Logits that say how bright the image is: different crops, different predictions."""

    def forward(self, image: Tensor) -> Tensor:
        level = image[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([9 * level, -9 * level, 0 * level], 1)


def test_views_are_averaged_after_the_softmax():
    # trap 27
    source = rendered(32, 32)
    predictor = Predictor(Classification(), Classifier(Corners()).eval(), fields(), (28, 28))
    crops = crops_of("ten-crop", source, (28, 28))
    batch = torch.from_numpy(np.stack(crops)).movedim(-1, 1).float() / 255
    with torch.inference_mode():
        logits = predictor.model(batch)
    prediction = predictor.predict_sample({"image": source}, "ten-crop")
    assert isinstance(prediction, ClassScores)
    np.testing.assert_allclose(prediction.probabilities, logits.softmax(1).mean(0).numpy(), atol=1e-6)
    assert np.abs(prediction.probabilities - logits.mean(0).softmax(0).numpy()).max() > 0.01


def test_flip_averages_the_probabilities_of_the_mirrored_image():
    source = rendered(32, 32)
    predictor = Predictor(Classification(), Classifier(Corners()).eval(), fields(), (28, 28))
    straight: Any = predictor.predict(source)
    mirrored: Any = predictor.predict(source[:, ::-1])
    both: Any = predictor.predict(source, flip=True)
    assert np.abs(straight.probabilities - mirrored.probabilities).max() > 0.01
    np.testing.assert_allclose(both.probabilities, (straight.probabilities + mirrored.probabilities) / 2, atol=1e-6)


def test_a_view_that_does_not_exist_names_the_nearest():
    predictor = Predictor(Classification(), Classifier(Linear()), fields(), (16, 16))
    with pytest.raises(UserError, match=r"no input mode of the task classification named 'ten-crops'.*'ten-crop'"):
        predictor.predict(rendered(9, 9), mode="ten-crops")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_the_filter_is_that_of_the_weights(interpolation):
    expected: Filter = "bicubic" if interpolation == "bicubic" else "bilinear"
    weights = Preprocessing(interpolation=interpolation)
    assert {view((50, 60), (16, 16), weights)[0].filter for view in TEST_CROPS.values()} == {expected}


def test_a_dense_view_of_a_network_with_a_border_is_no_smaller_than_its_classifier():
    # LeNet's weights: digits of 28 pixels in windows of 32. Simard's and LeCun's border is part of what it takes.
    weights = Preprocessing(resize=28, crop=32)
    for name in ("dense", "dense-3-scales"):
        for geometry in TEST_CROPS[name]((40, 60), (32, 32), weights):
            assert min(geometry.size) >= 32
