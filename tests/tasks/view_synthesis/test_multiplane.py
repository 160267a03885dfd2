"""Multiplane images: composition and rendering exactly, and the network of Stereo Magnification."""

from __future__ import annotations

import pytest
import torch

from densevision.datasets.synthetic import RoomViews
from densevision.errors import UserError
from densevision.tasks.evaluation import score
from densevision.tasks.inference import Predictor
from densevision.tasks.view_synthesis import ViewSynthesis
from densevision.tasks.view_synthesis.classical import NearestView
from densevision.tasks.view_synthesis.multiplane import (
    MultiplaneImages,
    alpha_logits,
    light_multiplane_images,
    visibility,
)
from densevision.tasks.view_synthesis.plane_sweep import Rig

from .test_plane_sweep import CAMERA, POSES, SIZE, photo_of_plane, pose, rig

INSIDE = (slice(None), slice(10, -10), slice(12, -12))


def test_parameters_are_those_of_the_released_code():
    # stereomag/nets.py of google/stereo-magnification: 2 photos, 32 planes, background output, layer normalization
    with torch.device("meta"):
        assert sum(each.numel() for each in MultiplaneImages(2, 32).parameters()) == 16_892_227


def test_planes_are_composed_back_to_front():
    colors, alpha = torch.rand(2, 6, 3, 4, 5), torch.rand(2, 6, 1, 4, 5)
    composed = colors[:, -1]
    for plane in range(4, -1, -1):
        composed = alpha[:, plane] * colors[:, plane] + (1 - alpha[:, plane]) * composed
    shares = visibility(alpha)
    torch.testing.assert_close((shares * colors).sum(1), composed)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 1, 4, 5))


def test_an_opaque_plane_hides_those_behind_it():
    alpha = torch.rand(1, 5, 1, 2, 2)
    alpha[:, 2] = 1
    assert float(visibility(alpha)[:, 3:].max()) == 0


def test_alpha_starts_at_the_probabilities_of_the_sweep():
    scores = torch.randn(2, 7, 1, 3, 4) * 4
    torch.testing.assert_close(visibility(torch.sigmoid(alpha_logits(scores))), scores.softmax(1))


def opaque(depth_number: int, cameras: Rig, planes: int) -> torch.Tensor:
    """(1, D, 4, H, W): one opaque plane in front of the first source with the texture, all others clear."""
    image = torch.zeros(1, planes, 4, *SIZE)
    reference = cameras.poses[0, 0]
    image[0, depth_number, :3] = plane_of_first_source(float(cameras.depths(planes)[0, depth_number]), reference)
    image[0, depth_number, 3] = 1
    return image


def plane_of_first_source(depth: float, moved: torch.Tensor) -> torch.Tensor:
    """The textured plane at a depth of the first source's frame, which sees it as a target would."""
    return photo_of_plane(depth, pose(0).to(moved.dtype))


@pytest.mark.parametrize("reference", POSES)
def test_a_textured_plane_is_seen_as_from_every_camera(reference):
    planes, number = 9, 4
    # The frame of the texture is that of the first source: this target sees it as a camera at `inverse`.
    cameras = rig(reference, POSES[0])
    inverse = torch.cat([reference[:, :3].T, -reference[:, :3].T @ reference[:, 3:]], 1)
    encoded, depth = opaque(number, cameras, planes), float(cameras.depths(planes)[0, number])
    output = MultiplaneImages(2, planes, width=1).render(encoded, cameras, SIZE)[0]
    assert float((output[:3] - photo_of_plane(depth, inverse))[INSIDE].abs().max()) < 0.02
    # The plane is tilted in the target's frame: its depth is z of the points that pixels see.
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SIZE), indexing="ij")
    rays = torch.linalg.inv(CAMERA.double()) @ torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1)
    points = reference[:, :3] @ (rays * output[3].double().flatten()) + reference[:, 3:]
    assert float((points[2].view(SIZE)[10:-10, 12:-12] - depth).abs().max()) < 1e-4


def test_the_first_photo_is_rendered_as_it_is():
    planes = 5
    cameras = rig(pose(0), POSES[0])
    encoded = torch.rand(1, planes, 4, *SIZE)
    photo = torch.rand(1, 1, 3, *SIZE)
    encoded[:, :, :3] = photo
    output = MultiplaneImages(2, planes, width=1).render(encoded, cameras, SIZE)
    torch.testing.assert_close(output[:, :3], photo[:, 0], atol=1e-4, rtol=0)


def test_sources_and_target_change_places():
    cameras = rig(*POSES)
    around = cameras.from_first_source()
    # A point in the target's frame, in that of the first source, and in that of the third one by both ways.
    point = torch.tensor([0.3, -0.2, 4.0], dtype=torch.float64)
    first, third = (moved[:, :3] @ point + moved[:, 3] for moved in (POSES[0], POSES[2]))
    torch.testing.assert_close(around.poses[0, 1, :, :3] @ first + around.poses[0, 1, :, 3], third)
    torch.testing.assert_close(around.poses[0, -1, :, :3] @ first + around.poses[0, -1, :, 3], point)


def test_it_starts_at_the_sweep_in_front_of_the_first_photo():
    dataset, planes = RoomViews(None, "test", (48, 64)), 16
    task = ViewSynthesis(views=2, planes=planes)
    scores = {
        name: score(task, Predictor(task, network, dataset.fields, (48, 64)), dataset, "border-4", 3).metrics["psnr"]
        for name, network in (("mpi", light_multiplane_images(2, planes)), ("nearest", NearestView(planes)))
    }
    assert scores["mpi"] > scores["nearest"] + 3


def test_other_numbers_are_refused():
    sample = RoomViews(None, "test", (32, 40)).read(0)
    predictor = Predictor(ViewSynthesis(views=3, planes=4), MultiplaneImages(2, 4, 1), RoomViews.field_types, (32, 40))
    with pytest.raises(UserError, match="trained for 2 views and 4 planes"):
        predictor.predict_sample(sample)
