"""Peak memory of `densevision predict` by the size of the image, per task.

python tools/measure_memory.py --tasks classification depth colorization --megapixels 12 24 48 100
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

TASKS = ("classification", "depth", "colorization")
MEGAPIXELS = (12, 24, 48, 100)


def write_photo(path: Path, megapixels: float) -> None:
    """Write a smooth JPEG of 4:3, just below a number of megapixels."""
    height = int((megapixels * 1e6 * 3 / 4) ** 0.5)
    small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (height * 4 // 3, height), interpolation=cv2.INTER_CUBIC))


def peak_gib(task: str, image: Path, out: Path) -> float:
    """Peak resident memory of a command, in GiB."""
    command = [sys.executable, "-m", "densevision", "predict", task, str(image), "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed.")
    return usage.ru_maxrss / 2**20


def main() -> None:
    """Print a row per size, in GiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--megapixels", nargs="+", type=float, default=MEGAPIXELS)
    arguments = parser.parse_args()
    print("| megapixels |", " | ".join(arguments.tasks), "|")
    for megapixels in arguments.megapixels:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder, "photo.jpg")
            write_photo(image, megapixels)
            peaks = [peak_gib(task, image, Path(folder, task)) for task in arguments.tasks]
        print(f"| {megapixels:g} |", " | ".join(f"{peak:.2f}" for peak in peaks), "|", flush=True)


if __name__ == "__main__":
    main()
