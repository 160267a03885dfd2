"""Interruption test of `densevision predict`: a run on fifty files is killed half-way and started again.

python tools/reproduce/predict.py [TASK ...]    for these tasks; all tasks with a packaged checkpoint if not stated

Five of the files are damaged. A line per task says how many predictions were made before and after the kill, and how
many are missing, recorded twice or written twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densevision import load
from densevision.apps.web.examples import street_labels
from densevision.benchmarks.predict import write_folder
from densevision.datasets.field_types import SegmentationMask
from densevision.tasks import list_tasks

SIZES = ((15, (240, 320)), (15, (375, 500)), (15, (480, 640)))
"""Numbers of files and their (height, width)."""
FRAME = (200, 280)
"""Height and width of a frame of the moving view."""
DAMAGED = 5


def write_inputs(folder: Path, field_types: list[Any]) -> int:
    """Write fifty files that a task accepts: photos, frames of a moving view, or label maps.

    Returns:
        The number of predictions that can be made from them.
    """
    if len(field_types) == 1 and not isinstance(field_types[0], SegmentationMask):
        write_folder(folder, SIZES)
        return sum(count for count, _ in SIZES)
    folder.mkdir()
    for number in range(50 - DAMAGED):
        Image.fromarray(_draw_input(field_types[0], number)).save(folder / f"{number:03}.png")
    intact = (folder / "000.png").read_bytes()
    for number in range(DAMAGED):
        # The last files in order, so that every intact frame is followed by its successor.
        (folder / f"9{number:02}.png").write_bytes(intact[: len(intact) * number // DAMAGED])
    return 50 - DAMAGED - (len(field_types) - 1)


def _draw_input(field_type: Any, number: int) -> np.ndarray:
    if isinstance(field_type, SegmentationMask):
        return street_labels(field_type, (90 + number, 160))
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[2 * number :, 3 * number :][: FRAME[0], : FRAME[1]])


def recorded_predictions(out: Path) -> Counter[str]:
    """How often each prediction is recorded in predictions.jsonl; a line that is being written is ignored."""
    path = out / "predictions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = (json.loads(line) for line in lines if line.startswith("{") and line.endswith("}"))
    return Counter(record["output"] for record in records if "output" in record)


def interrupt(task: str) -> None:
    """Run, kill after half of the predictions, run again, and print what was predicted when."""
    predictor = load(task, "cpu")
    field_types = list(predictor.task.inputs(predictor.fields).values())
    with tempfile.TemporaryDirectory() as workspace:
        folder, out = Path(workspace) / "files", Path(workspace) / "predictions"
        expected = write_inputs(folder, field_types)
        command = [sys.executable, "-m", "densevision", "predict", task, str(folder), "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(recorded_predictions(out)) < expected // 2:
            time.sleep(0.02)
        process.kill()
        process.wait()
        before = recorded_predictions(out)
        dates = {file: file.stat().st_mtime_ns for file in out.iterdir()}
        again = subprocess.run(command, capture_output=True, text=True)
        after = recorded_predictions(out)
        touched = [name for name in before for file in out.glob(f"{name}_*") if file.stat().st_mtime_ns != dates[file]]
        twice = sum(count > 1 for count in after.values())
        print(
            f"{task}: {len(before)} predicted before the kill, {len(after) - len(before)} after, "
            f"{expected - len(after)} of {expected} missing, {twice} recorded twice, {len(touched)} written twice, "
            f"{again.stderr.count('skipped:')} skipped, exit code {again.returncode}",
            flush=True,
        )


if __name__ == "__main__":
    for name in sys.argv[1:] or list_tasks():
        interrupt(name)
