"""What OpenCV scores: methods without a network, under the protocols that networks are scored under.

python docs/classical.py flow --data flying-chairs --root flying_chairs --split all
python docs/classical.py restoration --data photographs --root photographs

Prints a table as Markdown; `--out DIR` also writes DIR/result.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from cyclopts import App

from densevision import create_task
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.dataset import Sample
from densevision.tasks.evaluation import evaluate
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.restoration.restored import Restored
from densevision.tasks.task import Prediction
from densevision.writing import write_text

Method = Callable[[Sample], Prediction]


def farneback(sample: Sample) -> np.ndarray:
    """OpenCV's Farnebäck (2003) with wide windows, for motion of tens of pixels."""
    first, second = _grey(sample)
    flow: Any = None
    return cv2.calcOpticalFlowFarneback(first, second, flow, 0.5, 5, 21, 5, 7, 1.5, 0)


def dis(sample: Sample) -> np.ndarray:
    """OpenCV's dense inverse search (Kroeger et al. 2016), preset medium."""
    flow: Any = None
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*_grey(sample), flow)


def _grey(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    first, second = (cv2.cvtColor(sample[name], cv2.COLOR_RGB2GRAY) for name in ("first", "second"))
    return first, second


def _flow(method: Callable[[Sample], np.ndarray]) -> Method:
    return lambda sample: FlowField(method(sample).astype(np.float32))


def _filtered(method: Callable[[np.ndarray], np.ndarray]) -> Method:
    return lambda sample: Restored(method(sample["degraded"]))


def _non_local_means(strength: float) -> Callable[[np.ndarray], np.ndarray]:
    def apply(picture: np.ndarray) -> np.ndarray:
        # It works in Lab, which it computes from BGR.
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        return cv2.cvtColor(cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength), cv2.COLOR_BGR2RGB)

    return apply


METHODS: dict[str, dict[str, Method]] = {
    "flow": {
        "zero": _flow(lambda sample: np.zeros_like(sample["flow"])),
        "Farnebäck": _flow(farneback),
        "DIS, medium": _flow(dis),
    },
    "restoration": {
        "the picture as it came": _filtered(lambda picture: picture),
        "median 3x3": _filtered(lambda picture: cv2.medianBlur(picture, 3)),
        "median 5x5": _filtered(lambda picture: cv2.medianBlur(picture, 5)),
        "bilateral, 5 px, 30 levels": _filtered(lambda picture: cv2.bilateralFilter(picture, -1, 30, 5)),
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
    """Score the methods on a data set.

    Args:
        task: flow or restoration.
        data: data set by name.
        root: folder of the data set; worlds need none.
        split: split to score; default: the set's last one.
        out: folder for result.json; default: print only.
    """
    asked = create_task(task)
    test = asked.examined(open_dataset(data, root, split or dataset_class(data).splits[-1]))
    protocol = asked.default_protocol(data, test.fields)
    print(f"{data}, split {test.split}, {len(test)} samples, protocol {protocol}\n")
    print(f"| method | {' | '.join(SCORES[task].values())} |\n|{' --- |' * (1 + len(SCORES[task]))}")
    found = {}
    for name, method in METHODS[task].items():
        found[name] = evaluate(asked, method, test, protocol).metrics
        print(f"| {name} | {' | '.join(f'{found[name][score]:.3f}' for score in SCORES[task])} |", flush=True)
    if out is not None:
        result = {"task": task, "data": data, "split": test.split, "protocol": protocol, "samples": len(test)}
        write_text(out / "result.json", json.dumps({**result, "methods": found}, indent=2) + "\n")


if __name__ == "__main__":
    App(default_command=classical)()
