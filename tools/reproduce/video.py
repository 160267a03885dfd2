"""Next frames of a real video: a checkpoint beside copying and flow continuation, PSNR in dB.

python tools/reproduce/video.py VIDEO [CHECKPOINT]      frames of 160x96, every run of four and its next frame
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import densevision
from densevision.datasets.formats.video import read_video
from densevision.tasks.image_quality import psnr
from densevision.tasks.video.baselines import continue_flow, copy_last

SIZE = (160, 96)


def main(path: Path, checkpoint: str = "video") -> None:
    """Print the number of frames and the mean PSNR of each prediction."""
    frames = [cv2.resize(frame.pixels, SIZE, interpolation=cv2.INTER_AREA) for frame in read_video(path)]
    predictor, scores = densevision.load(checkpoint, "cpu", "off"), []
    context = predictor.task.context  # pyright: ignore[reportAttributeAccessIssue]
    for start in range(len(frames) - context):
        given, following = frames[start : start + context], frames[start + context].astype(np.float64)
        network = predictor.predict(*given).frames[0]  # pyright: ignore[reportAttributeAccessIssue]
        predicted = network, copy_last(given, 1)[0], continue_flow(given, 1)[0]
        scores.append([psnr(each.astype(np.float64), following) for each in predicted])
    names = ("network", "copying", "flow continuation")
    means = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(names, np.mean(scores, axis=0), strict=True))
    print(f"{len(scores)} frames: {means}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
