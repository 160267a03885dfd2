"""What test_processes.py has done in each of two processes: python two_processes.py FOLDER."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from toys import LINEAR, TRUNK, Relief, Reliefs, Rivals, follow, go_on, start

from densevision.tasks.depth import Depth
from densevision.tasks.evaluation import Share, evaluate
from densevision.tasks.training.loop import follow as follow_run


def main(folder: Path) -> None:
    # Every process gets a folder of its own, so that one that ought not to write is found out.
    follow(Relief(), folder / "relief" / rank(), network="plain", **LINEAR)
    for first in ("critic", "generator"):
        run = start(Rivals(first == "generator"), folder / first / rank(), network="pair", steps=4, evaluate_every=2)
        follow_run(run, lambda: False, None)
        torch.save(dict(run.model.named_parameters()), folder / f"{first}-{rank()}.pt")
    trunk(folder)
    count(folder)
    interrupt(folder)


def rank() -> str:
    """This process's number, known before torch.distributed is."""
    return os.environ["RANK"]


def trunk(folder: Path) -> None:
    """Statistics follow each process's own pictures; the score must be that of the weights that are saved."""
    result = follow(Depth(), folder / "trunk" / rank(), **TRUNK, steps=3, ema=0.5)
    (folder / f"trunk-{rank()}.json").write_text(json.dumps(result["metrics"]))


def count(folder: Path) -> None:
    """A split of five, of one and of two samples, counted by both."""
    task, test = Relief(), Reliefs(5, "test")
    baseline = task.baseline(Reliefs())
    scores = [evaluate(task, baseline, test, "all-pixels", samples).metrics for samples in (None, 1, 2)]
    (folder / f"counted-{rank()}.json").write_text(json.dumps([scores, list(Share.here().indices(5))]))


def interrupt(folder: Path) -> None:
    """One process alone is asked to stop."""

    def on_step(done: int) -> None:
        if done == 2 and rank() == "1":
            signal.raise_signal(signal.SIGINT)

    out = folder / "interrupted"
    options = {**LINEAR, "network": "dropout"}
    follow(Relief(), folder / "uninterrupted", **options)
    try:
        follow(Relief(), out, on_step=on_step, **options)
    except KeyboardInterrupt:
        (folder / f"stopped-{rank()}").touch()
    torch.distributed.barrier()
    go_on(Relief(), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
