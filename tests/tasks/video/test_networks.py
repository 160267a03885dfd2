"""Predictors with any backbone: start, composition, rollout, block matching."""

from __future__ import annotations

import pytest
import torch

import densevision
from densevision.tasks.heads import create_head
from densevision.tasks.video.matching import match_blocks, motion_nearby
from densevision.tasks.video.networks import CONTINUATION_SCALE, FLOW_SCALE, HEAD_CHANNELS, MotionPredictor, arcs
from densevision.tasks.video.warping import fill, move, splat


def predictor(context: int, frames: int, backbone: str = "resnet20_cifar") -> MotionPredictor:
    torch.manual_seed(0)
    network = densevision.create_backbone(backbone, num_classes=0, in_channels=3 * context)
    head = create_head("unet", network.levels, HEAD_CHANNELS)
    return MotionPredictor(network, head, context, frames).eval()


def frames_of(count: int, batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(batch, 3, 16, 24, generator=generator) for _ in range(count)]


@pytest.mark.parametrize(("context", "frames"), [(1, 5), (2, 3), (4, 2)])
def test_an_untrained_network_copies_the_last_frame(context, frames):
    given = frames_of(context, batch=2)
    with torch.no_grad():
        predicted = predictor(context, frames).predict_frames(tuple(given), frames)
    assert predicted.frames.shape == (2, frames, 3, 16, 24) and predicted.masks.shape == (2, frames, 1, 16, 24)
    # From a single frame, as exactly as the mask is 0.
    allowed = 0.02 if context == 1 else 1e-5
    torch.testing.assert_close(predicted.frames, given[-1][:, None].expand_as(predicted.frames), rtol=0, atol=allowed)


@pytest.mark.parametrize("context", [1, 3])
def test_the_output_has_four_channels_per_frame_and_a_mask_from_0_to_1(context):
    network, given = predictor(context, 2), frames_of(context)
    torch.nn.init.normal_(network.head.predict.weight, 0, 0.01)  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        output = network(*given)
        predicted = network.predict_frames(tuple(given), 2)
    assert output.shape == (1, 8, 16, 24)
    torch.testing.assert_close(output[:, 4:7], predicted.frames[:, 1])
    torch.testing.assert_close(output[:, 7:], predicted.masks[:, 1])
    assert predicted.masks.min() >= 0 and predicted.masks.max() <= 1 and predicted.masks.std() > 0


@pytest.mark.parametrize("context", [1, 3])
def test_frames_are_composed_exactly(context):
    network, given = predictor(context, 3), frames_of(context)
    torch.nn.init.normal_(network.head.predict.weight, 0, 0.3)  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        frames, masks, foreground, background, _ = network.predict_frames(tuple(given), 3)
    assert background is not None and torch.isfinite(foreground).all()
    torch.testing.assert_close(frames, masks * foreground + (1 - masks) * background, rtol=0, atol=0)


def test_a_static_scene_stays_and_is_all_background():
    network, still = predictor(2, 3), frames_of(1)[0]
    torch.nn.init.normal_(network.head.predict.weight, 0, 0.3)  # type: ignore[arg-type, union-attr]
    noisy = still + torch.randn(still.shape, generator=torch.Generator().manual_seed(0)) / 255
    with torch.no_grad():
        for before in (still, noisy):
            predicted = network.predict_frames((before, still), 3)
            assert predicted.masks.max() == 0 and torch.equal(predicted.frames, still[:, None].expand(1, 3, 3, 16, 24))


def test_motion_matters_to_what_is_near():
    still, changed = torch.zeros(1, 3, 40, 60), torch.zeros(1, 3, 40, 60)
    changed[..., 18:22, 8:12] = 0.5
    moving = motion_nearby(changed, still)[0, 0]
    assert moving[20, 10] == moving[20, 17] == moving[27, 10] == 1 and not moving[:, 24:].any()


def test_the_foreground_of_a_single_frame_leaves_what_is_behind_it():
    network, (given,) = predictor(1, 4), frames_of(1)
    # All is foreground, and goes right by 1.5 pixels a frame.
    with torch.no_grad():
        network.head.predict.bias[3] = 20  # type: ignore[index, union-attr]
        network.head.predict.bias[4] = 1.5 / FLOW_SCALE  # type: ignore[index, union-attr]
        first, second, *_ = network.predict_frames((given,), 4).frames[0]
    halves = (given[0, ..., :-2] + given[0, ..., 1:-1]) / 2
    torch.testing.assert_close(first[..., 2:], halves, rtol=0, atol=1e-4)
    torch.testing.assert_close(second[..., 3:], given[0, ..., :-3], rtol=0, atol=1e-4)
    # What it leaves behind is filled, with the mean of the frame where nothing else is known.
    assert (second[..., :2].mean() - given[0].mean()).abs() < 0.2


@pytest.mark.parametrize("turn", [0.0, 0.06, -0.3])
def test_arcs_are_the_paths_of_a_rigid_motion(turn):
    # Every point goes around a center; its velocity is at right angles to it.
    center = torch.tensor([7.0, -3.0])
    velocity = turn * torch.stack([-center[1], center[0]]) * -1 if turn else torch.tensor([1.0, 2.0])
    moved = arcs(velocity.view(1, 2, 1, 1), torch.full((1, 1, 1, 1), turn), torch.tensor(9.0))[0, :, 0, 0]
    angle = torch.tensor(9 * turn)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    expected = center - rotation @ center if turn else 9 * velocity
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_a_rollout_predicts_each_frame_from_the_predicted_ones():
    network, given = predictor(2, 3), frames_of(2)
    torch.nn.init.normal_(network.head.predict.weight[:6], 0, 0.3)  # type: ignore[arg-type, index, union-attr]
    with torch.no_grad():
        rolled = network.predict_frames(tuple(given), 3).frames
        first = network.predict_frames(tuple(given), 1).frames[:, 0]
        second = network.predict_frames((given[1], first), 1).frames[:, 0]
    torch.testing.assert_close(rolled[:, 0], first)
    torch.testing.assert_close(rolled[:, 1], second)


def test_a_continued_motion_goes_on_in_every_frame():
    rng = torch.Generator().manual_seed(2)
    wide = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 70, 90, generator=rng), 3, 1)
    clip = [wide[..., 2:66, 2 + 3 * time : 66 + 3 * time] for time in range(5)]
    network = predictor(2, 3)
    # All of the motion, all of it foreground.
    with torch.no_grad():
        network.head.predict.bias[5:] = torch.tensor([20.0, 1 / CONTINUATION_SCALE])  # type: ignore[index, union-attr]
        frames = network.predict_frames(tuple(clip[:2]), 3).frames[0]
    for frame, true, last in zip(frames, clip[2:], [clip[1]] * 3, strict=True):
        inner = (..., slice(12, -12), slice(12, -24))
        assert (frame[inner] - true[0][inner]).abs().mean() < 0.6 * (last[0][inner] - true[0][inner]).abs().mean()


@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-5, 4), (0, 0)])
def test_block_matching_finds_a_shift(shift):
    rng = torch.Generator().manual_seed(2)
    wide = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 98, 98, generator=rng), 3, 1)
    x, y = shift
    before = wide[..., 16:80, 16:80]
    # What was at x + f(x) came to x.
    last = wide[..., 16 + y : 80 + y, 16 + x : 80 + x]
    flow = match_blocks(last, before)
    middle = flow[..., 16:-16, 16:-16]
    torch.testing.assert_close(middle.mean((0, 2, 3)), torch.tensor([x, y], dtype=torch.float32), rtol=0, atol=0.25)
    moved = move(before, flow)[..., 16:-16, 16:-16]
    assert (moved - last[..., 16:-16, 16:-16]).abs().mean() < 0.04


def test_the_motion_of_a_clip_does_not_depend_on_the_others_of_its_batch():
    last, before = frames_of(2, batch=5)
    torch.testing.assert_close(match_blocks(last, before)[2:3], match_blocks(last[2:3], before[2:3]), rtol=0, atol=1e-6)
    assert predictor(2, 3).batchable


def test_still_frames_have_no_motion_and_tiny_ones_work():
    still = torch.full((1, 3, 20, 20), 0.5)
    assert match_blocks(still, still).abs().max() < 1e-4
    assert match_blocks(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1)).shape == (1, 2, 1, 1)


def test_a_move_by_whole_pixels_repeats_the_edge():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    moved = move(image, torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4))
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([1.0, 2.0, 3.0, 3.0]))


def test_a_splat_shares_values_out_and_drops_what_leaves():
    image = torch.zeros(1, 1, 3, 4)
    image[..., 1, 1], image[..., 0, 3] = 8.0, 5.0
    flow = torch.tensor([1.25, 0.5]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    expected = torch.zeros(3, 4)
    expected[1:, 2], expected[1:, 3] = 3.0, 1.0
    torch.testing.assert_close(splat(image, flow)[0, 0], expected)
    assert not splat(image, torch.full((1, 2, 3, 4), 1e9)).any()
    moved, shift = torch.rand(2, 3, 5, 6), torch.zeros(2, 2, 5, 6)
    torch.testing.assert_close(splat(moved, shift), moved)


def test_what_is_missing_is_filled_from_its_surroundings():
    # A plain half beside another one, each with a hole.
    image = torch.zeros(1, 1, 24, 40)
    image[..., 20:], known = 1.0, torch.ones(1, 1, 24, 40)
    known[..., 8:14, 5:12] = known[..., 8:14, 28:35] = 0
    filled = fill(torch.where(known > 0, image, 0.3), known)
    torch.testing.assert_close(filled, image, rtol=0, atol=0.15)
    torch.testing.assert_close(filled * known, image * known, rtol=0, atol=0)
    # Of nothing, the mean remains.
    torch.testing.assert_close(fill(image, torch.zeros_like(known)).mean(), image.mean(), rtol=0, atol=0.2)
