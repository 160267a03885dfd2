"""Malicious words of a command line: numbers without bounds, and names that terminals and libraries do not expect."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .harness import Case
from .images import encode, photo

NUMBERS = ("nan", "inf", "-inf", "1e400", "-1e300", "9" * 5000, str(10**30), str(-(10**30)))


def generate_options(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of commands with hostile numbers, and with outputs of hostile names."""
    image = folder / "image.png"
    image.write_bytes(encode(photo(rng, 48), "PNG"))
    resnet = ("--model", "resnet18", "--out", "o.png")
    train = ("train", "depth", "--out", "run", "--workers", "0", "--dry-run")
    visualize = ("visualize", "feature-visualization", *resnet, "--target", "layer1:1", "--steps", "1")
    dream = ("visualize", "deepdream", *resnet, "--target", "layer1", "--image", str(image), "--steps", "1")
    for command, options in (
        (train, ("lr", "steps", "seed", "batch-size", "train-samples", "threads", "max-zoom", "epochs", "momentum")),
        (("predict", "depth", str(image)), ("seed", "batch-size", "max-megapixels")),
        (("evaluate", "depth"), ("samples", "batch-size", "save-worst")),
        (visualize, ("seed", "count", "lr", "transform-strength", "decay-power", "blur", "alpha")),
        (dream, ("seed", "octaves", "octave-scale", "jitter", "size", "lr")),
    ):
        for option in options:
            number = NUMBERS[int(rng.integers(len(NUMBERS)))]
            words = (*command, f"--{option}={number}")
            yield Case("option", f"{' '.join(command[:2])} --{option} {number[:9]}", words)
    for sizes in (("99999999", "99999999"), ("10000", "10000"), ("0", "0"), ("9" * 5000, "8")):
        yield Case("option", f"--image-size {sizes[0][:9]}", (*train, "--image-size", *sizes))
    name = os.fsdecode(bytes(rng.integers(128, 256, 9, np.uint8)) + b"\x1b[2J\n")
    out = str(folder / name)
    saliency = ("saliency", "--model", "depth", "--image", str(image), "--target", "depth@3,3")
    for words in (
        ("predict", "depth", str(image), "--out", out),
        ("data", "make-example", "depth-folders", f"{out} example"),
        ("visualize", *saliency, "--out", f"{out}.png"),
        ("export", "classification", "--to", "torch-export", "--out", f"{out}.pt2"),
        ("weights", "to-fp16", "depth", f"{out}.safetensors"),
    ):
        yield Case("name of an output", " ".join(words[:2]), words, may_succeed=True)
    (loop := folder / "loop").symlink_to(loop)
    yield Case("name of an output", "a loop of links", ("data", "make-example", "depth-folders", str(loop)))
