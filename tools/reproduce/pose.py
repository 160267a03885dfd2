"""The packaged pose network: 3,980 people of LSP-Extended, cropped, and 900 of them in their complete images.

python tools/reproduce/pose.py LSP CROPS START OUT

LSP and CROPS are roots of `lsp-extended`: complete images, and others already cut out around the people. START is the
checkpoint that the four commands of docs/pose.md ("Real people") end with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import densevision
from densevision.datasets.mixture import Mixture
from densevision.datasets.pose.lsp import LSPExtended

HELD_OUT = 200
"""The last people of CROPS, which the choices were made on: none of them is trained on."""
SHARES = 5, 16, 3
"""Of the cropped people of LSP, those of CROPS, and the complete images of LSP in a batch."""
STAGES: tuple[dict[str, Any], ...] = ({"steps": 1256, "lr": 7e-4}, {"steps": 6000, "lr": 1e-3, "ema_decay": 0.998})
"""Two trainings, the second from the end of the first, with a schedule of its own."""
OPTIONS: dict[str, Any] = {
    "recipe": "sports",
    "max_rotation": 40.0,
    "max_zoom": 1.35,
    "freeze_bn": True,
    "eval_every": 0,
    "threads": 1,
    "workers": 1,
}


class FixedStem:
    """A callback: conv1 and layer1 learn in the first step alone, which spares their part of the backward passes."""

    def on_step(self, run: Any, terms: dict[str, float]) -> None:
        for module in (run.model.backbone.conv1, run.model.backbone.bn1, run.model.backbone.layer1):
            module.requires_grad_(False)


def people(lsp: str, crops: str) -> Mixture:
    """The training people of both sets, without those held out."""
    parts = [LSPExtended(lsp), LSPExtended(crops), LSPExtended(lsp).complete_images()]
    used = [np.ones(len(part)) for part in parts]
    used[1][-HELD_OUT:] = 0
    weights = [share * part / part.sum() for share, part in zip(SHARES, used, strict=True)]
    return densevision.mix(parts, sample_weights=np.concatenate(weights))


def main(lsp: str, crops: str, start: str, out: str) -> None:
    """Train to OUT/2/last/checkpoint.safetensors."""
    checkpoint = Path(start)
    for number, stage in enumerate(STAGES, 1):
        densevision.train(
            "pose",
            data=people(lsp, crops),
            eval_data=LSPExtended(lsp, "test"),
            callbacks=[FixedStem()],
            init_from=checkpoint,
            out=Path(out, str(number)),
            **OPTIONS,
            **stage,
        )
        checkpoint = Path(out, str(number), "last", "checkpoint.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
