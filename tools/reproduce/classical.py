"""Scores of OpenCV's classical methods for optical flow and restoration, under the protocols of the tasks.

python tools/reproduce/classical.py flow --data flying-chairs --root flying_chairs --split all
python tools/reproduce/classical.py restoration --data image-folders --root photos

Prints a Markdown table; `--out DIR` also writes DIR/result.json.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from cyclopts import App

from densevision import create_task
from densevision.atomic_io import write_json
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.dataset import Sample
from densevision.tasks.evaluation import score
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.prediction import Prediction
from densevision.tasks.restoration.metrics import RestoredImage

Method = Callable[[Sample], Prediction]


def farneback(sample: Sample) -> np.ndarray:
    """Optical flow of Farnebäck (2003), (H, W, 2) in pixels, with wide windows for motion of tens of pixels."""
    first, second = _gray(sample)
    flow: Any = None
    return cv2.calcOpticalFlowFarneback(first, second, flow, 0.5, 5, 21, 5, 7, 1.5, 0)


def dis(sample: Sample) -> np.ndarray:
    """Optical flow by dense inverse search (Kroeger et al. 2016), (H, W, 2) in pixels, preset medium."""
    flow: Any = None
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*_gray(sample), flow)


def _gray(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    first, second = (cv2.cvtColor(sample[name], cv2.COLOR_RGB2GRAY) for name in ("first", "second"))
    return first, second


def _flow(method: Callable[[Sample], np.ndarray]) -> Method:
    return lambda sample: FlowField(method(sample).astype(np.float32))


def _filtered(method: Callable[[np.ndarray], np.ndarray]) -> Method:
    return lambda sample: RestoredImage(method(sample["degraded"]))


def _non_local_means(strength: float) -> Callable[[np.ndarray], np.ndarray]:
    def apply(image: np.ndarray) -> np.ndarray:
        # OpenCV converts to Lab and expects BGR.
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.cvtColor(cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength), cv2.COLOR_BGR2RGB)

    return apply


METHODS: dict[str, dict[str, Method]] = {
    "flow": {
        "zero": _flow(lambda sample: np.zeros_like(sample["flow"])),
        "Farnebäck": _flow(farneback),
        "DIS, medium": _flow(dis),
    },
    "restoration": {
        "degraded input": _filtered(lambda image: image),
        "median 3x3": _filtered(lambda image: cv2.medianBlur(image, 3)),
        "median 5x5": _filtered(lambda image: cv2.medianBlur(image, 5)),
        "bilateral, 5 px, 30 levels": _filtered(lambda image: cv2.bilateralFilter(image, -1, 30, 5)),
        "non-local means, h = 5": _filtered(_non_local_means(5)),
        "non-local means, h = 10": _filtered(_non_local_means(10)),
    },
}
SCORES = {"flow": {"epe": "epe, px", "fl_all": "fl_all, %"}, "restoration": {"psnr": "psnr, dB", "ssim": "ssim"}}


def classical(
    task: Literal["flow", "restoration"],
    /,
    *,
    data: str,
    root: Path | None = None,
    split: str | None = None,
    out: Path | None = None,
) -> None:
    """Score classical methods on a data set.

    Args:
        task: flow or restoration.
        data: Name of the data set.
        root: Folder of the data set; synthetic data sets need none.
        split: Split to score; the last split of the data set if not stated.
        out: Folder for result.json; nothing is written if not stated.
    """
    scored_task = create_task(task)
    test = scored_task.evaluation.dataset(open_dataset(data, root, split or dataset_class(data).splits[-1]))
    protocol = scored_task.evaluation.default_protocol(test)
    print(f"{data}, split {test.split}, {len(test)} samples, protocol {protocol}\n")
    print(f"| method | {' | '.join(SCORES[task].values())} |\n|{' --- |' * (1 + len(SCORES[task]))}")
    scores = {}
    for name, method in METHODS[task].items():
        scores[name] = score(scored_task, method, test, protocol).metrics
        print(f"| {name} | {' | '.join(f'{scores[name][score]:.3f}' for score in SCORES[task])} |", flush=True)
    if out is not None:
        result = {"task": task, "data": data, "split": test.split, "protocol": protocol, "samples": len(test)}
        write_json(out / "result.json", {**result, "methods": scores}, indent=2)


if __name__ == "__main__":
    App(default_command=classical)()
