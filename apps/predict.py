"""`densevision predict`: answers for pictures, folders and videos, as pictures for eyes and data for programs."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError, unknown_name
from ..version import VERSION
from .launch import Launch
from .overlap import Steps, overlapped
from .record import Record
from .sources import Question, pictures_among, questions_about

if TYPE_CHECKING:
    from torch import Tensor

    from ..tasks.inference import Predictor, Prepared

Box = tuple[float, float, float, float]


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
    two that follow each other. What cannot be read is skipped, listed at the end, and the exit code is then 1.

    What lies answered in the output folder, asked alike of the same files, is not made again: a run that was
    interrupted goes on where it stopped. Several processes share the work: torchrun -m densevision predict ...

    Args:
        checkpoint: A task's name for the checkpoint that ships, or a checkpoint's file.
        inputs: Pictures, folders of pictures, videos (.mp4, .avi, .mov, .mkv, .webm), or patterns ("photos/*.jpg").
        out: Folder for the answers, and for predictions.jsonl, the record of what was made of which files; default:
            predictions.
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
    from ..tasks.inference import load

    part = None if box is None else rectangle(box)
    launch = Launch.here()
    sources = pictures_among(inputs, out)
    predictor = load(checkpoint, device, amp)
    predictor.seed = seed
    task, fields = predictor.task, predictor.fields
    if view is not None and view not in task.views:
        raise unknown_name(f"view of the task {task.name}", view, task.views)
    asking = Asking(predictor, out, view, flip, part)
    together = tuple(task.inputs(fields))
    what = {1: "picture", 2: "pair"}.get(len(together), "group")
    questions = launch.share(questions_about(sources, together))
    for line in terms_of(predictor.header) if launch.rank == 0 else ():
        print(line, file=sys.stderr)
    record = Record(out, task.name, asking.asked(), launch.rank, launch.processes)
    tally = answer_all(asking, questions, record, f"{what}s")
    tallies = launch.gathered(tally)
    if launch.rank == 0 or not launch.together:
        report(tallies, what, out)
    if any(each.skipped for each in tallies):
        sys.exit(1)


@dataclass
class Tally:
    """How a run went.

    Attributes:
        asked: questions so far.
        before: of them, those whose answers lay there.
        skipped: a sentence for each that has no answer.
        anew: answers that were made again, because the checkpoint or the options are others.
    """

    asked: int = 0
    before: int = 0
    skipped: list[str] = field(default_factory=list)
    anew: int = 0


@dataclass(frozen=True)
class Asking:
    """How every question of a run is asked, step by step.

    Attributes:
        predictor: the network.
        out: folder of the answers.
        view, flip, box: as `Predictor.predict` takes them.
    """

    predictor: Predictor
    out: Path
    view: str | None
    flip: bool
    box: Box | None

    def asked(self) -> dict[str, Any]:
        """Everything that an answer depends on beside its pictures."""
        one = self.predictor
        return {
            "densevision": VERSION,
            "task": repr(one.task),
            "weights": one.fingerprint,
            "size": list(one.size),
            "view": self.view or one.task.views[0],
            "flip": self.flip,
            "box": self.box,
            "seed": one.seed,
            "bf16": one.bf16,
        }

    def prepare(self, question: Question) -> Prepared:
        """The pictures, read and shown as the network takes them."""
        return self.predictor.prepared(*question.pictures(), view=self.view, flip=self.flip, box=self.box)

    def finish(self, question: Question, prepared: Prepared, output: Tensor) -> tuple[list[Path], str]:
        """The files of the answer, and what to say of it."""
        prediction = self.predictor.told(prepared, output)
        files = prediction.save(self.out / question.stem.parent, question.stem.name)
        return files, ", of ".join(filter(None, (prediction.brief(), prepared.remark)))

    @staticmethod
    def pixels(question: Question) -> int:
        """How large the question is."""
        from ..tasks.pictures import pixels_in

        try:
            return sum(map(pixels_in, question.pictures()))
        except UserError:
            return 0


def answer_all(asking: Asking, questions: Iterator[Question], record: Record, what: str) -> Tally:
    """Answer what is not answered yet, with a line for each; what was made when Ctrl-C came is recorded.

    Args:
        asking: how.
        questions: of this process.
        record: of the output folder.
        what: "pictures", for the lines.
    """
    # Up to twice Pillow's limit pictures are read, and beyond it refused with a sentence: no need to warn in between.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit", append=False)
    tally, started = Tally(), time.perf_counter()

    def open_ones() -> Iterator[Question]:
        for question in questions:
            tally.asked += 1
            if record.holds(question):
                tally.before += 1
            else:
                yield question

    def finish(question: Question, prepared: Prepared, output: Tensor) -> str:
        files, said = asking.finish(question, prepared, output)
        record.add(question, files)
        return f"{question.label}: {', '.join(file.name for file in files)} {said}"

    steps = Steps(asking.prepare, asking.predictor.output, finish, asking.pixels)
    answers = overlapped(open_ones(), steps)
    try:
        with closing(answers):
            for number, (question, said) in enumerate(answers, 1):
                if isinstance(said, UserError):
                    sentence = " ".join(str(said).split())
                    tally.skipped.append(sentence if question.label in sentence else f"{question.label}: {sentence}")
                else:
                    print(f"{said} ({number / (time.perf_counter() - started):.1f} {what}/s)", flush=True)
    except KeyboardInterrupt:
        answered = tally.before + record.made
        print(f"{answered} {what} are answered; the same command goes on from there.", file=sys.stderr)
        raise
    tally.anew = record.anew
    return tally


def report(tallies: list[Tally], what: str, out: Path) -> None:
    """What was skipped, and how many were answered, over all processes.

    Args:
        tallies: of the processes.
        what: "picture".
        out: folder of the answers.
    """
    asked, before, anew = (sum(getattr(each, name) for each in tallies) for name in ("asked", "before", "anew"))
    skipped = [sentence for each in tallies for sentence in each.skipped]
    for sentence in skipped:
        print(f"skipped: {sentence}", file=sys.stderr)
    if anew:
        print(f"{anew} answer(s) of another checkpoint or other options were made anew.", file=sys.stderr)
    earlier = f", {before} of them before" if before else ""
    print(f"{asked - len(skipped)} of {asked} {what}(s) answered{earlier}, in {out}.", file=sys.stderr)


def rectangle(box: str) -> Box:
    """The four numbers of `--box`.

    Raises:
        UserError: they are not four, or no numbers.
    """
    try:
        x, y, width, height = map(float, box.split(","))
    except ValueError:
        raise UserError(f"--box is '{box}'; give four numbers with commas: X,Y,WIDTH,HEIGHT in pixels.") from None
    return x, y, width, height


def terms_of(header: dict) -> list[str]:
    """What a network learned from, and what that data and the trunk's weights ask of its users.

    A network answers for any picture, in the words of what it has seen: that of MNIST calls a cup a nine.
    """
    lines, run, trunk = [], header, header.get("trunk") or {}
    if data := header.get("data"):
        name = header.get("network") or " + ".join(filter(None, (header.get("backbone"), header.get("head"))))
        lines.append(f"{name}, which learned from {data['title']}.")
    while run:
        data = run.get("data") or {}
        if "research" in data.get("terms", "") or "commercial" in data.get("terms", ""):
            lines.append(f"These weights were trained on {data['title']}: {data['terms']}.")
        run = run.get("init")
    if trunk.get("licence"):
        lines.append(f"Their trunk started from {trunk['weights']} ({trunk['licence']}).")
    return list(dict.fromkeys(lines))
