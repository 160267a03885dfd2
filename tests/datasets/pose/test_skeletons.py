"""Official skeletons: a joint in the wrong position would not be noticed in training."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.core.geometry import Geometry, hflip, plain_resize, rotation, translation
from densevision.datasets.examples import fake_people
from densevision.datasets.field_types import FieldType, Keypoints, fields_from_json, fields_to_json
from densevision.datasets.pose import skeletons

SKELETONS = {"lsp": skeletons.LSP, "mpii": skeletons.MPII, "coco": skeletons.COCO}

# facts 3.5: LSP joints (1-14); MPII ids 0-15; COCO's sigmas are listed in the order of its joints.
ABBREVIATED = {
    "lsp": "r ankle, r knee, r hip, l hip, l knee, l ankle, r wrist, r elbow, r shoulder, "
    "l shoulder, l elbow, l wrist, neck, head top",
    "mpii": "r ankle, r knee, r hip, l hip, l knee, l ankle, pelvis, thorax, upper neck, head top, "
    "r wrist, r elbow, r shoulder, l shoulder, l elbow, l wrist",
    "coco": "nose, l eye, r eye, l ear, r ear, l shoulder, r shoulder, l elbow, r elbow, l wrist, r wrist, "
    "l hip, r hip, l knee, r knee, l ankle, r ankle",
}

# facts 3.5: flip pairs, 0-based.
FLIP_PAIRS = {
    "lsp": [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)],
    "mpii": [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)],
    "coco": [(left, left + 1) for left in range(1, 16, 2)],
}


@pytest.mark.parametrize("name", SKELETONS)
def test_joints_are_in_the_order_of_the_official_files(name):
    words = {"r": "right", "l": "left"}
    expected = [" ".join(words.get(word, word) for word in joint.split()) for joint in ABBREVIATED[name].split(", ")]
    assert list(SKELETONS[name].names) == expected


@pytest.mark.parametrize("name", SKELETONS)
def test_a_flip_exchanges_the_official_pairs_and_names_the_left_joint_first(name):
    skeleton = SKELETONS[name]
    assert sorted(tuple(sorted(pair)) for pair in skeleton.pairs) == FLIP_PAIRS[name]
    for left, right in skeleton.pairs:
        assert skeleton.names[left].replace("left", "right") == skeleton.names[right] != skeleton.names[left]
    assert sorted(skeletons.pairs_by_name(skeleton.names)) == sorted(skeleton.pairs)


@pytest.mark.parametrize("name", SKELETONS)
def test_skeletons_are_connected_and_symmetric(name):
    skeleton = SKELETONS[name]
    reached, edges = {0}, [set(edge) for edge in skeleton.edges]
    for _ in edges:
        reached |= {end for edge in edges if edge & reached for end in edge}
    assert reached == set(range(len(skeleton.names)))
    other = {joint: joint for joint in reached} | {a: b for pair in skeleton.pairs for a, b in (pair, pair[::-1])}
    assert {frozenset(edge) for edge in edges} == {frozenset(other[end] for end in edge) for edge in edges}


@pytest.mark.parametrize("name", SKELETONS)
@pytest.mark.parametrize("turned", [rotation(0), rotation(25)])
def test_after_a_flip_a_left_joint_is_at_the_position_of_the_right_one(name, turned):
    # trap of facts 3.5: x' = W - 1 - x and exchange of the pairs. Left joints are red, all others white.
    skeleton = SKELETONS[name]
    image, joints = fake_people(3, skeleton.names)
    field_type = Keypoints(skeleton)
    value = np.concatenate([joints[0], np.full((len(joints[0]), 1), 2)], axis=1).astype(np.float32)
    width = image.shape[1]
    for matrix, flipped in ((turned, False), (hflip(width) @ turned, True)):
        # The output is large enough, and shifted, so that every joint stays inside.
        geometry = Geometry((translation(100, 100) @ matrix,), (300, 300))
        moved = field_type.transform(value, geometry)
        assert (moved[:, 2] == 2).all()
        back = np.linalg.inv(geometry.matrix())
        for joint, (x, y, _) in zip(skeleton.names, moved, strict=True):
            column, row = (round(place) for place in (back @ (float(x), float(y), 1.0))[:2])
            red = bool(image[row, column, 1] < 128)
            sided = joint.startswith(("left", "right"))
            assert red == (joint.startswith("right" if flipped else "left") if sided else False), joint


def test_pairs_are_found_by_name_in_any_case():
    names = ("Left_Paw", "tail", "right_paw", "left ear", "RIGHT_EAR", "upper left fin", "upper right fin")
    assert skeletons.pairs_by_name(names) == ((0, 2), (3, 4), (5, 6))


def test_skeleton_round_trips_through_a_checkpoint_header():
    fields: dict[str, FieldType] = {"joints": Keypoints(skeletons.MPII)}
    assert fields_from_json(fields_to_json(fields)) == fields


def test_plain_resize_moves_joints_by_the_half_pixel_rule():
    # facts 3.8: x' = (x + .5) * s - .5
    value = np.zeros((14, 3), np.float32)
    value[0] = 3, 7, 1
    moved = Keypoints(skeletons.LSP).transform(value, plain_resize((20, 10), (40, 40)))
    np.testing.assert_allclose(moved[0], [3.5 * 4 - 0.5, 7.5 * 2 - 0.5, 1])
