"""Methods of view synthesis on rooms and scenes of photos, and what explains their scores.

    python tools/reproduce/views.py rooms                           # every method on unseen rooms
    python tools/reproduce/views.py photos fern 189 252             # on photos, each left out
    python tools/reproduce/views.py folds fern 189 252              # the network trained on the scene itself
    python tools/reproduce/views.py stereo cones                    # depth of a stereo pair
    python tools/reproduce/views.py occlusion                       # which pixels of rooms the error comes from
    python tools/reproduce/views.py flicker predictions/fern_path   # of the frames of a video
    python tools/reproduce/views.py cost fern                       # seconds and memory of a view
    python tools/reproduce/views.py scene room                      # write an unseen room as a scene

A photo is predicted from the nearest others. Scores are PSNR, SSIM and mean absolute error.
"""

from __future__ import annotations

import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from cyclopts import App

from densevision import load, train
from densevision.datasets import open_dataset
from densevision.datasets.core.geometry import Size, plain_resize
from densevision.datasets.dataset import Sample
from densevision.datasets.field_types import Mask, transform_sample
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.rendering.room_views import render_views
from densevision.datasets.synthetic import RoomViews
from densevision.datasets.views.detect import read_scene
from densevision.datasets.views.middlebury_stereo import read_depth
from densevision.datasets.views.scene import FIELDS, Scene, View
from densevision.datasets.views.transforms_json import write_view_folder
from densevision.tasks.inference import Predictor
from densevision.tasks.view_synthesis import ViewSynthesis
from densevision.tasks.view_synthesis.classical import CLASSICAL
from densevision.tasks.view_synthesis.metrics import ViewMetrics
from densevision.tasks.view_synthesis.new_view import NewView

Method = Callable[[Sample], Any]


def homography(sample: Sample) -> NewView:
    """The nearest photo by the homography of SIFT matches with the target, which this method sees; as it is if there
    are less than four matches."""
    view, target = sample["views"][0], sample["image"]
    sift = cv2.SIFT.create()
    (points, first), (others, second) = (sift.detectAndCompute(image, None) for image in (view, target))  # type: ignore[call-overload]
    matrix = None
    if first is not None and second is not None and len(second) > 1:
        matches = [
            best
            for best, next_best in cv2.BFMatcher().knnMatch(first, second, k=2)
            if best.distance < 0.8 * next_best.distance
        ]
        if len(matches) >= 4:
            before = np.array([points[match.queryIdx].pt for match in matches], np.float32)
            after = np.array([others[match.trainIdx].pt for match in matches], np.float32)
            matrix, _ = cv2.findHomography(before, after, cv2.RANSAC, 3.0)
    if matrix is None:
        return NewView(view)
    return NewView(cv2.warpPerspective(view, matrix, view.shape[1::-1], borderMode=cv2.BORDER_REPLICATE))


def classical(predictor: Predictor) -> dict[str, Method]:
    """Methods without learning, by name."""
    planes = predictor.task.planes  # type: ignore[attr-defined]
    return {
        name: Predictor(predictor.task, kind(planes), predictor.fields, predictor.size).predict_sample
        for name, kind in CLASSICAL.items()
    }


def methods(predictor: Predictor) -> dict[str, Method]:
    """All methods by name, the network last."""
    return {
        **classical(predictor),
        "homography that sees the target": homography,
        predictor.model.__class__.__name__: predictor.predict_sample,
    }


def table(samples: list[Sample], by_name: dict[str, Method], protocol: str, strips: Path | None = None) -> None:
    """Print a row of scores per method; `strips` gets a strip per sample: the methods, then the photo."""
    views = {name: [method(sample) for sample in samples] for name, method in by_name.items()}
    for name, found in views.items():
        metrics = ViewMetrics(protocol)
        for view, sample in zip(found, samples, strict=True):
            metrics.update(view, sample)
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.compute().items()), flush=True)
    if strips is not None:
        for number, sample in enumerate(samples):
            images = [found[number].pixels for found in views.values()]
            write_image(strips / f"{number:03}.png", np.concatenate([*images, sample["image"]], axis=1))


def rooms(count: int = 50, checkpoint: str = "view_synthesis", strips: Path | None = None) -> None:
    """Scores on unseen rooms.

    Args:
        count: Number of rooms.
        checkpoint: The network.
        strips: Folder for a strip per room: the methods in the order of the rows, then the ground truth.
    """
    dataset, predictor = open_dataset("room-views", None, "test"), load(checkpoint, "cpu", "off")
    table([dataset.read(index) for index in range(count)], methods(predictor), "border-4", strips)


def photos(
    folder: Path,
    height: int,
    width: int,
    every: int = 1,
    checkpoint: str = "view_synthesis",
    only: str = "",
    sources: int = 4,
    planes: int = 32,
    strips: Path | None = None,
) -> None:
    """Scores on photos, each left out and predicted from the nearest others.

    Args:
        folder: The scene.
        height: Height to which photos are resized.
        width: Width to which photos are resized.
        every: One photo in this many is predicted.
        checkpoint: The network.
        only: Names of the predicted photos, separated by commas.
        sources: Number of photos that a view is predicted from.
        planes: Number of planes.
        strips: Folder for a strip per photo.
    """
    scene, names = read_scene(folder), [name for name in only.split(",") if name]
    targets = [view for view in scene.views[::every] if not names or view.name in names]
    samples = [resized(scene, view, (height, width), sources) for view in targets]
    table(samples, methods(opened(checkpoint, sources, planes)), "border-8", strips)


def opened(checkpoint: str, sources: int, planes: int) -> Predictor:
    """A network for other numbers of sources and planes than it was trained for."""
    predictor = load(checkpoint, "cpu", "off").with_options(views=sources, planes=planes)
    predictor.model.planes = planes  # type: ignore[assignment]
    return predictor


def resized(scene: Scene, view: View, size: Size, sources: int, without: frozenset[str] = frozenset()) -> Sample:
    """The sample that predicts a photo from the nearest others, at another size."""
    sample = scene.sample(view, scene.nearest(view, sources, without))
    height, width = sample["image"].shape[:2]
    return transform_sample(sample, {**FIELDS, "mask": Mask()}, plain_resize((height, width), size))


def folds(
    folder: Path,
    height: int,
    width: int,
    number: int = 3,
    fold: int | None = None,
    steps: int = 190,
    crop: int = 48,
    lr: float = 1e-3,
    init: str = "",
    sources: int = 4,
    planes: int = 32,
    strips: Path | None = None,
) -> None:
    """Train the network on a scene: one photo in NUMBER is held out, the others are predicted from each other; then
    the held-out photos are predicted from all others, and the next fold begins.

    Args:
        folder: The scene.
        height: Height to which photos are resized.
        width: Width to which photos are resized.
        number: Number of folds.
        fold: The only one to compute, from 0 on; all without it.
        steps: Steps per fold, of two windows each.
        crop: Height and width of the windows.
        lr: Learning rate.
        init: Checkpoint to start from; without it, the classical plane sweep.
        sources: Number of photos that a view is predicted from.
        planes: Number of planes of the predictions; trainings have 32.
        strips: Folder for a strip per photo.
    """
    scene, task, seconds = read_scene(folder), ViewSynthesis(views=sources, crop=crop), 0.0
    predictors: dict[str, Predictor] = {}
    for each in range(number) if fold is None else [fold]:
        held = frozenset(view.name for view in scene.views[each::number])
        views = [view for view in scene.views if view.name not in held]
        samples = [resized(scene, view, (height, width), sources, held) for view in views]
        small = [resized(scene, views[0], (48, 64), sources, held)]
        with tempfile.TemporaryDirectory() as out:
            started = time.process_time()
            train(
                task, data=samples, eval_data=small, model="deepstereo-light", init_from=init or None,
                image_size=(height, width), steps=steps, batch_size=2, lr=lr, optimizer="adam", weight_decay=0.0,
                clip_grad_norm=1.0, warmup_steps=10, eval_every=0, workers=0, threads=1, device="cpu", amp="off",
                out=out, force=True,
            )  # fmt: skip
            seconds += time.process_time() - started
            predictors.update(dict.fromkeys(held, opened(out, sources, planes)))
    print(f"trainings: {seconds:.0f} s of one core", flush=True)
    targets = [view for view in scene.views if view.name in predictors]
    samples = [resized(scene, view, (height, width), sources) for view in targets]
    trained_without = {id(sample): predictors[view.name] for sample, view in zip(samples, targets, strict=True)}
    by_name = classical(next(iter(predictors.values())))
    by_name["network"] = lambda sample: trained_without[id(sample)].predict_sample(sample)
    table(samples, by_name, "border-8", strips)


def stereo(folder: Path, planes: int = 64) -> None:
    """Depth of the camera of im2 from im2 and im6, without its photo as a target.

    Args:
        folder: A scene of Middlebury stereo.
        planes: Number of planes.
    """
    scene = read_scene(folder)
    left, right = scene.view("im2"), scene.view("im6")
    sample = scene.sample(replace(left, file=None), [left, right])
    true = read_depth(folder / "disp2.png")
    predictor = opened("view_synthesis", 2, planes)
    for name, method in {**classical(predictor), "network": predictor.predict_sample}.items():
        depth = method(sample).depth
        # Pixels of disparity between the photos, four steps apart.
        error = np.abs(1 / depth - 1 / true)[np.isfinite(true)] * 4 * true.shape[1]
        print(f"{name}: disparity error {error.mean():.2f} px, more than 2 px {(error > 2).mean():.3f}")


def occlusion(count: int = 50, checkpoint: str = "view_synthesis", height: int = 64) -> None:
    """Error in rooms by what the sources see of a pixel, and the scores of the true depth with known visibility.

    Args:
        count: Number of rooms.
        checkpoint: The network.
        height: Height of the images; they are wider by a quarter.
    """
    dataset = RoomViews(None, "test", (height, height * 5 // 4))
    predictor = load(checkpoint, "cpu", "off")
    rows = {"sweep": [], "network": [], "true depth, sources that see it": []}
    shares: list[np.ndarray] = []
    by_name = {**classical(predictor), "network": predictor.predict_sample}
    for index in range(count):
        sample = dataset.read(index)
        depths = render_views(dataset.random_stream(index), *dataset.size)["view_depths"]
        colors, visible = warped_by_true_depth(sample, depths)
        weights = np.where(visible.any(0), visible, True)[..., None]
        oracle = np.rint((colors * weights).sum(0) / weights.sum(0))
        inside = (slice(4, -4), slice(4, -4))
        kinds = pixel_kinds(sample["depth"], visible)[inside]
        shares.append(np.array([(kinds == kind).mean() for kind in range(len(KINDS))]))
        outputs = (by_name["winner-takes-all"](sample).pixels, by_name["network"](sample).pixels, oracle)
        for row, pixels in zip(rows.values(), outputs, strict=True):
            squared = ((pixels.astype(float) - sample["image"]) ** 2).mean(-1)[inside]
            row.append(np.array([squared[kinds == kind].sum() / squared.size for kind in range(len(KINDS))]))
    share = np.mean(shares, 0)
    print("pixels: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(KINDS, share, strict=True)))
    for name, row in rows.items():
        errors = np.array(row)
        score = float(np.mean(10 * np.log10(255**2 / errors.sum(1))))
        parts = errors.mean(0)
        listed = ", ".join(
            f"{kind} {value:.3f} of the squared error ({10 * np.log10(255**2 * portion / part):.1f} dB)"
            for kind, value, portion, part in zip(KINDS, parts / parts.sum(), share, parts, strict=True)
        )
        print(f"{name}: PSNR {score:.2f}; {listed}")


KINDS = ("seen by no source", "by some", "edges of depth", "others")
"""Kinds of pixels: what the sources see; of what all see, pixels beside a jump of the depth, which mix two surfaces."""


def pixel_kinds(depth: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(H, W) numbers of `KINDS`, from the depth (H, W) and what each source sees, (V, H, W)."""
    window = np.ones((3, 3), np.uint8)
    edges = cv2.dilate(depth, window) > 1.1 * cv2.erode(depth, window)
    seen = visible.sum(0)
    return np.select([seen == 0, seen < len(visible), edges], [0, 1, 2], 3)


def warped_by_true_depth(sample: Sample, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sources (V, H, W, 3) float64 warped by the true depth of the target, and (V, H, W) whether they see the point.

    Args:
        sample: with `depth`.
        depths: (V, H, W) of the sources.
    """
    depth, colors, visible = sample["depth"].astype(np.float64), [], []
    rows, columns = np.indices(depth.shape)
    points = np.linalg.inv(sample["camera"]) @ np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    points = np.vstack([points * depth.ravel(), np.ones(depth.size)])
    for image, camera, pose, seen in zip(sample["views"], sample["cameras"], sample["poses"], depths, strict=True):
        x, y, z = (camera @ pose @ points).reshape(3, *depth.shape)
        x, y = ((value / z).astype(np.float32) for value in (x, y))
        colors.append(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(float))
        # The farthest depth of the neighborhood: a pixel beside an edge mixes both sides.
        farthest = cv2.remap(cv2.dilate(seen, np.ones((3, 3))), x, y, cv2.INTER_NEAREST, borderValue=0)
        visible.append((z < 1.03 * farthest) & (z > 0))
    return np.stack(colors), np.stack(visible)


def flicker(folder: Path) -> None:
    """Change between neighboring frames of a video: mean absolute difference in gray levels, of all pixels and of the
    tenth of a frame that changes most.

    Args:
        folder: Frames NNN_view.png, as `densevision predict view_synthesis SCENE --path` writes them.
    """
    frames = [read_image(file).astype(np.float32) for file in sorted(folder.glob("*_view.png"))]
    changes = np.array([np.abs(after - before).mean(-1) for before, after in itertools.pairwise(frames)])
    flat = np.sort(changes.reshape(len(changes), -1), axis=1)
    means, most = flat.mean(1), flat[:, -flat.shape[1] // 10 :].mean(1)
    # What comes and goes within three frames is flicker; a moving edge comes and stays.
    blinks = [np.abs(b - (a + c) / 2).mean() for a, b, c in triples(frames)]
    print(
        f"{len(frames)} frames: from frame to frame {means.min():.2f} to {means.max():.2f} gray levels, largest to"
        f" median {means.max() / np.median(means):.2f}; tenth that changes most {most.min():.1f} to {most.max():.1f};"
        f" from the mean of both neighbors {np.min(blinks):.2f} to {np.max(blinks):.2f}"
    )


def triples(frames: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Each frame with those before and after it."""
    return zip(frames, frames[1:], frames[2:], strict=False)


def cost(folder: Path) -> None:
    """Print seconds and memory of a view of the size of the photos, with 32 and 96 planes.

    Args:
        folder: The scene.
    """
    scene = read_scene(folder)
    view = scene.views[len(scene) // 2]
    sample = scene.sample(view, scene.nearest(view, 4))
    predictor = load("view_synthesis", "cpu", "off")
    for planes in (32, 96):
        predictor.model.planes = planes  # type: ignore[assignment]
        started = time.process_time()
        predictor.predict_sample(sample)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        height, width = sample["views"].shape[1:3]
        seconds = time.process_time() - started
        print(
            f"{width}x{height}, {planes} planes: {seconds:.1f} s of one core, {memory:.0f} MiB of the process at most"
        )


def scene(folder: Path, number: int = 2) -> None:
    """Write the five images of an unseen room, and cameras.json.

    Args:
        folder: Where to.
        number: Number of the room.
    """
    write_view_folder(folder, open_dataset("room-views", None, "test").with_size((128, 160)).read(number))


if __name__ == "__main__":
    torch.set_num_threads(1)
    app = App(help=__doc__)
    for command in (rooms, photos, folds, stereo, occlusion, flicker, cost, scene):
        app.command(command)
    app()
