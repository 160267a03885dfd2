"""Plane sweep: the geometry, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.datasets.core.geometry import scaling
from densevision.datasets.synthetic import RoomViews
from densevision.datasets.views.detect import read_scene
from densevision.tasks.view_synthesis.classical import NearestView, WinnerTakesAll
from densevision.tasks.view_synthesis.networks import compose
from densevision.tasks.view_synthesis.new_view import compare
from densevision.tasks.view_synthesis.plane_sweep import UNSEEN, Rig, SweepVolume, smooth, sweep

SIZE = (40, 56)
CAMERA = torch.tensor([[50.0, 0, (SIZE[1] - 1) / 2], [0, 50.0, (SIZE[0] - 1) / 2], [0, 0, 1]])
RANGE = torch.tensor([[1.0, 9.0]])


def texture(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A smooth pattern of a plane in meters, (..., 3) in [0, 1]."""
    return torch.stack([0.5 + 0.4 * torch.sin(a * x + b * y + c) for a, b, c in ((5, 3, 0), (-4, 6, 1), (7, -2, 2))], 0)


def pose(x: float, y: float = 0.0, z: float = 0.0, angle: float = 0.0) -> torch.Tensor:
    """[R t] from the target to a source at (x, y, z), turned about its y axis."""
    c, s = np.cos(angle), np.sin(angle)
    rotation = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]], dtype=torch.float64)
    return torch.cat([rotation, -rotation @ torch.tensor([[x], [y], [z]], dtype=torch.float64)], 1)


def photo_of_plane(depth: float, moved: torch.Tensor) -> torch.Tensor:
    """What a source sees of the textured plane z = depth of the target's frame, (3, H, W), pixel by pixel."""
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SIZE), indexing="ij")
    rays = torch.linalg.inv(CAMERA.double()) @ torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1)
    # In the target's frame: center + s R^T ray, which meets the plane at s.
    directions, center = moved[:, :3].T @ rays, -moved[:, :3].T @ moved[:, 3:]
    points = center + (depth - center[2]) / directions[2] * directions
    return texture(points[0], points[1]).view(3, *SIZE).float()


def rig(*poses: torch.Tensor) -> Rig:
    count = len(poses)
    return Rig(CAMERA.expand(1, count, 3, 3), torch.stack(poses)[None], CAMERA[None], RANGE)


POSES = pose(0.2), pose(-0.2, 0.1, angle=0.03), pose(0.05, -0.2, 0.1), pose(-0.1, 0.2, angle=-0.02)


def test_a_plane_is_reproduced_by_its_own_plane_alone():
    cameras, number = rig(*POSES), 5
    depths = cameras.depths(16)
    views = torch.stack([photo_of_plane(float(depths[0, number]), each) for each in POSES])[None]
    target = photo_of_plane(float(depths[0, number]), pose(0))
    volume = sweep(views, cameras, depths, SIZE)
    inside = (slice(None), slice(10, -10), slice(12, -12))
    errors = [float((volume.mean[0, plane] - target)[inside].abs().mean()) for plane in range(16)]
    assert errors[number] < 0.004 and min(errors[:number] + errors[number + 1 :]) > 4 * errors[number]
    output = WinnerTakesAll(16)(views, cameras.cameras, cameras.poses, cameras.camera, RANGE)
    assert ((output[0, 3, 10:-10, 12:-12] - depths[0, number]).abs() < 1e-4).float().mean() > 0.98
    assert float((output[0, :3] - target)[inside].abs().max()) < 0.02


def test_planes_are_uniform_in_inverse_depth():
    depths = rig(*POSES).depths(5)[0]
    torch.testing.assert_close(1 / depths, torch.linspace(1, 1 / 9, 5))


def test_a_source_at_the_target_is_itself_on_every_plane():
    view = torch.rand(1, 1, 3, *SIZE)
    cameras = rig(pose(0))
    volume = sweep(view, cameras, cameras.depths(3), SIZE)
    # Half a pixel off (align_corners of grid_sample) would blur the noise.
    torch.testing.assert_close(volume.colors[0, 0], view[0].expand(3, -1, -1, -1), atol=1e-4, rtol=0)
    assert volume.alpha.min() == 1


def test_what_a_source_does_not_see_has_no_alpha():
    # The source looks backwards: everything is behind it, and would otherwise appear mirrored.
    cameras = rig(pose(0, angle=np.pi), pose(0.5))
    volume = sweep(torch.rand(1, 2, 3, *SIZE), cameras, cameras.depths(4), SIZE)
    assert volume.alpha[0, 0].max() == 0
    # 0.5 m to the right at 1 m and 50 px is 25 px: the left 25 columns are outside. Alpha ends at half a pixel.
    assert volume.alpha[0, 1, 0, 0].mean(0).tolist() == [0.0] * 25 + [1.0] * (SIZE[1] - 25)
    assert volume.disagreement(volume.mean).max() == pytest.approx(2 * UNSEEN)


def test_a_window_of_the_target_is_that_part_of_it():
    cameras, views = rig(*POSES), torch.rand(1, 4, 3, *SIZE)
    complete = sweep(views, cameras, cameras.depths(3), SIZE)
    part = sweep(views, cameras.window(7, 11), cameras.depths(3), (20, 30))
    torch.testing.assert_close(part.colors, complete.colors[..., 7:27, 11:41], atol=2e-3, rtol=0)


def test_probabilities_are_those_of_planes():
    logits = torch.randn(1, 6, 4, 5)
    ones = compose(logits, torch.ones(1, 6, 3, 4, 5), torch.arange(1.0, 7)[None])
    torch.testing.assert_close(ones[:, :3], torch.ones(1, 3, 4, 5))
    torch.testing.assert_close(ones[:, 3], logits.argmax(1) + 1.0)


def test_rooms_warped_by_their_true_depth_are_the_target():
    sample = RoomViews(None, "test").read(0)
    views = torch.from_numpy(sample["views"]).movedim(-1, -3)[None].float() / 255
    tensors = (torch.from_numpy(sample[name])[None].float() for name in ("cameras", "poses", "camera", "depth_range"))
    cameras, size = Rig(*tensors), sample["depth"].shape
    errors = []
    # One plane per row: every pixel takes its own depth from a sweep over the depths of the row.
    for row in range(4, size[0] - 4, 6):
        depths = torch.from_numpy(sample["depth"][row])[None]
        volume = sweep(views, cameras.window(row, 0), depths, (1, size[1]))
        index = torch.arange(size[1])
        colors, alpha = volume.colors[0, :, index, :, 0, index], volume.alpha[0, :, index, 0, 0, index].T
        # Indices on both sides of a slice come first: (W, V, 3), and (V, W) without a slice between them.
        photo = torch.from_numpy(sample["image"][row]).float()[:, None] / 255
        errors.append(((colors - photo).abs().mean(-1))[alpha > 0] * 255)
    assert float(torch.cat(errors).median()) < 2


def test_signs_of_llff_are_right(shared_data):
    scene = read_scene(shared_data / "llff" / "fern")
    gains = []
    for name in ("image008", "image010"):
        view = scene.view(name)
        sample = scene.sample(view, scene.nearest(view, 4))
        size = (94, 126)
        factor = scaling(size[1] / 504, size[0] / 378)
        images = np.stack([resized(each, size) for each in (*sample["views"], sample["image"])])
        tensors = {name: torch.from_numpy(np.asarray(sample[name]))[None].float() for name in ("poses", "depth_range")}
        cameras, camera = (torch.from_numpy(factor @ sample[name])[None].float() for name in ("cameras", "camera"))
        inputs = (torch.from_numpy(images[:4]).movedim(-1, 1)[None].float() / 255, cameras, tensors["poses"], camera)
        found = []
        for network in (NearestView(24), WinnerTakesAll(24)):
            output = network(*inputs, tensors["depth_range"])[0, :3].clamp(0, 1)
            pixels = (output * 255).round().movedim(0, -1).numpy().astype(np.uint8)
            found.append(compare(pixels, images[4], 8)["psnr"])
        gains.append(found[1] - found[0])
    # A wrong sign of one axis still gains 2 dB.
    assert min(gains) > 5


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def test_windows_are_means_within_the_image():
    values = torch.arange(12.0).view(1, 1, 1, 3, 4)
    assert float(smooth(values, 3)[0, 0, 0, 0, 0]) == (0 + 1 + 4 + 5) / 4
    assert SweepVolume(torch.zeros(1, 2, 1, 3, 2, 2), torch.ones(1, 2, 1, 1, 2, 2), RANGE[:, :1]).mean.max() == 0
