"""Benchmark of optical flow data against torchvision's datasets and the plain NumPy idiom: reading files, and scores.

Files are in the cache of the system. torchvision's images are PIL images; they are converted to arrays, as ours are. A
sample of our KITTI has the mask of visible pixels as well, for which it reads a second file of flow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..datasets.core.geometry import Size
from ..datasets.examples import fake_flow_sequence
from ..datasets.flow.flying_chairs import FlyingChairs
from ..datasets.flow.kitti_flow import KITTIFlow2015, pair_files
from ..datasets.formats.flow import read_flow, write_flow
from ..datasets.formats.image import write_image
from ..tasks.flow.flow_field import FlowField
from ..tasks.flow.metrics import PROTOCOLS, FlowMetrics
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

CHAIRS_SIZE: Size = (384, 512)
KITTI_SIZE: Size = (375, 1242)
FILES, CALLS, ROUNDS = 4, 5, 9


def measure(
    setting: Setting,
    *,
    chairs_size: Size = CHAIRS_SIZE,
    kitti_size: Size = KITTI_SIZE,
    calls: int = CALLS,
    rounds: int = ROUNDS,
) -> Report:
    """Measure samples, files and scores on one thread, as in a loader's worker; a round is all files, `calls` times."""
    from torchvision.datasets import FlyingChairs as TheirChairs
    from torchvision.datasets import KittiFlow as TheirKITTI

    cpu, figures = torch.device("cpu"), []
    watch = Stopwatch(cpu)

    def compare(
        what: str, size: Size, names: tuple[str, str], ours: Callable[[int], object], theirs: Callable[[int], object]
    ) -> None:
        one, other = (
            watch.as_round(lambda call=call: [call(index) for index in range(FILES)], calls) for call in (ours, theirs)
        )
        pairs = alternate(one, other, setting.rounds or rounds)
        shapes = f"{FILES} of {size[0]}x{size[1]}"
        figures.append(Figure.from_pairs(what, shapes, *names, pairs, FILES, required=1.0))

    with fixed_threads(1), tempfile.TemporaryDirectory() as folder:
        chairs, kitti = Path(folder) / "FlyingChairs", Path(folder) / "KittiFlow"
        write_chairs(chairs, chairs_size)
        write_kitti(kitti, kitti_size)
        our_chairs, our_kitti = FlyingChairs(chairs), KITTIFlow2015(kitti)
        their_chairs, their_kitti = TheirChairs(folder), TheirKITTI(folder)
        flows = [chairs / our_chairs.pair(index).flow for index in range(FILES)]
        lidar = [kitti / our_kitti.pair(index).flow for index in range(FILES)]
        names = ("densevision", "torchvision")
        compare("FlyingChairs, a sample", chairs_size, names, our_chairs.read, lambda i: arrays(their_chairs[i]))
        compare("KITTI 2015, a sample", kitti_size, names, our_kitti.read, lambda i: arrays(their_kitti[i]))
        compare(
            "KITTI 2015, flow",
            kitti_size,
            names,
            lambda index: read_flow(lidar[index]),
            lambda index: their_kitti._read_flow(str(lidar[index])),
        )
        plain = ("densevision", "plain NumPy")
        compare(".flo", chairs_size, plain, lambda i: read_flow(flows[i]), lambda i: plain_flo(flows[i]))
        target = [read_flow(flow) for flow in flows]
        predicted = [flow + np.float32(0.25) for flow in target]
        metrics = FlowMetrics(PROTOCOLS["pixel-mean"])
        compare(
            "scores of a prediction",
            chairs_size,
            ("all scores, float64", "EPE and 1, 3, 5 px, float32"),
            lambda index: metrics.update(FlowField(predicted[index]), {"flow": target[index]}),
            lambda index: plain_scores(predicted[index], target[index]),
        )
    title = "Optical flow files and scores, on one thread"
    return Report("flow-data", title, device_name(cpu), 1, tuple(figures))


def write_chairs(root: Path, size: Size) -> None:
    """Write pairs in the layout of FlyingChairs."""
    for number in range(FILES):
        sequence = fake_flow_sequence(number, size=size)
        for part, frame in zip(("img1", "img2"), sequence.frames, strict=True):
            write_image(root / "data" / f"{number:05}_{part}.ppm", frame)
        write_flow(root / "data" / f"{number:05}_flow.flo", sequence.flow)
    (root / "FlyingChairs_train_val.txt").write_text("1\n" * FILES)


def write_kitti(root: Path, size: Size) -> None:
    """Write pairs in the layout of KITTI 2015, with flow at every third pixel."""
    for number in range(FILES):
        sequence = fake_flow_sequence(number, size=size)
        first, second, flow, visible_flow = (root / file for file in pair_files("image_2", f"{number:06}"))
        for file, frame in zip((first, second), sequence.frames, strict=True):
            write_image(file, frame)
        rows, columns = np.indices(size)
        measured = ((rows + columns) % 3 == 0)[..., None]
        for file in (flow, visible_flow):
            write_flow(file, np.where(measured, sequence.flow, np.float32(np.nan)))


def arrays(sample: tuple) -> list[np.ndarray]:
    """A sample of torchvision as arrays."""
    return [np.asarray(value) for value in sample]


def plain_flo(path: Path) -> np.ndarray:
    """A `.flo` file as most scripts read it, (H, W, 2)."""
    with path.open("rb") as file:
        np.fromfile(file, np.float32, 1)
        width, height = np.fromfile(file, np.int32, 2)
        return np.fromfile(file, np.float32, 2 * width * height).reshape(height, width, 2)


def plain_scores(predicted: np.ndarray, target: np.ndarray) -> list[float]:
    """End-point error and outlier rates as most scripts compute them."""
    error = np.sqrt(((predicted - target) ** 2).sum(-1))
    return [float(error.mean()), *(float((error > pixels).mean()) for pixels in (1, 3, 5))]
