"""The packaged optical flow network: the fine warping head, trained from a network of the warping head.

python tools/reproduce/flow.py CHECKPOINT PHOTOS OUT

CHECKPOINT has the head `warping`, as the two commands of docs/flow.md train it; PHOTOS is their folder of photos. The
same parameters under the head `fine-warping` are written to OUT/start.safetensors, the runs to OUT/1 and OUT/2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import densevision
from densevision.tasks.checkpoint import read_header, read_tensors, write_checkpoint

HEAD = "fine-warping"
STAGES: tuple[dict[str, Any], ...] = (
    {"image_size": (256, 320), "batch_size": 4, "steps": 160, "lr": 3e-4, "warmup_steps": 10, "ema_decay": 0.98},
    {"image_size": (384, 512), "batch_size": 2, "steps": 1100, "lr": 5e-4, "warmup_steps": 20, "ema_decay": 0.99},
)
"""Two trainings, one after the other; the second at the size of FlyingChairs, where things move farther in pixels."""


def start(checkpoint: str, file: Path) -> None:
    """Write the checkpoint of a warping head as one of the fine warping head, which has the same parameters."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(file, read_tensors(checkpoint), {**read_header(checkpoint), "head": HEAD})


def main(checkpoint: str, photos: str, out: str) -> None:
    """Write the initial network and train it, to OUT/2/last/checkpoint.safetensors."""
    initial = Path(out, "start.safetensors")
    start(checkpoint, initial)
    for number, stage in enumerate(STAGES, 1):
        densevision.train(
            "flow",
            data="synthetic-chairs",
            root=photos,
            recipe="photos",
            backbone="resnet18",
            backbone_levels=4,
            head=HEAD,
            init_from=initial,
            freeze_backbone=True,
            eval_every=0,
            eval_samples=24,
            save_every=50,
            threads=1,
            workers=1,
            out=Path(out, str(number)),
            **stage,
        )
        initial = Path(out, str(number), "last", "checkpoint.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
