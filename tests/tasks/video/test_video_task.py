"""Video prediction: options, cuts of clips, losses, metrics, predictions, clips from noise, training and resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densevision
from densevision.datasets import open_dataset
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import FieldType, Image, Mask
from densevision.datasets.formats.video import read_video
from densevision.datasets.rendering.boats import draw_boats
from densevision.errors import UserError
from densevision.tasks.inference import Predictor
from densevision.tasks.training.setup import train
from densevision.tasks.training.state import load_state
from densevision.tasks.video import Video
from densevision.tasks.video.baselines import continue_flow, copy_last
from densevision.tasks.video.losses import GIVEN_MASK, LAMBDA_FRAME, TRUE_MASK, l1, mask_distance
from densevision.tasks.video.metrics import describe, frechet_distance, has_static_background, speed_histogram
from densevision.tasks.video.networks import VGAN, PredictedFrames
from densevision.tasks.video.predicted_clip import PredictedClip

from ..processes import run_processes
from ..training.toys import difference
from .train_in_process import RUNS, train_all

CLIP: dict[str, FieldType] = {"clip": Image()}
RNG = np.random.default_rng(0)


def random_clip(frames: int, side: int = 16) -> np.ndarray:
    return RNG.integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(("options", "message"), [({"context": 9}, "--context is 9"), ({"frames": 0}, "--frames is 0")])
def test_impossible_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        Video(**options)


def test_a_clip_is_divided_into_given_and_following_frames():
    task, clip = Video(context=2, frames=3), random_clip(7)
    sample = task.augmentation.augment({"clip": clip, "mask": np.zeros((7, 16, 16), bool)}, None, 0.0)
    assert len(sample["clip"]) == len(sample["mask"]) == 5
    np.testing.assert_array_equal(sample["frame2"], clip[1])
    true = task.ground_truth({"clip": clip}, CLIP)
    assert isinstance(true, PredictedClip)
    np.testing.assert_array_equal(true.frames, clip[2:5])


def test_a_clip_that_is_too_short_is_an_error():
    with pytest.raises(UserError, match="--context 4 and --frames 4 need clips of 8 frames, and this one has 7"):
        Video().augmentation.augment({"clip": random_clip(7)}, None, 0.0)


def test_combinations_that_cannot_be_trained_are_refused():
    task = Video(context=0, frames=32)
    with pytest.raises(UserError, match="a backbone cannot read: add --model vgan-narrow"):
        task.build(CLIP, densevision.create_backbone("resnet20_cifar", num_classes=0), "unet", None)
    with torch.device("meta"):
        network = VGAN(0, 32, 16)
        with pytest.raises(UserError, match="need --loss adversarial"):
            task.phases(network, CLIP, "l1")
        with pytest.raises(UserError, match="trains on clips of 32 frames: set --frames 32"):
            Video(context=0, frames=8).phases(VGAN(0, 8, 16), CLIP, "adversarial")


def test_the_terms_of_l1_use_what_the_dataset_knows():
    frames, masks = torch.full((1, 2, 3, 4, 4), 0.5), torch.full((1, 2, 1, 4, 4), 0.5)
    predicted = PredictedFrames(frames, masks, frames, torch.full((1, 1, 3, 4, 4), 0.25))
    batch = {"clip": torch.zeros(1, 3, 3, 4, 4)}
    terms = l1(predicted, batch, context=1)
    assert {name: round(float(value), 6) for name, value in terms.items()} == {"l1": 0.5, "mask": 0.005}
    batch |= {"mask": torch.ones(1, 3, 4, 4, dtype=torch.bool), "background": torch.zeros(1, 3, 4, 4)}
    batch["mask"][:, 0] = False
    terms = l1(predicted._replace(given_mask=torch.full((1, 1, 4, 4), 0.25)), batch, context=1)
    assert float(terms["mask"]) == pytest.approx(TRUE_MASK * 0.5) and float(terms["background"]) == 0.25
    assert float(terms["given_mask"]) == pytest.approx(-GIVEN_MASK * math.log(0.75))


def test_masks_that_are_nearer_are_better_and_thin_ones_are_not():
    true, near, far, thin = torch.zeros(4, 1, 1, 32, 64)
    true[..., 8:16, 8:16], near[..., 8:16, 18:26], far[..., 8:16, 50:58], thin[:] = 1.0, 1.0, 1.0, 1 / 32
    exact, close, distant, spread = (float(mask_distance(each, true)) for each in (true, near, far, thin))
    assert exact == 0 and close < distant and spread > close


@pytest.mark.parametrize(("context", "frames"), [(0, 32), (1, 31)])
def test_the_two_players_have_the_terms_of_the_paper(context, frames):
    torch.manual_seed(0)
    task = Video(context=context, frames=frames)
    network = VGAN(context, frames, width=16)
    discriminator, generator = task.phases(network, CLIP, "adversarial")
    batch = {"clip": torch.rand(2, context + frames, 3, 64, 64), "noise": torch.randn(2, 100)}
    batch["frame1"] = batch["clip"][:, 0]
    cache: dict = {}
    assert list(discriminator.loss(batch, cache)) == ["D_real", "D_fake"]
    terms = generator.loss(batch, cache)
    layers = cache["layers"]
    if context:
        expected = LAMBDA_FRAME * (layers.clip[:, :, 0] - (2 * batch["frame1"] - 1)).abs().mean()
        torch.testing.assert_close(terms["G_frame"], expected)
    else:
        torch.testing.assert_close(terms["G_mask"], 0.1 * layers.mask.mean())  # their code
    # Fooling the discriminator is its loss for the label "real".
    logits = discriminator.module(layers.clip)
    torch.testing.assert_close(terms["G_GAN"], torch.nn.functional.cross_entropy(logits, torch.ones(2).long()))


def score(task: Video, prediction: PredictedClip, **sample: np.ndarray) -> dict[str, float]:
    metrics = task.metrics("frames" if task.context else "samples")
    metrics.update(prediction, sample)
    return metrics.compute()


def test_psnr_is_per_frame_and_the_moving_region_apart():
    clip = np.zeros((3, 16, 16, 3), np.uint8)
    clip[1:, :4] = 100
    copied = score(Video(context=1, frames=2), PredictedClip(copy_last(list(clip[:1]), 2)), clip=clip)
    assert copied["psnr_1"] == copied["psnr"] == pytest.approx(10 * math.log10(255**2 / (100**2 / 4)))
    assert copied["psnr_moving"] == pytest.approx(10 * math.log10(255**2 / 100**2)) and copied["psnr_static"] == 100
    assert copied["error"] == pytest.approx(50)
    perfect = score(Video(context=1, frames=2), PredictedClip(clip[1:]), clip=clip)
    assert (perfect["error"], perfect["psnr"], perfect["ssim"]) == (0, 100, 1) and "mask_iou" not in perfect


def test_the_mask_is_scored_where_it_is_known():
    clip, mask = random_clip(2), np.zeros((2, 16, 16), bool)
    mask[1, :8] = True
    found = np.zeros((1, 16, 16), np.float32)
    found[0, 4:12] = 0.7
    assert score(Video(context=1, frames=1), PredictedClip(clip[1:], masks=found), clip=clip, mask=mask)[
        "mask_iou"
    ] == pytest.approx(4 / 12)
    task = Video(context=1, frames=1)
    assert task.targets({"clip": Image(), "mask": Mask()}).keys() == {"clip", "mask"}


def test_flow_continuation_beats_copying_and_extrapolated_pixels_do_not():
    # D.2: linear extrapolation of pixels is a bug to notice, not a baseline.
    rng = np.random.default_rng(1)
    texture = np.repeat(np.repeat(rng.integers(0, 256, (20, 40, 3)), 6, 0), 6, 1).astype(np.uint8)
    clip = np.stack([texture[8:72, 20 + 3 * time : 116 + 3 * time] for time in range(4)])
    task = Video(context=2, frames=2)
    copied = score(task, PredictedClip(copy_last(list(clip[:2]), 2)), clip=clip)
    continued = score(task, PredictedClip(continue_flow(list(clip[:2]), 2)), clip=clip)
    linear = np.clip(2 * clip[1].astype(int) - clip[0], 0, 255).astype(np.uint8)[None].repeat(2, 0)
    assert continued["psnr"] > copied["psnr"] + 3
    assert score(task, PredictedClip(linear), clip=clip)["psnr"] < copied["psnr"]


def test_a_static_background_is_recognized():
    clip = np.repeat(random_clip(1), 8, axis=0)
    clip[:, 4:12] = random_clip(8)[:, 4:12]
    assert has_static_background(clip) and not has_static_background(random_clip(8))


def test_speed_and_moving_share_are_those_of_the_boats():
    rng = generator(3, 0, 0, Purpose.EXAMPLE)
    clips = [clip for clip in (draw_boats(rng, 32, 64, 64) for _ in range(30)) if len(clip.paths) == 1]
    described = [describe(clip.frames) for clip in clips]
    true = [np.hypot(*np.diff(clip.paths[0, :2, :2], axis=0)[0]) for clip in clips]
    assert np.median(np.abs(np.array([each.speed for each in described]) - true)) < 0.1
    assert [each.moving for each in described] == pytest.approx([clip.masks.mean() for clip in clips], abs=0.02)
    assert describe(np.repeat(random_clip(1), 8, axis=0))[1:] == (0, 0)
    np.testing.assert_allclose(speed_histogram([0, 0, 1.3, 9]), [0.5, 0, 0.25, 0, 0.25])


@pytest.mark.parametrize(("context", "frames"), [(1, 2), (0, 3)])
def test_scores_do_not_depend_on_the_number_of_processes(context, frames):
    task, protocol = Video(context=context, frames=frames), "frames" if context else "samples"
    parts = [task.metrics(protocol) for _ in range(3)]
    for number in range(5):
        prediction, clip = PredictedClip(random_clip(frames)), random_clip(context + frames)
        for metrics in (parts[0], parts[1 + number % 2]):
            metrics.update(prediction, {"clip": clip, "mask": clip[..., 0] > 128})
    merged = task.metrics(protocol)
    merged.merge([part.state() for part in parts[1:]])
    assert merged.compute() == parts[0].compute()


def test_the_frechet_distance_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((400, 3))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, 2 * first + 3) == pytest.approx(
        float(((first.mean(0) + 3) ** 2).sum() + np.cov(first.T, bias=True).trace()), rel=1e-6
    )


def test_a_prediction_is_a_video_and_its_frames(tmp_path):
    given, frames = list(random_clip(2, 17)), random_clip(3, 17)
    masks = np.linspace(0, 1, 3, dtype=np.float32)[:, None, None].repeat(17, 1).repeat(17, 2)
    prediction = PredictedClip(frames, given, masks)
    names = [path.name for path in prediction.save(tmp_path, "a")]
    assert names == ["a_clip.mp4", "a_clip.png", "a_clip_01.png", "a_clip_02.png", "a_clip_03.png", "a_mask.mp4"]
    video = [frame.pixels for frame in read_video(tmp_path / "a_clip.mp4")]
    assert len(video) == 5 and video[0].shape == (18, 18, 3)
    assert [int(frame.pixels.mean() / 255 * 2 + 0.5) for frame in read_video(tmp_path / "a_mask.mp4")] == [0, 1, 2]
    assert prediction.summary() == "3 frames of 17x17, 50 % moving"


def test_a_sequence_of_any_length_is_continued_once():
    torch.manual_seed(0)
    task, backbone = Video(context=2, frames=3), densevision.create_backbone("resnet20_cifar", in_channels=6)
    predictor = Predictor(task, task.build(CLIP, backbone, "unet", None), CLIP, (32, 32))
    clip = random_clip(6)
    long, short = predictor.predict(*clip), predictor.predict(*clip[-2:])
    assert isinstance(long, PredictedClip) and isinstance(short, PredictedClip)
    np.testing.assert_array_equal(long.frames, short.frames)
    np.testing.assert_array_equal(np.stack(long.given), clip)
    np.testing.assert_array_equal(np.stack(short.given), clip[-2:])
    assert len(predictor.predict(*clip, box=(0, 0, 12, 10)).given) == 2  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="takes 2 consecutive frames or more, not 1"):
        predictor.predict(clip[0])
    with pytest.raises(UserError, match="must have one size"):
        predictor.predict(random_clip(1, 20)[0], *clip)


def test_a_seed_is_a_clip_from_noise():
    torch.manual_seed(0)
    task = Video(context=0, frames=32)
    predictor = Predictor(task, VGAN(0, 32, 16), CLIP, (64, 64))
    one, again, two = (predictor.predict(seed) for seed in (1, 1, 2))
    assert isinstance(one, PredictedClip) and isinstance(again, PredictedClip) and isinstance(two, PredictedClip)
    assert one.frames.shape == (32, 64, 64, 3) and len(one.given) == 0
    assert np.array_equal(one.frames, again.frames) and not np.array_equal(one.frames, two.frames)
    assert task.evaluation.default_protocol(open_dataset("boats-32")) == "samples"
    with pytest.raises(UserError, match=r"The protocol 'frames' is for frames that follow given ones"):
        task.metrics("frames")


TINY: dict[str, Any] = {
    "steps": 2,
    "batch_size": 2,
    "eval_samples": 2,
    "device": "cpu",
    "workers": 0,
    "amp": "off",
    "minutes": None,
}


def test_a_training_from_several_frames_runs(tmp_path):
    result = densevision.train("video", image_size=(32, 32), out=tmp_path / "run", **TINY)
    assert math.isfinite(result["metrics"]["error"]) and {"psnr_1", "psnr_4"} <= set(result["baseline"])
    prediction = densevision.load(tmp_path / "run", "cpu").predict(*random_clip(4, 24))
    assert isinstance(prediction, PredictedClip) and prediction.frames.shape == (4, 24, 24, 3)


def test_a_training_from_the_first_frame_learns_masks_too(tmp_path):
    task = Video(context=1, frames=15)
    result = train(task, data="boats", image_size=(32, 32), out=tmp_path, **TINY)
    assert {"psnr_moving", "mask_iou"} <= set(result["metrics"])
    assert json.loads((tmp_path / "result.json").read_text())["metrics"]


@pytest.mark.slow
def test_both_players_resume_to_the_bit_and_stay_finite(tmp_path):
    task = Video(context=0, frames=32)
    options = {**TINY, "recipe": "vgan-narrow", "data": "boats-32", "steps": 3, "save_every": 1}

    def stop(step: int) -> None:
        if step == 1:
            raise KeyboardInterrupt

    result = train(task, out=tmp_path / "uninterrupted", **options)
    assert math.isfinite(result["metrics"]["error"]) and 0 <= result["metrics"]["static"] <= 1
    with pytest.raises(KeyboardInterrupt):
        train(task, out=tmp_path / "resumed", on_step=stop, **options)
    train(Video(), out=tmp_path / "resumed", resume=True)
    first, second = (load_state(tmp_path / name / "last" / "state.pt") for name in ("uninterrupted", "resumed"))
    for one, other in ((first["model"], second["model"]), (first["auxiliary"][0], second["auxiliary"][0])):
        assert one and [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    run_processes(Path(__file__).parent / "train_in_process.py", tmp_path / "two")
    train_all(tmp_path / "one")
    for name in RUNS:
        one, two = (load_state(tmp_path / count / name / "last" / "state.pt") for count in ("one", "two"))
        for part in ("model", "auxiliary", "optimizers"):
            assert difference(one[part], two[part], part) is None
