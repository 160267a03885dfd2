"""Bitwise comparison of the packaged checkpoints between two checkouts of this package.

    python tools/compare_checkpoints.py OLD_CHECKOUT [NEW_CHECKOUT]

Every packaged checkpoint predicts on scikit-image's photos in each checkout (a folder that Python can import as
`densevision`), with one thread and in fp32. A line says whether every array of the prediction is equal to the bit.
Exit code 1 where one differs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
TASKS = ("classification", "colorization", "depth", "flow", "memorability", "pose", "restoration", "translation")
"""Tasks of photos (hands are depth, videos are several frames); those that one of the checkouts lacks are left out."""
DIGEST = "--digests"


def digest(value: Any) -> str:
    """A hash of every array, number and text of a prediction, whatever its fields are called."""
    hashed = hashlib.sha256()

    def add(part: Any) -> None:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            for field in dataclasses.fields(part):
                add(getattr(part, field.name))
        elif isinstance(part, np.ndarray):
            hashed.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        elif isinstance(part, dict):
            for item in part.values():
                add(item)
        elif isinstance(part, (list, tuple)):
            for item in part:
                add(item)
        elif isinstance(part, (bool, int, float)) or part is None:
            hashed.update(repr(part).encode())

    add(value)
    return hashed.hexdigest()


def digests() -> dict[str, str]:
    """The digests of the checkout that Python imports, by "task photo"."""
    import skimage.data
    import torch

    from densevision import load
    from densevision.tasks import list_tasks

    torch.set_num_threads(1)
    found = {}
    for task in sorted(set(TASKS) & set(list_tasks())):
        predictor = load(task, device="cpu", amp="off")
        for name in PHOTOS:
            photo = getattr(skimage.data, name)()[:256, :320]
            inputs: list[np.ndarray] = [photo, np.roll(photo, (2, 3), (0, 1))]
            if task == "translation":
                names = len(predictor.fields["labels"].names)  # type: ignore[attr-defined]
                inputs = [(photo[..., 0] // 24 % names).astype(np.uint8)]
            found[f"{task} {name}"] = digest(predictor.predict(*inputs[: 2 if task == "flow" else 1]))
    return found


def digests_of(checkout: Path) -> dict[str, str]:
    """The digests of another checkout, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "densevision").symlink_to(checkout.resolve())
        command = [sys.executable, str(Path(__file__).resolve()), DIGEST]
        environment = {**os.environ, "PYTHONPATH": folder}
        printed = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


def main(old: Path, new: Path) -> None:
    before, after = digests_of(old), digests_of(new)
    common = [key for key in before if key in after]
    equal = [before[key] == after[key] for key in common]
    for key, same in zip(common, equal, strict=True):
        print(f"{key:28} {before[key][:16]} {'equal' if same else 'DIFFERENT'}")
    print(f"{sum(equal)} of {len(equal)} predictions are equal to the bit.")
    sys.exit(not all(equal))


if __name__ == "__main__":
    if sys.argv[1:] == [DIGEST]:
        sys.path.pop(0)  # this folder
        print(json.dumps(digests()))
    elif len(sys.argv) in (2, 3):
        main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parent.parent))
    else:
        sys.exit(__doc__)
