"""`densevision evaluate`: a checkpoint on a split, under a protocol, beside the trivial answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def evaluate(
    checkpoint: str,
    /,
    *,
    data: str | None = None,
    root: Path | None = None,
    split: str | None = None,
    protocol: str | None = None,
    samples: int | None = None,
    flip: bool = False,
    worst: int = 0,
    device: str = "auto",
    amp: str = "auto",
    out: Path | None = None,
) -> None:
    """Score a checkpoint on a data set under a protocol.

    Args:
        checkpoint: a checkpoint's file, or a task's name for the one that ships.
        data: data set by name; default: the one it was trained on.
        root: folder of the data set; worlds need none.
        split: split to score; default: the set's last one.
        protocol: what counts and how it is averaged; default: what people report on the set.
        samples: score the first N only; default: all.
        flip: average each answer with that of the mirrored picture; default: no.
        worst: draw the N worst samples (input, truth, prediction); default: 0.
        device: cpu, cuda, mps or auto; default: auto.
        amp: auto (bf16 where the device does it in hardware), bf16 or off; default: auto.
        out: folder for result.json and pictures; default: print only.
    """
    from ..datasets import dataset_class, open_dataset
    from ..errors import unknown_name
    from ..tasks.evaluation import evaluate as score
    from ..tasks.evaluation import predictor_answer
    from ..tasks.evaluation import worst as worst_of
    from ..tasks.inference import load
    from ..tasks.sheet import draw_sheet, write_sheet
    from ..writing import write_text

    predictor = load(checkpoint, device, amp)
    task, name = predictor.task, data or predictor.header["data"]["name"]
    protocol = protocol or task.default_protocol(name)
    if protocol not in task.protocols:
        raise unknown_name(f"protocol of the task {task.name}", protocol, task.protocols)
    test = open_dataset(name, root, split or dataset_class(name).splits[-1]).at(predictor.size)
    answer = predictor_answer(predictor, flip)
    found = score(task, answer, test, protocol, samples, each=bool(worst), progress=_progress)
    trivial = task.baseline(open_dataset(name, root, dataset_class(name).splits[0]).at(predictor.size))
    baseline = score(task, trivial, test, protocol, samples)
    result: dict[str, Any] = {
        "task": task.name,
        "checkpoint": Path(checkpoint).name,
        "data": name,
        "split": test.split,
        "protocol": protocol,
        "flip": flip,
        "samples": found.samples,
        "metrics": found.metrics,
        "baseline": baseline.metrics,
        "watch": {
            "name": task.watch.name,
            "higher_is_better": task.watch.higher_is_better,
            "value": found.metrics[task.watch.name],
            "baseline": baseline.metrics[task.watch.name],
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    if out is not None:
        write_text(out / "result.json", text + "\n")
    if worst:
        chosen = worst_of(found, task.watch.higher_is_better, worst)
        shown = [(sample, answer(sample)) for sample in map(test.read, chosen)]
        path = (out or Path(".")) / "worst.png"
        write_sheet(path, draw_sheet(task, test.fields, shown), smallest=768)
        print(f"The {len(chosen)} worst samples, worst first: {path}", file=sys.stderr)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)
