"""Pairs in which everything moves: the motion is exact, what is hidden is known, and nothing tells the second frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.formats.image import write_image
from densevision.datasets.rendering.chairs import draw_chairs, draw_scene
from densevision.datasets.rendering.materials import Dice
from densevision.datasets.synthetic import MAX_PHOTO_SIZE, SyntheticChairs
from densevision.errors import UserError

SIZE = (96, 128)


def rng(*words: int) -> np.random.Generator:
    return np.random.default_rng((23, *words))


@pytest.fixture(scope="module")
def pairs():
    return [draw_chairs(rng(index), *SIZE) for index in range(24)]


def brought_back(pair) -> np.ndarray:
    """The second frame at x + flow(x)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    flow = pair["flow"]
    return cv2.remap(pair["second"], x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR).astype(np.float32)


def test_conforms_to_the_dataset_contract():
    check_dataset(SyntheticChairs)


def test_second_frame_warped_by_the_flow_equals_the_first_where_visible(pairs):
    before, after = [], []
    for pair in pairs:
        first, seen = pair["first"].astype(np.float32), pair["visible"]
        before.append(np.abs(first - pair["second"])[seen].mean())
        after.append(np.abs(first - brought_back(pair))[seen].mean())
    assert np.mean(after) < 0.3 * np.mean(before)
    assert np.mean(after) < 6  # gray levels: what two interpolations of fine patterns differ by


def test_occluded_pixels_differ_far_more_than_visible_ones(pairs):
    hidden = np.concatenate([np.abs(p["first"] - brought_back(p))[~p["visible"]].ravel() for p in pairs])
    seen = np.concatenate([np.abs(p["first"] - brought_back(p))[p["visible"]].ravel() for p in pairs])
    assert hidden.size > 1000 and hidden.mean() > 4 * seen.mean()


def test_flow_of_every_layer_is_its_affine_map():
    things = draw_scene(Dice(rng(3)), SIZE[1], SIZE[0] / SIZE[1])
    flow = draw_chairs(rng(3), *SIZE)["flow"]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    points = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float64)
    moved = np.stack([points @ thing.motion[:2].T - points[..., :2] for thing in things])
    assert np.abs(moved - flow).max(-1).min(0).max() < 1e-4


def test_some_scenes_are_static_and_some_objects_move_far():
    flows = [np.linalg.norm(draw_chairs(rng(9, index), 48, 64)["flow"], axis=-1) for index in range(150)]
    still = np.mean([(np.median(flow) == 0) for flow in flows])
    # STATIC is 0.12; the median pixel belongs to the background in most scenes.
    assert 0.02 < still < 0.3
    assert np.mean([flow.max() > 0.2 * 64 for flow in flows]) > 0.1
    assert np.mean([flow.mean() < 0.02 * 64 for flow in flows]) > 0.2


def test_same_seed_gives_the_same_scene_at_any_size():
    small, large = draw_chairs(rng(5), 48, 64), draw_chairs(rng(5), 96, 128)
    # A pixel of the small image lies in the middle of four of the large one, where the flow is their mean.
    halved = large["flow"].reshape(48, 2, 64, 2, 2).mean((1, 3)) / 2
    agree = np.abs(halved - small["flow"]).max(-1) < 0.05
    assert agree.mean() > 0.9


def test_two_scenes_and_their_two_frames_differ(pairs):
    assert np.abs(pairs[0]["first"].astype(int) - pairs[1]["first"]).mean() > 10
    again = draw_chairs(rng(0), *SIZE)
    for name, value in pairs[0].items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize("size", [(33, 97), (7, 120), (64, 64), (1, 1)])
def test_any_size_is_generated(size):
    pair = draw_chairs(rng(1), *size)
    assert pair["first"].shape == (*size, 3) == pair["second"].shape
    assert pair["flow"].shape == (*size, 2) and pair["flow"].dtype == np.float32 and np.isfinite(pair["flow"]).all()
    assert pair["visible"].shape == size and pair["visible"].dtype == np.bool_


def test_photos_of_a_folder_are_the_textures_and_follow_the_splits(tmp_path):
    for split, value in (("train", 200), ("test", 40)):
        for number in range(2):
            write_image(tmp_path / split / f"{number}.png", np.full((30, 40, 3), value, np.uint8))
    (tmp_path / "terms.txt").write_text("research-only")
    for split, value in (("train", 200), ("test", 40)):
        dataset = open_dataset("synthetic-chairs", tmp_path, split).with_size((48, 64))
        pair = dataset.read(0)
        assert np.ptp(pair["first"]) == 0 and int(pair["first"][0, 0, 0]) == value
        assert np.ptp(pair["flow"]) > 0
        assert "research-only" in dataset.terms
    assert "research-only" not in open_dataset("synthetic-chairs").terms


def test_large_photos_are_reduced_first(tmp_path):
    for number in range(2):
        write_image(tmp_path / "train" / f"{number}.png", np.zeros((40, 3 * MAX_PHOTO_SIZE, 3), np.uint8))
    assert open_dataset("synthetic-chairs", tmp_path).with_size((48, 64)).read(0)["first"].shape == (48, 64, 3)


def test_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(UserError, match="images for 'train'"):
        open_dataset("synthetic-chairs", tmp_path)
