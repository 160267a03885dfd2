"""Methods of view synthesis on rooms and scenes of photos: PSNR, SSIM and mean absolute error, view by view left out.

    python tools/reproduce/views.py rooms [COUNT]
    python tools/reproduce/views.py FOLDER HEIGHT WIDTH [EVERY] [CHECKPOINT] [WITHOUT,WITHOUT]
    python tools/reproduce/views.py cost FOLDER
    python tools/reproduce/views.py scene FOLDER [NUMBER]

FOLDER is a scene; each EVERY-th of its photos is predicted from the four nearest others, at HEIGHT x WIDTH. CHECKPOINT
is the packaged one without a statement. `cost` prints seconds and memory of a view at the size of the photos. `scene`
writes an unseen room in the layout of `view-folders`, for a video: `densevision predict view_synthesis FOLDER --path
spiral:60`.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from densevision import load
from densevision.atomic_io import write_json
from densevision.datasets import open_dataset
from densevision.datasets.core.geometry import Size, plain_resize
from densevision.datasets.dataset import Sample
from densevision.datasets.field_types import Mask, transform_sample
from densevision.datasets.formats.image import write_image
from densevision.datasets.views.detect import read_scene
from densevision.datasets.views.scene import FIELDS
from densevision.tasks.inference import Predictor
from densevision.tasks.prediction import Prediction
from densevision.tasks.view_synthesis.classical import CLASSICAL
from densevision.tasks.view_synthesis.metrics import ViewMetrics
from densevision.tasks.view_synthesis.new_view import NewView

Method = Callable[[Sample], Prediction]


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


def methods(predictor: Predictor) -> dict[str, Method]:
    """All methods by name."""
    size, fields, planes = predictor.size, predictor.fields, predictor.task.planes  # type: ignore[attr-defined]
    networks = {name: Predictor(predictor.task, kind(planes), fields, size) for name, kind in CLASSICAL.items()}
    classical = {name: network.predict_sample for name, network in networks.items()}
    return {
        **classical,
        "homography that sees the target": homography,
        predictor.model.__class__.__name__: predictor.predict_sample,
    }  # type: ignore[dict-item]


def table(samples: list[Sample], predictor: Predictor, protocol: str) -> None:
    """Print a row of scores per output."""
    for name, output in methods(predictor).items():
        metrics = ViewMetrics(protocol)
        for sample in samples:
            metrics.update(output(sample), sample)
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.compute().items()), flush=True)


def scene_samples(folder: Path, size: Size, every: int, without: tuple[str, ...]) -> list[Sample]:
    """Photos of a scene, each left out and predicted from the four nearest others; `without` restricts the targets."""
    scene = read_scene(folder)
    targets = [view for view in scene.views[::every] if not without or view.name in without]
    samples = []
    for view in targets:
        sample = scene.sample(view, scene.nearest(view, 4))
        height, width = sample["image"].shape[:2]
        samples.append(transform_sample(sample, {**FIELDS, "mask": Mask()}, plain_resize((height, width), size)))
    return samples


def cost(folder: Path) -> None:
    """Print seconds and memory of a view with 32 and 96 planes."""
    scene = read_scene(folder)
    view = scene.views[len(scene) // 2]
    sample = scene.sample(view, scene.nearest(view, 4))
    predictor = load("view_synthesis", "cpu", "off")
    for planes in (32, 96):
        setattr(predictor.model, "planes", planes)  # noqa: B010
        started = time.process_time()
        predictor.predict_sample(sample)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        height, width = sample["views"].shape[1:3]
        seconds = time.process_time() - started
        print(
            f"{width}x{height}, {planes} planes: {seconds:.1f} s of one core, {memory:.0f} MiB of the process at most"
        )


def write_room(folder: Path, number: int) -> None:
    """Write the five images of a test room, and cameras.json."""
    sample = open_dataset("room-views", None, "test").with_size((128, 160)).read(number)
    images = [sample["image"], *sample["views"]]
    cameras = [sample["camera"], *sample["cameras"]]
    poses = [np.eye(3, 4), *sample["poses"]]
    views = {}
    for index, (image, camera, pose) in enumerate(zip(images, cameras, poses, strict=True)):
        write_image(folder / f"{index}.png", image)
        intrinsics = [float(camera[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2))]
        views[f"{index}.png"] = {"camera": intrinsics, "pose": np.asarray(pose, float).tolist()}
    near, far = sample["depth_range"].tolist()
    write_json(folder / "cameras.json", {"near": near, "far": far, "views": views})


def main(what: str, *arguments: str) -> None:
    torch.set_num_threads(1)
    if what == "cost":
        return cost(Path(arguments[0]))
    if what == "scene":
        return write_room(Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 2)
    if what == "rooms":
        dataset, predictor = open_dataset("room-views", None, "test"), load("view_synthesis", "cpu", "off")
        return table(
            [dataset.read(index) for index in range(int(arguments[0]) if arguments else 50)], predictor, "border-4"
        )
    height, width, every = (int(each) for each in (*arguments, 1)[:3])
    predictor = load(arguments[3] if len(arguments) > 3 else "view_synthesis", "cpu", "off")
    names = tuple(arguments[4].split(",")) if len(arguments) > 4 else ()
    return table(scene_samples(Path(what), (height, width), every, names), predictor, "border-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
