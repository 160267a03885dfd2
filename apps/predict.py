"""`densevision predict`: answers for pictures, folders and videos, as pictures for eyes and data for programs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal

from .sources import pictures_among, questions_about


def predict(
    checkpoint: str,
    /,
    *inputs: Path,
    out: Path = Path("predictions"),
    view: str | None = None,
    flip: bool = False,
    box: str | None = None,
    seed: int = 0,
    device: str = "auto",
    amp: Literal["auto", "bf16", "off"] = "auto",
) -> None:
    """Answer for pictures, folders of pictures and videos.

    A task of two pictures (flow) takes them in pairs: two at a time as they are named, and of a folder or a video every
    two that follow each other. What cannot be read is skipped, and the exit code is then 1.

    Args:
        checkpoint: A task's name for the checkpoint that ships, or a checkpoint's file.
        inputs: Pictures, folders of pictures, or videos (.mp4, .avi, .mov, .mkv, .webm).
        out: Folder for the answers; default: predictions.
        view: How the picture is shown: fit (at the training size, the answer resized), native (at the picture's own
            size, tiled when large), or what the task offers instead; default: the task's first.
        flip: Average each answer with that of the mirrored picture; default: no.
        box: Ask about a part of each picture, as X,Y,WIDTH,HEIGHT in pixels; default: the largest person that a
            detector finds (pose, where its weights are at hand), else the whole.
        seed: Of what a network draws when it is asked (translation's dropout): another one gives another picture;
            default: 0.
        device: cpu, cuda, mps or auto; default: auto.
        amp: Mixed precision; auto: bf16 where the device does it in hardware; default: auto.
    """
    from ..errors import UserError
    from ..tasks.inference import load

    part = None if box is None else rectangle(box)
    sources = pictures_among(inputs, out)
    predictor = load(checkpoint, device, amp)
    predictor.seed = seed
    together = tuple(predictor.task.inputs(predictor.fields))
    questions = questions_about(sources, together)
    for line in terms_of(predictor.header):
        print(line, file=sys.stderr)
    what = {1: "picture", 2: "pair"}.get(len(together), "group")
    skipped: list[str] = []
    number, started = 0, time.perf_counter()
    for number, question in enumerate(questions, 1):
        try:
            prediction = predictor.predict(*question.pictures(), view=view, flip=flip, box=part)
        except UserError as mistake:
            sentence = " ".join(str(mistake).split())
            skipped.append(sentence if question.label in sentence else f"{question.label}: {sentence}")
            continue
        files = prediction.save(out / question.stem.parent, question.stem.name)
        rate = number / (time.perf_counter() - started)
        print(f"{question.label}: {', '.join(f.name for f in files)} {prediction.brief()} ({rate:.1f} {what}s/s)")
    for sentence in skipped:
        print(f"skipped: {sentence}", file=sys.stderr)
    print(f"{number - len(skipped)} of {number} {what}(s) answered, in {out}.", file=sys.stderr)
    if skipped:
        sys.exit(1)


def rectangle(box: str) -> tuple[float, float, float, float]:
    """The four numbers of `--box`.

    Raises:
        UserError: they are not four, or no numbers.
    """
    from ..errors import UserError

    try:
        x, y, width, height = map(float, box.split(","))
    except ValueError:
        raise UserError(f"--box is '{box}'; give four numbers with commas: X,Y,WIDTH,HEIGHT in pixels.") from None
    return x, y, width, height


def terms_of(header: dict) -> list[str]:
    """What the data of a checkpoint and of the runs it started from, and the trunk's weights, ask of its users."""
    lines, run, trunk = [], header, header.get("trunk") or {}
    while run:
        data = run.get("data") or {}
        if "research" in data.get("terms", "") or "commercial" in data.get("terms", ""):
            lines.append(f"These weights were trained on {data['title']}: {data['terms']}.")
        run = run.get("init")
    if trunk.get("licence"):
        lines.append(f"Their trunk started from {trunk['weights']} ({trunk['licence']}).")
    return list(dict.fromkeys(lines))
