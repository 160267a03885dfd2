"""Nearest patches, top activations, receptive field crops, and image folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.backbones.backbone import Level, Preprocessing
from densevision.backbones.layers import PooledBackbone
from densevision.datasets.formats.image import read_image, write_image
from densevision.errors import UserError
from densevision.visualize.core.images import list_images, preprocess_at_scale, scaled_size
from densevision.visualize.core.model import InspectedModel, inspect_backbone
from densevision.visualize.core.objectives import Channel, Neuron, gradients
from densevision.visualize.core.targets import parse_target
from densevision.visualize.correspondence.patches import find_correspondences, rank_images, similarity
from densevision.visualize.correspondence.receptive_field import Window, unit_fields

from ..toys import toy

SIDE = 40
FIELD = 12
"""Receptive field of the toy's level b: 3, a pool of 2, 3 and 3 again: 3 + 1 + 2 * 2 + 2 * 2, every 2 pixels."""


class Bright(PooledBackbone):
    """One channel: the sum over 3 x 3 pixels and their channels."""

    def __init__(self) -> None:
        super().__init__()
        self._set_metadata("bright", [Level("sum", 1, 1)], num_classes=0, in_channels=3, built=None)
        self.preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, resize=16, crop=16)
        self.conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        nn.init.ones_(self.conv.weight)

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.conv(image)]


def noise(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four images of noise; the third contains, at x = 17 and y = 23, the query's patch from x = 11 and y = 21."""
    query = noise(0)
    write_image(tmp_path / "query.png", query)
    for seed in range(1, 5):
        image = noise(seed)
        if seed == 3:
            image[23 : 23 + FIELD, 17 : 17 + FIELD] = query[21 : 21 + FIELD, 11 : 11 + FIELD]
        write_image(tmp_path / "others" / f"{seed}.png", image)
    return tmp_path


def search(folder: Path, model: InspectedModel | None = None, **options) -> list:
    # The center of the field whose first pixel is at 11, 21; fields of b start at every second pixel, from -5 on.
    options = {"points": [(16.5, 26.5)], "short_side": SIDE, "count": 2, **options}
    return find_correspondences(model or toy(), folder / "query.png", list_images(folder / "others"), "b", **options)


def level_b(model: InspectedModel, path: Path) -> Tensor:
    return model.forward(preprocess_at_scale(model, path, SIDE), ("b",), run_output=False).levels["b"][0]


def test_a_copied_patch_is_found(folder):
    (result,) = search(folder)
    assert result.query.window == Window(11, 21, 11 + FIELD, 21 + FIELD)
    best = result.neighbors[0]
    assert (best.path, best.window) == (folder / "others" / "3.png", Window(17, 23, 17 + FIELD, 23 + FIELD))
    assert best.similarity == pytest.approx(1, abs=1e-5) and result.neighbors[1].similarity < 0.9999
    assert np.array_equal(best.pixels, result.query.pixels)
    assert np.array_equal(result.query.pixels, noise(0)[21 : 21 + FIELD, 11 : 11 + FIELD])


def test_one_neighbor_per_image_in_order_of_similarity(folder):
    (result,) = search(folder, count=9)
    assert len({each.path for each in result.neighbors}) == len(result.neighbors) == 4
    similarities = [each.similarity for each in result.neighbors]
    assert similarities == sorted(similarities, reverse=True)


def test_copies_of_the_query_are_ignored(folder):
    write_image(folder / "others" / "copy.png", read_image(folder / "query.png"))
    (result,) = search(folder, count=9)
    assert folder / "others" / "copy.png" not in [each.path for each in result.neighbors]


def test_the_average_is_the_mean_of_the_neighbors(folder):
    (result,) = search(folder)
    first, second = (each.pixels.astype(float) for each in result.neighbors)
    assert np.abs(result.average - (first + second) / 2).max() <= 0.5


def test_neighbors_of_a_neuron_have_similar_activations(folder):
    model = toy()
    maps = level_b(model, folder / "query.png")
    channel = int(maps[:, 13, 8].argmax())
    (result,) = search(folder, model, points=(), units=[(channel, 8, 13)])
    assert result.query.unit == (8, 13) and result.query.similarity == 0
    for each in result.neighbors:
        activations = level_b(model, each.path)[channel]
        x, y = each.unit
        assert each.similarity == pytest.approx(-abs(float(activations[y, x] - maps[channel, 13, 8])), abs=1e-6)


def test_results_are_deterministic(folder):
    first, again = search(folder), search(folder)
    assert [each.unit for each in first[0].neighbors] == [each.unit for each in again[0].neighbors]


def test_similarity_is_the_cosine():
    candidates, descriptor = torch.tensor([[[1.0, 2.0, 0.0]], [[0.0, 2.0, -1.0]]]), torch.tensor([3.0, 0.0])
    assert similarity(candidates, descriptor, None)[0].tolist() == pytest.approx([1, 0.5**0.5, 0])


def test_inactive_units_have_no_similarity():
    candidates, descriptor = torch.tensor([[[1.0, 0.0, 4.0]]]), torch.tensor([1.5])
    assert similarity(candidates, descriptor, 0)[0].tolist() == [-0.5, -torch.inf, -2.5]


@pytest.mark.parametrize("level", ["a", "b", "conv2"])
def test_a_window_contains_the_pixels_with_gradients(level):
    model = toy()
    pixels = (torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),)
    # Over several channels, because one may be dead.
    total = sum((gradients(model, pixels, Neuron(level, k, 9, 7))[0].abs()[0].sum(0) for k in range(6)), torch.zeros(1))
    rows, columns = (total.sum(axis).nonzero().flatten() for axis in (1, 0))
    window = unit_fields(model, level).window(9, 7)
    # The gradient of a max pool reaches one pixel only, so that the outermost pixels may have none on a single image.
    bounds = Window(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    assert window.left <= bounds.left <= window.left + 1 and window.top <= bounds.top <= window.top + 1
    assert window.right - 1 <= bounds.right <= window.right and window.bottom - 1 <= bounds.bottom <= window.bottom


@pytest.mark.parametrize("level", ["a", "b"])
@pytest.mark.parametrize("size", [(12, 13), (15, 30), (11, 40)])
def test_units_inside_have_windows_inside_the_image(level, size):
    fields = unit_fields(toy(), level)
    count = (size[0], size[1]) if level == "a" else (size[0] // 2, size[1] // 2)
    rows, columns = fields.units_inside(count, size)
    assert list(rows) == [
        y for y in range(count[0]) if fields.window(0, y).top >= 0 and fields.window(0, y).bottom <= size[0]
    ]
    assert list(columns) == [
        x for x in range(count[1]) if fields.window(x, 0).left >= 0 and fields.window(x, 0).right <= size[1]
    ]


def test_nearest_unit_among_those_inside_the_image(folder):
    fields = unit_fields(toy(), "b")
    candidates = fields.units_inside((20, 20), (SIDE, SIDE))
    for x, y in ((20.0, 11.0), (0.0, 39.0)):
        unit = fields.nearest_unit(x, y, candidates)
        distances = {
            (column, row): abs(fields.columns.center + 2 * column - x) + abs(fields.rows.center + 2 * row - y)
            for row in candidates[0]
            for column in candidates[1]
        }
        assert distances[unit] == min(distances.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": [(40.0, 3.0)]}, "40,3 is outside of the image of 40 x 40 pixels"),
        ({"short_side": 11}, "12 x 12 pixels, is larger than the image of 11 x 11"),
        ({"points": (), "units": [(0, 0, 9)]}, "extends beyond the image; x must be 3 to 16"),
        ({"points": (), "units": [(8, 9, 9)]}, "b has the channels 0 to 7, not 8"),
        ({"count": 0}, "--count 0"),
    ],
)
def test_invalid_arguments_are_refused(folder, options, message):
    with pytest.raises(UserError, match=message):
        search(folder, **options)


def test_an_inactive_neuron_is_refused_with_an_active_one(folder):
    model = toy()
    maps = level_b(model, folder / "query.png")
    channel, y, x = (int(each) for each in (maps[:, 3:17, 3:17] == 0).nonzero()[0])
    with pytest.raises(UserError, match=rf"b:{channel}@{x + 3},{y + 3} is not active on this image") as error:
        search(folder, model, points=(), units=[(channel, x + 3, y + 3)])
    suggestion = str(error.value).split("; ")[1].split(" is the most active one")[0]
    if "@" in suggestion:
        objective = parse_target(suggestion, model)
        assert isinstance(objective, Neuron) and float(maps[objective.index, objective.y, objective.x]) > 0


def test_an_unknown_level_is_refused_with_suggestions():
    with pytest.raises(UserError, match="no level of toy named 'conv9'; nearest: conv"):
        unit_fields(toy(), "conv9")


def test_list_images_sorts_and_subsets_evenly(tmp_path):
    for name in ("b/2.png", "a/1.png", "a/3.jpg", "c.PNG"):
        write_image(tmp_path / name.replace("PNG", "png"), noise(0, 4, 4))
    (tmp_path / "notes.txt").write_text("no image")
    names = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert names == ["a/1.png", "a/3.jpg", "b/2.png", "c.png"]
    assert [path.name for path in list_images(tmp_path, 2)] == ["1.png", "2.png"]


def test_a_folder_without_images_is_refused(tmp_path):
    for folder, message in ((tmp_path, "contains no images"), (tmp_path / "none", "There is no folder")):
        with pytest.raises(UserError, match=message):
            list_images(folder)


def test_preprocess_at_scale_does_not_crop():
    (pixels,) = preprocess_at_scale(toy(), noise(0, 30, 45), 20)
    assert pixels.shape == (1, 3, 20, 30) and float(pixels.min()) >= 0 and float(pixels.max()) <= 1
    assert torch.equal(
        preprocess_at_scale(toy(), noise(0), SIDE)[0][0] * 255, torch.from_numpy(noise(0).transpose(2, 0, 1)).float()
    )


def test_scaled_size_keeps_the_aspect_ratio():
    assert scaled_size((30, 45), short_side=20) == (20, 30) and scaled_size((30, 45), long_side=30) == (20, 30)
    # The aspect ratio is limited to 8.
    assert scaled_size((1, 900), short_side=4) == (4, 32) and scaled_size((1, 900), long_side=450) == (1, 450)


@pytest.fixture
def spots(tmp_path) -> list[Path]:
    """Dark images with one spot each, in order of brightness; at x = 2, 5, 8 and y = 7."""
    for number, x in enumerate((2, 5, 8)):
        dark = np.zeros((16, 16, 3), np.uint8)
        dark[7, x] = 60 * (number + 1)
        write_image(tmp_path / f"{number}.png", dark)
    return list_images(tmp_path)


def test_top_activations_of_a_channel(spots):
    result = rank_images(inspect_backbone(Bright()), spots, Channel("sum", 0), 2)
    assert [each.path for each in result] == [spots[2], spots[1]]
    # The most active unit of the channel, not its mean: three channels of 180 / 255.
    assert result[0].value == pytest.approx(3 * 180 / 255)
    assert result[0].patch.shape == (3, 3, 3) and result[0].patch.max() == 180


def test_top_activations_of_a_neuron_have_a_fixed_position(spots):
    result = rank_images(inspect_backbone(Bright()), spots, Neuron("sum", 0, 5, 7))
    # Only the spot of the second image is in the receptive field.
    assert [(each.path, each.window) for each in result] == [(spots[1], Window(4, 6, 7, 9))]


def test_images_without_activation_are_refused(spots):
    backbone = Bright()
    nn.init.constant_(backbone.conv.weight, -1.0)
    for objective in (Channel("sum", 0), Neuron("sum", 0, 0, 0)):
        with pytest.raises(UserError, match=f"None of the 3 images activates {objective}"):
            rank_images(inspect_backbone(backbone), spots, objective)


def test_top_activations_of_a_class_are_entire_images(folder):
    model = toy()
    model = replace(model, size=(SIDE, SIDE))
    images = list_images(folder / "others")
    result = rank_images(model, images, parse_target("class:2", model), 3)
    assert [each.value for each in result] == sorted((each.value for each in result), reverse=True) and len(result) == 3
    assert result[0].patch.shape == (SIDE, SIDE, 3)


def test_nearest_patches_command(run, folder):
    words = ("--model", "resnet20_cifar", "--image", "query.png", "--folder", "others", "--short-side", "40")
    options = ("--level", "stage1", "--at", "10,10", "20,20", "--count", "3", "--out", "c.png")
    result = run("visualize", "nearest-patches", *words, *options)
    assert result.out.splitlines()[-1] == "Wrote c.png and c.npy.", result
    # Two rows of a query, three neighbors and their average; the receptive field of stage1 is 3 + 6 * 2 pixels.
    assert np.load(folder / "c.npy").shape == (2, 5, 15, 15, 3)


def test_nearest_patches_command_needs_points_or_a_neuron(run, folder):
    words = ("--model", "resnet20_cifar", "--image", "query.png", "--folder", "others", "--out", "c.png")
    assert run("visualize", "nearest-patches", *words, "--level", "stage1").error.startswith(
        "Give either --level LEVEL"
    )
    result = run("visualize", "nearest-patches", *words, "--level", "stage1", "--at", "here").error
    assert result == "'here' is not a point; write two numbers with a comma: 120,80."
    result = run("visualize", "nearest-patches", *words, "--target", "stage1:3")
    assert result.code == 2 and result.err.endswith("'stage1:3' is not a single unit; write LEVEL:CHANNEL@X,Y.\n")


def test_top_activations_command(run, folder):
    words = (
        "--model",
        "resnet20_cifar",
        "--folder",
        "others",
        "--target",
        "stage1:3",
        "--count",
        "2",
        "--out",
        "m.png",
    )
    result = run("visualize", "top-activations", *words)
    assert result.out.splitlines()[-1] == "Wrote m.png and m.npy.", result
    values = np.load(folder / "m.npy")
    assert values.shape == (2,) and values[0] >= values[1] > 0


def test_list_images_follows_links_and_leaves_hidden_files_out(tmp_path):
    for name in ("store/1.PNG", "in/2.jfif", "in/._2.jfif", "in/.cache/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "linked" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere.png")
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path / "in")]
    assert names == ["in/2.jfif", "in/linked/1.PNG"]
