"""`densevision evaluate`: a checkpoint on a split, under a protocol, beside the trivial answer."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..tasks.evaluation import Evaluation
    from ..tasks.inference import Predictor


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
    amp: Literal["auto", "bf16", "off"] = "auto",
    out: Path | None = None,
) -> None:
    """Score a checkpoint on a data set under a protocol.

    Args:
        checkpoint: A task's name for the checkpoint that ships, or a checkpoint's file.
        data: Data set by name (`densevision list data`); default: the one it was trained on.
        root: Folder of the data set; worlds need none.
        split: Split to score; default: the set's last one.
        protocol: What counts and how it is averaged; default: what people report on the set.
        samples: Score the first N only; default: all.
        flip: Average each answer with that of the mirrored picture; default: no.
        worst: Draw the N worst samples (input, truth, prediction) to worst.png; default: 0.
        device: cpu, cuda, mps or auto; default: auto.
        amp: Mixed precision; auto: bf16 where the device does it in hardware; default: auto.
        out: Folder for result.json and worst.png; default: print only, and draw where you stand.
    """
    from ..datasets import dataset_class, open_dataset
    from ..errors import UserError, unknown_name
    from ..tasks.evaluation import evaluate as score
    from ..tasks.evaluation import predictor_answer
    from ..tasks.evaluation import worst as worst_of
    from ..tasks.inference import load
    from ..tasks.sheet import draw_sheet, write_sheet
    from ..writing import write_text

    for option, value, least in (("samples", samples, 1), ("worst", worst, 0)):
        if value is not None and value < least:
            raise UserError(f"--{option} is {value}; it must be at least {least}.")
    predictor = load(checkpoint, device, amp)
    task, name = predictor.task, data or predictor.header["data"]["name"]
    test = task.examined(open_dataset(name, root, split or dataset_class(name).splits[-1]).at(predictor.size))
    protocol = protocol or task.default_protocol(name, test.fields)
    # Some protocols take a value: judge=CHECKPOINT.
    if protocol.partition("=")[0] not in task.protocols:
        raise unknown_name(f"protocol of the task {task.name}", protocol, task.protocols)
    task.inputs(test.fields)
    # A set without what the task needs, or with other classes or joints, is refused before anything is computed.
    for field, kind in task.targets(test.fields).items():
        if predictor.fields[field] != kind:
            raise UserError(f"{checkpoint} was trained for {predictor.fields[field]}; '{name}' holds other: {kind}.")
    baseline = trivial_scores(predictor, name, root, test, protocol, samples)
    answer = predictor_answer(predictor, protocol, flip)
    started = time.perf_counter()
    found = score(task, answer, test, protocol, samples, each=bool(worst), progress=_progress)
    seconds = time.perf_counter() - started
    result: dict[str, Any] = {
        "task": task.name,
        "options": dataclasses.asdict(task),  # type: ignore[call-overload]
        "checkpoint": Path(checkpoint).name,
        **origin(predictor.header),
        "data": name,
        "split": test.split,
        "protocol": protocol,
        "flip": flip,
        "samples": found.samples,
        "seconds": round(seconds, 1),
        "device": f"{predictor.device.type}{', bf16' if predictor.bf16 else ''}",
        "metrics": found.metrics,
        "baseline": None if baseline is None else baseline.metrics,
        "watch": {
            "name": task.watch.name,
            "higher_is_better": task.watch.higher_is_better,
            "value": found.metrics[task.watch.name],
            "baseline": None if baseline is None else baseline.metrics[task.watch.name],
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    if out is not None:
        write_text(out / "result.json", text + "\n")
    if worst:
        chosen = worst_of(found, task.watch.higher_is_better, worst)
        if not chosen:
            raise UserError(f"No sample of '{name}' counts under {protocol}: there is no worst one to draw.")
        shown = [(sample, answer(sample)) for sample in map(test.read, chosen)]
        path = (out or Path()) / "worst.png"
        write_sheet(path, draw_sheet(task, test.fields, shown), smallest=1000)
        score_of = dict(found.errors)
        for index in chosen:
            print(f"{test.label(index)}: {task.watch.name} {score_of[index]:.4f}", file=sys.stderr)
        print(f"The {len(chosen)} worst samples, worst first: {path}", file=sys.stderr)


def origin(header: dict[str, Any]) -> dict[str, Any]:
    """Which network answers and how it came to be, from its checkpoint's header."""
    return {
        **{name: header.get(name) for name in ("backbone", "head", "network")},
        "weights": (header.get("trunk") or {}).get("weights"),
        "trained_on": (header.get("data") or {}).get("name"),
        "steps": header.get("step"),
    }


def trivial_scores(
    predictor: Predictor, name: str, root: Path | None, test: Any, protocol: str, samples: int | None
) -> Evaluation | None:
    """What the trivial answer scores on the same samples; None, with a line that says why, without training samples."""
    from ..datasets import dataset_class, open_dataset
    from ..errors import UserError
    from ..tasks.evaluation import evaluate as score

    task = predictor.task
    try:
        training = open_dataset(name, root, dataset_class(name).splits[0]).at(predictor.size)
        trivial = task.baseline(training)
    except UserError as missing:
        print(f"No trivial baseline, since it is fitted on training samples: {missing}", file=sys.stderr)
        return None
    return score(task, trivial, test, protocol, samples)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)
