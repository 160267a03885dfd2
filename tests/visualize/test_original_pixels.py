"""Positions of targets in pixels of the original image, and the cross that marks them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from densevision.errors import UserError
from densevision.visualize.core.images import draw_crosses
from densevision.visualize.core.objectives import Region, evaluate_objective
from densevision.visualize.core.targets import AttributionInputs, parse_target
from densevision.visualize.correspondence.patches import rank_images
from densevision.visualize.features.deep_dream import load_at_size

from .toys import SIDE, untrained

LARGE, SMALL = (4 * SIDE, 6 * SIDE), (SIDE // 2, SIDE // 3)


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def located(text: str, size: tuple[int, int], task: str = "restoration"):
    """Model, inputs and objective of a target on a photo."""
    model = untrained(task)
    model_input = model.preprocess(*[photo(size, seed) for seed in range(len(model.task.inputs(model.fields)))])
    return AttributionInputs(model, model_input, parse_target(text, model, model_input))


@pytest.mark.parametrize(
    ("size", "position"),
    [
        (LARGE, (200, 30)),
        (LARGE, (0, 0)),
        (LARGE, (LARGE[1] - 1, LARGE[0] - 1)),
        (LARGE, (40, 20, 100, 64)),
        (LARGE, (0, 0, LARGE[1], LARGE[0])),
        (SMALL, (3, 20)),
        (SMALL, (2, 1, 5, 9)),
    ],
)
@pytest.mark.parametrize("task", ["restoration", "depth"])
def test_a_region_of_the_photo_is_that_of_the_resized_prediction(task, size, position):
    channel, index = ("red", 0) if task == "restoration" else ("depth", 0)
    inputs = located(f"{channel}@{','.join(map(str, position))}", size, task)
    value, result = evaluate_objective(inputs.model, inputs.pixels, inputs.objective)
    output = result.output[0, index].detach().numpy()
    x, y, width, height = position if len(position) == 4 else (*position, 1, 1)
    rows, columns = output.shape
    # Pixels whose centers, in the photo, are in the box; else the one nearest to its center.
    centers_y, centers_x = (
        (np.arange(n) + 0.5) * length / n - 0.5 for n, length in zip((rows, columns), size, strict=True)
    )
    inside_y = (centers_y >= y - 0.5) & (centers_y <= y + height - 0.5)
    inside_x = (centers_x >= x - 0.5) & (centers_x <= x + width - 0.5)
    if not inside_y.any():
        inside_y = np.arange(rows) == np.abs(centers_y - (y + (height - 1) / 2)).argmin()
    if not inside_x.any():
        inside_x = np.arange(columns) == np.abs(centers_x - (x + (width - 1) / 2)).argmin()
    assert float(value.detach()) == pytest.approx(output[inside_y][:, inside_x].mean(), abs=1e-4)


@pytest.mark.parametrize("position", ["288,0", "0,192", "-1,3", "280,0,9,3", "0,0,289,192"])
def test_a_position_outside_of_the_photo_is_an_error_with_its_size(position):
    with pytest.raises(
        UserError, match=f"red@{position} is outside of the image, which is {LARGE[1]} wide and {LARGE[0]} high"
    ):
        located(f"blue@1,1 + 2 * red@{position}", LARGE)


def test_equal_targets_of_images_are_equal_and_print_their_position():
    inputs = located("red@200,30 - blue@7,8,9,10", LARGE)
    assert str(inputs.objective) == "red@200,30 - blue@7,8,9,10"
    assert located("red@200,30", LARGE).objective == Region("red", 0, 200, 30)


@pytest.mark.parametrize("head", ["deconvolution", "regression"])
def test_a_keypoint_is_in_pixels_of_the_photo_and_of_its_crop(head, monkeypatch):
    model = untrained("pose", head)
    for box in (None, (100, 60, 90, 90)):
        monkeypatch.setattr(type(model.task.inference), "find_box", lambda *_, box=box: (box, ""))
        model_input = model.preprocess(photo(LARGE))
        result = model.forward(model_input.pixels)
        plain = [float(parse_target(f"left wrist {axis}", model)(result).detach()) for axis in "xy"]
        original = [float(parse_target(f"left wrist {axis}", model, model_input)(result).detach()) for axis in "xy"]
        assert model_input.to_input_pixel(*original) == pytest.approx(plain, abs=1e-2)
        ((x, y),) = parse_target("left wrist y", model, model_input).positions(result)
        assert (x, y) == pytest.approx(plain, abs=1e-3)


def test_the_cross_is_at_the_pixel_of_the_enlarged_image():
    inputs = located("red@200,30", LARGE)
    height, width = inputs.pixels[0].shape[2:]
    canvas = np.full((height, width, 3), 90, np.uint8)
    marked = inputs.draw([canvas])
    rows, columns = (np.unique(axis) for axis in np.nonzero((marked == 255).all(axis=2)))
    factor = marked.shape[0] / height
    # 30 of 192 rows and 200 of 288 columns.
    expected = 30.5 / 192 * height * factor - 0.5, 200.5 / 288 * width * factor - 0.5
    assert (rows.mean(), columns.mean()) == pytest.approx(expected, abs=1)
    assert len(rows) > 5 and (canvas == 90).all()


@pytest.mark.parametrize("position", [(0, 0), (-50.0, 3), (63, 63)])
def test_a_cross_at_or_beyond_the_edge_is_drawn_as_far_as_it_is_inside(position):
    drawn = draw_crosses(np.full((64, 64, 3), 90, np.uint8), [position])
    assert drawn.shape == (256, 256, 3) and ((drawn != 90).any() or position[0] < 0)


def test_targets_without_a_position_have_no_cross():
    inputs = located("class:0", LARGE, "classification")
    canvas = np.full((256, 256, 3), 90, np.uint8)
    np.testing.assert_array_equal(inputs.draw([canvas]), canvas)


def test_the_command_marks_the_pixel_on_the_first_of_two_images(run, image, tmp_path):
    for seed, name in enumerate(("first.png", "second.png")):
        image(tmp_path / name, 128, 256, seed)
    words = ("saliency", "--model", "flow", "--image", "first.png", "second.png", "--out", "f.png", "--target")
    assert run("visualize", *words, "flow-u@200,100").code == 0
    with Image.open(tmp_path / "f.png") as written:
        pixels = np.asarray(written)
    half = pixels.shape[1] // 2
    row, column = round(100.5 / 128 * pixels.shape[0] - 0.5), round(200.5 / 256 * half - 0.5)
    assert (pixels[row - 1 : row + 2, column - 1 : column + 2] == 255).all(axis=2).sum() >= 3
    message = run("visualize", *words, "flow-u@256,100").error
    assert message == "flow-u@256,100 is outside of the image, which is 256 wide and 128 high."


def test_positions_follow_the_octaves_of_deepdream(tmp_path, image):
    model = untrained("restoration")
    path = image(tmp_path / "a.png", 96, 144)
    model_input = load_at_size(model, path, 72)
    objective = parse_target("red@0,48,144,48", model, model_input)
    for side in ((48, 72), (24, 36)):
        pixels = (torch.nn.functional.interpolate(model_input.pixels[0], side),)
        value, result = evaluate_objective(model, pixels, objective)
        assert float(value.detach()) == pytest.approx(
            float(result.output[0, 0, side[0] // 2 :].mean().detach()), rel=1e-5
        )


def test_pixels_of_a_folder_are_those_of_each_photo(tmp_path, image):
    model = untrained("restoration")
    paths = [image(tmp_path / "a.png", 96, 144), image(tmp_path / "b.png", 400, 300)]
    results = {each.path: each.value for each in rank_images(model, paths, parse_target("red@100,90", model))}
    for path in paths:
        model_input = model.preprocess(path)
        value, _ = evaluate_objective(model, model_input.pixels, parse_target("red@100,90", model, model_input))
        assert results[path] == pytest.approx(float(value.detach()), abs=1e-5)
