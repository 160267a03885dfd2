"""Field types: checks, batches with masks, visualization, JSON round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from densevision.datasets.core.geometry import Geometry, hflip, plain_resize, translation
from densevision.datasets.field_types import (
    Box,
    Camera,
    Depth,
    Flow,
    Image,
    Keypoints,
    Mask,
    Scalar,
    SegmentationMask,
    Skeleton,
    collate,
    fields_from_json,
    fields_to_json,
    transform_sample,
)

BODY = Skeleton(("head", "left", "right"), ((0, 1), (0, 2)), ((1, 2),))
RNG = np.random.default_rng(0)
DEPTH = RNG.uniform(1, 5, (6, 8)).astype(np.float32)
SOUND = {
    "image": (Image(), RNG.integers(0, 256, (6, 8, 3), np.uint8)),
    "gray": (Image(1), RNG.integers(0, 65536, (6, 8, 1), np.uint16)),
    "light": (Image(), RNG.uniform(0, 1, (6, 8, 3)).astype(np.float32)),
    "depth": (Depth(), np.where(DEPTH > 4, np.nan, DEPTH).astype(np.float32)),
    "flow": (Flow(), RNG.normal(0, 2, (6, 8, 2)).astype(np.float32)),
    "labels": (SegmentationMask(("sky", "tree")), RNG.choice([0, 1, 255], (6, 8)).astype(np.uint8)),
    "mask": (Mask(), RNG.uniform(size=(6, 8)) > 0.5),
    "joints": (Keypoints(BODY), np.array([[1, 2, 2], [3, 4, 1], [0, 0, 0]], np.float32)),
    "box": (Box(), np.array([1, 1, 5, 4], np.float32)),
    "camera": (Camera(), np.array([[9.0, 0, 4], [0, 9, 3], [0, 0, 1]])),
    "score": (Scalar(), np.float32(0.5)),
}
FIELDS = {name: field_type for name, (field_type, _) in SOUND.items()}


@pytest.mark.parametrize("name", SOUND)
def test_valid_value_passes(name):
    field_type, value = SOUND[name]
    assert field_type.check(np.asarray(value)) is None


@pytest.mark.parametrize(
    "field_type, value, found",
    [
        (Image(), np.zeros((4, 5), np.uint8), "4x5 uint8"),
        (Image(), np.zeros((4, 5, 4), np.uint8), "4x5x4 uint8"),
        (Image(), np.zeros((4, 5, 3), np.int32), "int32"),
        (Image(), np.full((4, 5, 3), 255, np.float32), "255"),
        (Image(), np.full((4, 5, 3), np.nan, np.float32), "nan"),
        (Depth(), DEPTH.astype(np.float64), "float64"),
        (Depth(), np.full((4, 5), np.nan, np.float32), "none"),
        (Depth(), np.where(DEPTH > 4, 0, DEPTH).astype(np.float32), "0 m"),
        (Depth(), np.where(DEPTH > 4, np.inf, DEPTH).astype(np.float32), "inf"),
        (Flow(), np.zeros((4, 5, 3), np.float32), "4x5x3"),
        (Flow(), np.full((4, 5, 2), np.inf, np.float32), "inf"),
        (SegmentationMask(("a", "b")), np.full((4, 5), 7, np.uint8), "label 7"),
        (SegmentationMask(("a", "b")), np.zeros((4, 5), np.float32), "float32"),
        (Mask(), np.zeros((4, 5), np.uint8), "uint8"),
        (Keypoints(BODY), np.zeros((4, 3), np.float32), "4x3"),
        (Keypoints(BODY), np.full((3, 3), 3, np.float32), "flag 3"),
        (Keypoints(BODY), np.array([[np.nan, 0, 2]] * 3, np.float32), "nan"),
        (Box(), np.array([5, 1, 1, 4], np.float32), "5"),
        (Camera(), np.diag([-1.0, 1, 1]), "-1"),
        (Camera(), np.zeros((3, 4)), "3x4"),
        (Scalar(), np.float32("nan"), "nan"),
    ],
)
def test_invalid_value_is_described_by_expected_and_found(field_type, value, found):
    wrong = field_type.check(np.asarray(value))
    assert wrong is not None
    assert wrong[0] and found in wrong[1]


def test_unknown_values_are_batched_as_zero_and_a_mask():
    # 0 * nan is nan (design.md 3.2).
    depth = SOUND["depth"][1]
    batch = collate([{"depth": depth}] * 2, {"depth": Depth()})
    assert batch["depth"].shape == (2, 6, 8) and batch["depth"].dtype == torch.float32
    assert batch["depth_mask"].dtype == torch.bool
    np.testing.assert_array_equal(batch["depth_mask"][0], np.isfinite(depth))
    np.testing.assert_array_equal(batch["depth"][0], np.nan_to_num(depth))


def test_flow_vector_is_known_only_if_both_components_are():
    flow = np.ones((2, 3, 2), np.float32)
    flow[0, 0, 0], flow[1, 2] = np.nan, np.nan
    batch = collate([{"flow": flow}], {"flow": Flow()})
    assert batch["flow"].shape == (1, 2, 2, 3) and batch["flow_mask"].shape == (1, 2, 3)
    assert int(batch["flow_mask"].sum()) == 4
    np.testing.assert_array_equal(batch["flow"][0, :, 0, 0], [0, 0])


def test_batches_have_channels_first():
    batch = collate([{name: np.asarray(value) for name, (_, value) in SOUND.items()}] * 2, FIELDS)
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in batch.items()}
    assert shapes["image"] == (3, 6, 8) and shapes["gray"] == (1, 6, 8) and shapes["flow"] == (2, 6, 8)
    assert shapes["joints"] == (3, 3) and shapes["camera"] == (3, 3) and shapes["box"] == (4,)
    assert shapes["score"] == () and shapes["mask"] == (6, 8)
    assert batch["labels"].dtype == torch.int64
    assert all(tensor.shape[0] == 2 for tensor in batch.values())


def test_images_are_batched_as_integers_and_become_floats():
    image = SOUND["image"][1]
    batch = collate([{"image": image}], {"image": Image()})
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(Image().to_input(batch["image"])[0], np.moveaxis(image, -1, 0) / np.float32(255))


def test_16_bit_images_keep_their_precision():
    gray = np.array([[[0], [1]], [[40000], [65535]]], np.uint16)
    tensor = Image(1).to_input(collate([{"image": gray}], {"image": Image(1)})["image"])
    np.testing.assert_allclose(tensor[0, 0], gray[..., 0] / 65535, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in SOUND if name != "score"])
def test_leading_axis_is_transformed_entry_by_entry(name):
    field_type, value = SOUND[name]
    geometry = Geometry((translation(1, 0) @ hflip(8),), (6, 8))
    clip = np.stack([value, value[..., ::1]])
    assert field_type.check(clip) is None
    moved = field_type.transform(clip, geometry)
    for entry in moved:
        np.testing.assert_array_equal(entry, field_type.transform(value, geometry))


def test_clip_of_images_keeps_its_axis_in_a_batch():
    clip = np.zeros((5, 6, 8, 3), np.uint8)
    assert collate([{"clip": clip}] * 2, {"clip": Image()})["clip"].shape == (2, 5, 3, 6, 8)


def test_scalar_is_not_changed_by_a_geometry():
    moved = Scalar().transform(np.asarray(np.float32(0.25)), plain_resize((4, 4), (2, 2)))
    assert float(moved) == 0.25
    assert collate([{"n": np.asarray(3)}] * 4, {"n": Scalar()})["n"].tolist() == [3, 3, 3, 3]


def test_transformed_box_is_a_valid_box():
    moved = Box().transform(np.array([1, 1, 5, 4], np.float32), Geometry((hflip(8),), (6, 8)))
    np.testing.assert_array_equal(moved, [2, 1, 6, 4])


def test_transform_sample_brings_every_field_to_one_size():
    sample = {name: np.asarray(value) for name, (_, value) in SOUND.items()}
    moved = transform_sample(sample, FIELDS, plain_resize((6, 8), (12, 10)))
    assert moved.keys() == sample.keys()
    assert all(moved[name].shape[:2] == (12, 10) for name in ("image", "gray", "depth", "flow", "labels", "mask"))
    for name, field_type in FIELDS.items():
        assert field_type.check(moved[name]) is None, name


def test_fields_round_trip_through_json():
    fields = FIELDS | {"second": Image(frame=1), "back": Flow(1, 0)}
    assert fields_from_json(json.loads(json.dumps(fields_to_json(fields)))) == fields


def test_frame_is_keyword_only():
    assert Image(1).channels == 1 and Image(1).frame == 0
    assert Flow(1, 0) == Flow(frame=1, frame_to=0)


@pytest.mark.parametrize("name", ["image", "gray", "light", "depth", "flow", "labels", "mask", "joints"])
def test_every_dense_type_is_colorized(name):
    field_type, value = SOUND[name]
    image = field_type.colorize(value)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if name != "joints":
        assert image.shape[:2] == (6, 8)


def test_unknown_depth_is_drawn_black_and_near_is_brighter_than_far():
    depth = np.array([[1, 2, 4, np.nan]], np.float32)
    brightness = Depth().colorize(depth).sum(-1)[0]
    assert brightness[0] > brightness[1] > brightness[2]
    assert brightness[3] == 0


def test_reference_sets_the_color_scale():
    ground_truth = np.linspace(1, 5, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(
        Depth().colorize(ground_truth, reference=ground_truth), Depth().colorize(ground_truth)
    )
    assert not np.array_equal(
        Depth().colorize(ground_truth * 2, reference=ground_truth), Depth().colorize(ground_truth)
    )


def test_no_motion_is_white_and_opposite_motions_differ():
    flow = np.zeros((1, 4, 2), np.float32)
    flow[0, 1], flow[0, 2], flow[0, 3] = (3, 0), (-3, 0), np.nan
    still, right, left, unknown = Flow().colorize(flow)[0].astype(int)
    assert still.min() >= 254 and unknown.max() == 0
    assert np.abs(right - left).max() > 100
