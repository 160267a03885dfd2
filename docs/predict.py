"""A folder of fifty files, five of them damaged, answered by a run that is killed half-way and begun again.

python docs/predict.py [TASK ...]    for these tasks; default: for all whose checkpoint ships
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
from densevision.datasets.fields import Labels
from densevision.tasks import list_tasks

SIZES = ((15, (240, 320)), (15, (375, 500)), (15, (480, 640)))
"""How many files of which (height, width)."""
FRAME = (200, 280)
DAMAGED = 5


def write_inputs(folder: Path, kinds: list[Any]) -> int:
    """Fifty files that a task takes: photographs, frames of a moving view, or label maps.

    Returns:
        How many questions they make that can be answered.
    """
    if len(kinds) == 1 and not isinstance(kinds[0], Labels):
        write_folder(folder, SIZES)
        return sum(count for count, _ in SIZES)
    folder.mkdir()
    for number in range(50 - DAMAGED):
        Image.fromarray(_drawn(kinds[0], number)).save(folder / f"{number:03}.png")
    whole = (folder / "000.png").read_bytes()
    for number in range(DAMAGED):
        # At the end of the order: every frame before has its successor.
        (folder / f"9{number:02}.png").write_bytes(whole[: len(whole) * number // DAMAGED])
    return 50 - DAMAGED - (len(kinds) - 1)


def _drawn(kind: Any, number: int) -> np.ndarray:
    if isinstance(kind, Labels):
        return street_labels(kind, (90 + number, 160))
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[2 * number :, 3 * number :][: FRAME[0], : FRAME[1]])


def recorded(out: Path) -> Counter[str]:
    """How often every answer stands in the record."""
    path = out / "predictions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return Counter(json.loads(line)["answer"] for line in lines if line.startswith('{"answer"') and line.endswith("}"))


def killed(task: str) -> None:
    """Run, kill at half of the answers, run again; print what was answered when."""
    predictor = load(task, "cpu")
    kinds = list(predictor.task.inputs(predictor.fields).values())
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "files", Path(place) / "answers"
        wanted = write_inputs(folder, kinds)
        command = [sys.executable, "-m", "densevision", "predict", task, str(folder), "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(recorded(out)) < wanted // 2:
            time.sleep(0.02)
        process.kill()
        process.wait()
        before = recorded(out)
        dates = {file: file.stat().st_mtime_ns for file in out.iterdir()}
        again = subprocess.run(command, capture_output=True, text=True)
        after = recorded(out)
        touched = [name for name in before for file in out.glob(f"{name}_*") if file.stat().st_mtime_ns != dates[file]]
        twice = sum(count > 1 for count in after.values())
        print(
            f"{task}: {len(before)} answered before the kill, {len(after) - len(before)} after, "
            f"{wanted - len(after)} of {wanted} missing, {twice} recorded twice, {len(touched)} written twice, "
            f"{again.stderr.count('skipped:')} skipped, exit code {again.returncode}",
            flush=True,
        )


if __name__ == "__main__":
    for name in sys.argv[1:] or list_tasks():
        killed(name)
