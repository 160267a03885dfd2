"""Script that tests run in each of several processes: python in_processes.py FOLDER [shared]."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from toys import (
    BACKBONE,
    LINEAR,
    SHARED,
    Relief,
    Reliefs,
    Rivals,
    build_toy_trainer,
    resume_toy,
    train_in_lanes,
    train_shared,
    train_toy,
)

from densevision.tasks.depth import Depth
from densevision.tasks.distributed import ProcessGroup
from densevision.tasks.evaluation import score


def main(folder: Path) -> None:
    """What two processes run."""
    share(folder, (2, 4))
    # Every process gets its own folder, so that a second process that writes is noticed.
    train_toy(Relief(), folder / "relief" / rank(), model="plain", **LINEAR)
    for first in ("critic", "generator"):
        trainer = build_toy_trainer(
            Rivals(first == "generator"), folder / first / rank(), model="pair", steps=4, eval_every=2
        )
        trainer.run()
        torch.save(dict(trainer.model.named_parameters()), folder / f"{first}-{rank()}.pt")
    backbone(folder)
    count(folder)
    interrupt(folder)


def share(folder: Path, counts: tuple[int, ...]) -> None:
    """Steps of some micro-batches, shared by the processes; those of the last run read shards in lanes."""
    for count in counts:
        for name in SHARED:
            train_shared(name, folder / f"{name}-{count}", count)
    taken = train_in_lanes(folder / "lanes", folder / f"shards-{rank()}")
    (folder / f"taken-{rank()}.json").write_text(json.dumps(taken))


def rank() -> str:
    """Rank of this process, known before torch.distributed is initialized."""
    return os.environ["RANK"]


def backbone(folder: Path) -> None:
    """BatchNorm statistics differ between processes; the score must be that of the saved weights."""
    result = train_toy(Depth(), folder / "backbone" / rank(), **BACKBONE, steps=3, ema_decay=0.5)
    (folder / f"backbone-{rank()}.json").write_text(json.dumps(result["metrics"]))


def count(folder: Path) -> None:
    """Splits of five, one and two samples, evaluated by both processes."""
    task, test = Relief(), Reliefs(5, "test")
    baseline = task.baseline(Reliefs())
    scores = [score(task, baseline, test, "all-pixels", samples).metrics for samples in (None, 1, 2)]
    (folder / f"counted-{rank()}.json").write_text(json.dumps([scores, list(ProcessGroup.current().indices(5))]))


def interrupt(folder: Path) -> None:
    """Interrupt one of the two processes."""

    def on_step(done: int) -> None:
        if done == 2 and rank() == "1":
            signal.raise_signal(signal.SIGINT)

    out = folder / "interrupted"
    options = {**LINEAR, "model": "dropout"}
    train_toy(Relief(), folder / "uninterrupted", **options)
    try:
        train_toy(Relief(), out, on_step=on_step, **options)
    except KeyboardInterrupt:
        (folder / f"stopped-{rank()}").touch()
    torch.distributed.barrier()
    resume_toy(Relief(), out)


if __name__ == "__main__":
    if sys.argv[2:] == ["shared"]:
        share(Path(sys.argv[1]), (4,))
    else:
        main(Path(sys.argv[1]))
