"""Video prediction beside predictions without a network: the tables of docs/video.md.

python tools/reproduce/video.py frames VIDEO [CHECKPOINT]   next frames of a real video, 160x96, from every four: PSNR in dB
python tools/reproduce/video.py boats CHECKPOINT [CLIPS]    clips of `boats` from their first frame
python tools/reproduce/video.py motion [STEPS [BACKBONE]]   what a head learns from the true motion of `boats`
python tools/reproduce/video.py samples CHECKPOINT [CLIPS]  clips from noise beside those of `boats-32`; samples.png
"""  # noqa: E501

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import densevision
from densevision.datasets import open_dataset
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.video import read_video
from densevision.datasets.rendering.boats import Clip, draw_boats
from densevision.tasks.image_quality import psnr
from densevision.tasks.inference import Predictor
from densevision.tasks.video import Video
from densevision.tasks.video.baselines import continue_flow, copy_last
from densevision.tasks.video.metrics import SPEED_BINS, describe, speed_histogram
from densevision.tasks.video.networks import FLOW_SCALE, MotionPredictor, arcs, compose
from densevision.tasks.video.predicted_clip import PredictedClip
from densevision.tasks.video.warping import splat

SIZE = (160, 96)
SHEET = 16
"""Samples in samples.png, one a row."""
FRAMES, SIDE, BATCH, TEST_CLIPS = 16, 64, 8, 60
"""Frames and side of clips of `boats`, clips of a step of `motion`, and clips that it is tested on."""


def load(checkpoint: str) -> tuple[Predictor, Video]:
    """A model of video prediction, in fp32 on the CPU."""
    predictor = densevision.load(checkpoint, "cpu", "off")
    assert isinstance(predictor.task, Video)
    return predictor, predictor.task


def predicted(predictor: Predictor, *inputs: object) -> PredictedClip:
    """The prediction for some inputs."""
    prediction = predictor.predict(*inputs)
    assert isinstance(prediction, PredictedClip)
    return prediction


def frames(path: str, checkpoint: str = "video") -> None:
    """Print the number of frames and the mean PSNR of each prediction."""
    video = [cv2.resize(frame.pixels, SIZE, interpolation=cv2.INTER_AREA) for frame in read_video(Path(path))]
    predictor, task = load(checkpoint)
    scores = []
    for start in range(len(video) - task.context):
        given, following = video[start : start + task.context], video[start + task.context].astype(np.float64)
        network = predicted(predictor, *given).frames[0]
        predictions = network, copy_last(given, 1)[0], continue_flow(given, 1)[0]
        scores.append([psnr(each.astype(np.float64), following) for each in predictions])
    names = ("network", "copying", "flow continuation")
    means = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(names, np.mean(scores, axis=0), strict=True))
    print(f"{len(scores)} frames: {means}")


def true_velocity(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Velocity (2, H, W) in pixels and turn (1, H, W) in radians per frame, of the boat nearest to each pixel."""
    height, width = clip.masks.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    distances = [np.hypot(x - path[0, 0], y - path[0, 1]) for path in clip.paths]
    nearest = np.argmin(distances, axis=0)
    velocity, turn = np.zeros((2, height, width)), np.zeros((1, height, width))
    for number, path in enumerate(clip.paths):
        (step_x, step_y, rate), (left, top) = path[1] - path[0], path[0, :2]
        # The step is the chord of an arc, which begins half a turn before its direction.
        angle = -rate / 2
        ahead = np.cos(angle) * step_x - np.sin(angle) * step_y, np.sin(angle) * step_x + np.cos(angle) * step_y
        around = -rate * (y - top), rate * (x - left)
        for axis in (0, 1):
            velocity[axis] = np.where(nearest == number, ahead[axis] + around[axis], velocity[axis])
        turn = np.where(nearest == number, rate, turn)
    return velocity, turn


def true_motion(clip: Clip, frames: int) -> PredictedClip:
    """The boats of the first frame, moved as they do, over the true background: what the composition can reach."""
    velocity, turn = true_velocity(clip)
    first, background = (torch.from_numpy(each).permute(2, 0, 1) / 255 for each in (clip.frames[0], clip.background))
    mask = torch.from_numpy(clip.masks[:1]).float()
    times = torch.arange(1, frames + 1)[:, None, None, None]
    flows = arcs(torch.from_numpy(velocity)[None], torch.from_numpy(turn)[None], times)
    arrived = splat(torch.cat((mask * first, mask))[None].expand(frames, -1, -1, -1), flows)
    masks = arrived[:, 3:].clamp(max=1)
    predicted = compose(masks, arrived[:, :3] / arrived[:, 3:].clamp(min=1e-6), background)
    colors = (255 * predicted.frames).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return PredictedClip(colors, masks=masks[:, 0].numpy())


def boats(checkpoint: str, clips: str = "100") -> None:
    """Print the scores of the network, of copying, of the true background alone, and of the true motion."""
    predictor, task = load(checkpoint)
    metrics = {name: task.metrics("frames") for name in ("network", "copying", "true background", "true motion")}
    for number in range(int(clips)):
        clip = draw_boats(generator(0, 0, number, Purpose.EXAMPLE), 1 + task.frames, *predictor.size)
        sample = {"clip": clip.frames, "mask": clip.masks}
        still = np.zeros(clip.masks[1:].shape, np.float32)
        predictions = (
            predicted(predictor, clip.frames[0]),
            PredictedClip(copy_last([clip.frames[0]], task.frames), masks=still),
            PredictedClip(copy_last([clip.background], task.frames), masks=still),
            true_motion(clip, task.frames),
        )
        for one, prediction in zip(metrics.values(), predictions, strict=True):
            one.update(prediction, sample)
    for name, one in metrics.items():
        scores = one.compute()
        chosen = ("psnr", "psnr_1", f"psnr_{task.frames}", "psnr_moving", "psnr_static", "mask_iou")
        print(f"{name}: " + ", ".join(f"{each} {scores[each]:.2f}" for each in chosen))


def motion(steps: str = "400", backbone: str | None = None) -> None:
    """Train on the true velocity of every pixel of a boat in the first frame; print the error on other clips."""
    torch.manual_seed(0)
    network = densevision.create_model(Video(context=1, frames=FRAMES - 1), backbone=backbone, image_size=(SIDE, SIDE))
    assert isinstance(network, MotionPredictor)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, int(steps))

    def on_boats(seed: int, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted and true velocity of the pixels of boats, (N, 2) each."""
        numbers = range(first, first + count)
        clips = [draw_boats(generator(seed, 0, number, Purpose.EXAMPLE), FRAMES, SIDE, SIDE) for number in numbers]
        images = torch.from_numpy(np.stack([clip.frames[0] for clip in clips])).permute(0, 3, 1, 2) / 255
        features = network.backbone.features(network.backbone.preprocessing(images))
        predicted = FLOW_SCALE * network.head(features, (SIDE, SIDE))[:, 4:6]
        true = torch.from_numpy(np.stack([true_velocity(clip)[0] for clip in clips])).float()
        boats = torch.from_numpy(np.stack([clip.masks[0] for clip in clips]))
        return predicted.movedim(1, -1)[boats], true.movedim(1, -1)[boats]

    for step in range(int(steps)):
        predicted, true = on_boats(1, BATCH * step, BATCH)
        optimizer.zero_grad()
        (predicted - true).abs().mean().backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        predicted, true = on_boats(0, 0, TEST_CLIPS)
    error, speed = (torch.linalg.vector_norm(each, dim=1).mean() for each in (predicted - true, true))
    cosine = torch.cosine_similarity(predicted, true, dim=1).clamp(-1, 1)
    angle = cosine.acos().rad2deg().median()
    print(f"velocity {speed:.2f} pixels per frame, error {error:.2f}; direction wrong by {angle:.0f} degrees (median)")


def samples(checkpoint: str, clips: str = "100") -> None:
    """Print the scores and the histograms of speeds of true and generated clips, and write some of those as strips."""
    predictor, task = load(checkpoint)
    dataset = open_dataset("boats-32", None, "test")
    metrics, strips = task.metrics("samples"), []
    speeds: dict[str, list[float]] = {"true": [], "generated": []}
    for index in range(int(clips)):
        sample, prediction = dataset.read(index), predicted(predictor, index)
        metrics.update(prediction, sample)
        speeds["true"].append(describe(sample["clip"]).speed)
        speeds["generated"].append(describe(prediction.frames).speed)
        strips.append(prediction.to_image())
    print(", ".join(f"{name} {value:.4g}" for name, value in metrics.compute().items()))
    limits = (0, *SPEED_BINS, np.inf)
    for name, found in speeds.items():
        shares = zip(limits, limits[1:], speed_histogram(found), strict=False)
        print(f"{name} speeds: " + ", ".join(f"{low:g} to {high:g}: {share:.2f}" for low, high, share in shares))
    write_image(Path("samples.png"), np.concatenate(strips[:SHEET]))


if __name__ == "__main__":
    {"frames": frames, "boats": boats, "motion": motion, "samples": samples}[sys.argv[1]](*sys.argv[2:])
