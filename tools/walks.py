"""Three walks through the code, as the functions of densevision that they enter, in order of their first call.

    python tools/walks.py

1. A training sample: from the dataset to the loss. 2. A prediction: from the file of an image to the written files.
3. An option: `--backbone`, from the caller to the backbone. Renderers, properties of torch and nameless functions are
left out.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

import densevision
from densevision import load
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import build_trainer

ROOT = Path(densevision.__file__ or "").parent
OPTIONS: dict[str, Any] = {
    "steps": 1, "batch_size": 1, "workers": 0, "image_size": (64, 96), "backbone": "resnet18", "head": "unet",
    "device": "cpu",
}  # fmt: skip


@contextmanager
def recorded(title: str) -> Iterator[None]:
    """Print the functions that are entered inside the context."""
    entered: dict[CodeType, None] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        # Bodies of classes and modules, which imports run, are not functions.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(str(ROOT)):
            entered.setdefault(code)

    sys.setprofile(trace)
    try:
        yield
    finally:
        sys.setprofile(None)
    walk: dict[str, None] = {}
    for code in entered:
        file = Path(code.co_filename).relative_to(ROOT)
        if (
            "<" not in code.co_qualname.rpartition(".")[2]
            and "rendering" not in file.parts
            and "tools" not in file.parts
        ):
            walk.setdefault(f"{'.'.join(file.with_suffix('').parts)}: {code.co_qualname}")
    print(f"\n{title}: {len(walk)} functions of {len({name.split(':')[0] for name in walk})} modules")
    print("\n".join(f"{number:4}  {name}" for number, name in enumerate(walk, 1)))


def walks() -> None:
    """Record the three walks."""
    with tempfile.TemporaryDirectory() as folder:
        with recorded("--backbone, from the caller to a built model"):
            trainer = build_trainer("depth", Options(out=Path(folder) / "run"), None, None, OPTIONS)
        with recorded("A training sample, from the dataset to the loss"):
            batch = trainer.training_set.__getitems__([(0, 0)])
            assert isinstance(batch, dict)
            trainer.phases[0].loss(trainer.to_device(batch), {})
        predictor = load("depth", device="cpu", amp="off")
        image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
        file = Path(folder) / "photo.png"
        from PIL import Image

        Image.fromarray(image).save(file)
        with recorded("A prediction, from the file to the written files"):
            predictor.predict(file).save(folder, "photo")


if __name__ == "__main__":
    walks()
