"""Three walks through the code, as the functions of densevision that they enter, in order of their first call.

    python tools/walks.py

1. An option: the functions that are handed `--backbone`, alone or among the options, from the caller to the backbone.
2. A training sample: from the dataset to the loss. 3. A prediction: from the file of an image to the written files.
Renderers and nameless functions are left out.
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
BACKBONE = "vgg11"
OPTIONS: dict[str, Any] = {
    "steps": 1, "batch_size": 1, "workers": 0, "image_size": (64, 96), "backbone": BACKBONE, "head": "unet",
    "device": "cpu",
}  # fmt: skip


def is_handed(value: Any, option: str) -> bool:
    """Whether an argument is the value of the option, or options that contain it."""
    if isinstance(value, dict):
        return option in map(str, value.values())
    return value == option if isinstance(value, str) else getattr(value, "backbone", None) == option


@contextmanager
def recorded(title: str, option: str = "") -> Iterator[None]:
    """Print the functions that are entered inside the context; with an option, those that are handed its value."""
    entered: dict[CodeType, None] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        # Bodies of classes and modules, which imports run, are not functions.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(str(ROOT)):
            arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
            if not option or any(is_handed(value, option) for value in arguments):
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
        with recorded("--backbone, from the caller to a built model", BACKBONE):
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
