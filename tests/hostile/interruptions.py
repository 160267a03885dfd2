"""Kills, signals, full disks, second writers and damaged bits during trainings and predictions.

Every case runs a small training with workers (or a prediction) in a process of its own, disturbs it, and checks that
the process and its workers are gone, that nothing was lost, and that the resumed run equals an undisturbed one bit by
bit. The moments are drawn from the seed:

    python -m densevision.tests.hostile.interruptions [--seed 1] [--kills 20] [--flips 20]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 120
"""Time within which a process must have ended."""
ORPHAN_SECONDS = 30
"""Time within which the workers of a killed process must be gone: they look for it every 5 s."""
STEPS, SAVE_EVERY = 16, 4
FULL = 100
"""Bytes that a file may have when the disk is "full" (RLIMIT_FSIZE, which needs no privileges)."""
PLACES = {
    "startup": "tests.tasks.training.toys:Relief.build",
    "step": "tests.tasks.training.toys:Plain.forward",
    "evaluation": "tasks.inference:Predictor.predict_samples",
    "state": "torch:save",
    "checkpoint": "tasks.checkpoint:save_file",
    "log": "tasks.training.log:RunLog.write",
    "prediction": "tasks.depth.depth_map:DepthMap.save",
}
"""Functions in which a process is disturbed."""


@dataclass(frozen=True)
class Disturbance:
    """What happens to a process, some seconds after the n-th call of a function began."""

    place: str
    call: int
    event: str
    """A signal, "worker killed", "disk full", or "pause": until the file `go` exists in the output folder."""
    delay: float = 0.0


# In the process of a case


def run_process(action: str, folder: Path, disturbance: Disturbance | None, output: Any) -> None:
    """Run `train`, `resume` or `predict` as a command."""
    os.setsid()
    # As in a command; this process has inherited the method by which it was started.
    multiprocessing.set_start_method("fork", force=True)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, encoding="utf-8") for stream in (1, 2))
    from densevision.apps import cli

    if disturbance is not None:
        install(disturbance, folder)
    if action == "predict":
        cli.main(["predict", "depth", str(folder.parent / "images"), "--out", str(folder), "--device", "cpu"])
        return
    cli.app = lambda *_, **__: train(action, folder)  # type: ignore[assignment]
    cli.main([])


def train(action: str, folder: Path) -> None:
    """The training of every case; each step that it has done is a line of the file `.reached` beside the folder."""
    from densevision.atomic_io import append

    from ..tasks.training.toys import Relief, resume_toy, train_toy

    def on_step(step: int) -> None:
        append(folder.with_suffix(".reached"), f"{step}\n".encode())

    if action == "resume":
        resume_toy(Relief(), folder, on_step=on_step)
        return
    options: dict[str, Any] = {"model": "dropout", "ema_decay": 0.9, "steps": STEPS, "workers": 2}
    intervals: dict[str, Any] = {"save_every": SAVE_EVERY, "log_every": 3, "eval_every": STEPS // 2}
    train_toy(Relief(), folder, on_step=on_step, **options, **intervals)


def install(disturbance: Disturbance, folder: Path) -> None:
    """Replace the function of a disturbance by one that counts its calls."""
    import importlib

    module, _, path = PLACES[disturbance.place].partition(":")
    *parents, name = path.split(".")
    owner: Any = importlib.import_module(module if module == "torch" else f"densevision.{module}")
    for parent in parents:
        owner = getattr(owner, parent)
    original, main, calls = getattr(owner, name), os.getpid(), iter(range(1, sys.maxsize))

    def counting(*arguments: Any, **options: Any) -> Any:
        if os.getpid() == main and next(calls) == disturbance.call:
            if disturbance.delay:
                threading.Timer(disturbance.delay, disturb, (disturbance.event, folder)).start()
            else:
                disturb(disturbance.event, folder)
        return original(*arguments, **options)

    setattr(owner, name, counting)


def disturb(event: str, folder: Path) -> None:
    """Let an event happen to this process."""
    if event == "worker killed":
        os.kill(multiprocessing.active_children()[-1].pid or 0, signal.SIGKILL)
    elif event == "disk full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
    elif event == "pause":
        (folder / "paused").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        for name in ("paused", "go"):
            (folder / name).unlink()
    else:
        os.kill(os.getpid(), signal.Signals[event])


# In the process of the table


@dataclass
class Ended:
    """How a process ended."""

    code: int
    text: str
    """What it printed."""

    def require(self, code: int, sentence: str) -> None:
        """Check the exit code, and that the last line is a sentence that contains a text, without a traceback."""
        last = self.text.splitlines()[-1] if self.text else ""
        assert self.code == code, f"exit code {self.code}: {self.text[-500:]}"
        assert "Traceback" not in self.text, self.text[-800:]
        assert sentence in last, f"the last line is: {last}"


@dataclass
class Running:
    """A process of a case."""

    process: BaseProcess
    output: Any

    @classmethod
    def start(cls, action: str, folder: Path, disturbance: Disturbance | None = None) -> Running:
        """Start a process, forked from one that has imported everything."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["densevision.tests.hostile.preload"])
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run_process, args=(action, folder, disturbance, sender))
        process.start()
        sender.close()
        os.set_blocking(receiver.fileno(), False)
        return cls(process, receiver)

    def end(self) -> Ended:
        """Wait for the process and its group."""
        parts, deadline = [], time.monotonic() + SECONDS
        while self.process.is_alive() and time.monotonic() < deadline:
            self.process.join(0.05)
            parts.append(self._read())
        hung = self.process.is_alive()
        group = self.process.pid or 0
        # Only the workers of a killed process need a moment.
        killed = self.process.exitcode == -signal.SIGKILL
        left = wait_for_group(group, ORPHAN_SECONDS if killed or hung else 1.0) if not hung else [group]
        if left:
            os.killpg(group, signal.SIGKILL)
        parts.append(self._read())
        assert not hung, f"it did not end within {SECONDS} s: {''.join(parts)[-300:]}"
        assert not left, f"processes {left} of its group were left"
        return Ended(self.process.exitcode or 0, "".join(parts))

    def _read(self) -> str:
        try:
            return os.read(self.output.fileno(), 1 << 16).decode(errors="replace")
        except BlockingIOError:
            return ""


def wait_for_group(group: int, seconds: float) -> list[int]:
    """The processes of a group that run after at most so many seconds; those that nobody has waited for do not run."""
    deadline = time.monotonic() + seconds
    while (left := members(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def members(group: int) -> list[int]:
    """Process ids of a group, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


@dataclass
class Suite:
    """The cases, with their outcomes by kind: None, or what went wrong.

    Attributes:
        root: folder of all files.
        seed: seed of the moments and of the bits.
    """

    root: Path
    seed: int = 0
    outcomes: dict[str, list[str | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.reference = self.root / "reference"
        Running.start("train", self.reference).end().require(0, "Done in")

    def case(self, kind: str, check: Callable[[Path], None]) -> None:
        """Run one case in a folder of its own."""
        outcomes = self.outcomes.setdefault(kind, [])
        try:
            check(self.root / f"{kind.replace(' ', '-').replace(',', '')}-{len(outcomes)}")
            outcomes.append(None)
        except AssertionError as error:
            outcomes.append(str(error))
        print(f"{kind}: {outcomes[-1] or 'survived'}", file=sys.stderr, flush=True)

    def resume(self, folder: Path) -> None:
        """Resume a run, and compare it with the undisturbed one bit by bit."""
        from ..tasks.training.toys import require_same_runs

        Running.start("resume", folder).end().require(0, "Done in")
        require_same_runs(self.reference, folder)
        left = [path.name for path in folder.rglob("*") if ".part-" in path.name or path.name == ".lock"]
        assert not left, f"left in the folder: {left}"

    # Trainings

    def kill(self, folder: Path) -> None:
        """kill -9 at a random moment: at most one save interval is lost."""
        from densevision.tasks.training.state import load_state

        call, delay = int(self.rng.integers(1, STEPS + 1)), float(self.rng.uniform(0.001, 0.15))
        ended = Running.start("train", folder, Disturbance("step", call, "SIGKILL", delay)).end()
        if ended.code == 0:
            # The delay was longer than the rest of the run.
            return
        assert ended.code == -signal.SIGKILL, ended
        steps = folder.with_suffix(".reached")
        reached = steps.read_text().count("\n") if steps.exists() else 0
        if not (folder / "last" / "state.pt").exists():
            assert reached <= SAVE_EVERY, f"nothing was saved in {reached} steps"
            Running.start("resume", folder).end().require(2, "cannot be resumed: it contains no last/state.pt")
            return
        lost = reached - load_state(folder / "last" / "state.pt")["step"]
        assert lost <= SAVE_EVERY, f"{lost} steps were lost"
        self.notes.append(f"{lost}")
        self.resume(folder)

    def terminate(self, folder: Path, place: str, call: int) -> None:
        """SIGTERM: exit code 143, the state of that step is saved."""
        Running.start("train", folder, Disturbance(place, call, "SIGTERM")).end().require(143, "interrupted")
        if place == "startup":
            assert not folder.exists(), "a run folder was left"
            Running.start("train", folder).end().require(0, "Done in")
        self.resume(folder)

    def kill_worker(self, folder: Path) -> None:
        """A worker is killed, as by the kernel when memory runs out."""
        disturbance = Disturbance("step", int(self.rng.integers(2, STEPS // 2)), "worker killed")
        Running.start("train", folder, disturbance).end().require(1, "ended unexpectedly, in most cases because memory")
        self.resume(folder)

    def fill_disk(self, folder: Path, place: str, call: int) -> None:
        """The disk is full: one sentence, and the previous state can be resumed."""
        ended = Running.start("train", folder, Disturbance(place, call, "disk full")).end()
        ended.require(2, "densevision: File too large: ")
        assert "Resume with: densevision train" in ended.text, ended.text
        assert not list(folder.rglob("*.part-*")), "temporary files were left"
        self.resume(folder)

    def second_writer(self, folder: Path) -> None:
        """A second training in the same folder is refused, new or resumed, and does not disturb the first."""
        first = Running.start("train", folder, Disturbance("step", 2 * SAVE_EVERY, "pause"))
        wait_for(folder / "paused")
        for action in ("resume", "train"):
            Running.start(action, folder).end().require(2, "is in use by process")
        (folder / "go").touch()
        first.end().require(0, "Done in")
        self.resume(folder)

    # Predictions

    def write_images(self) -> None:
        """The images of the predictions."""
        from PIL import Image

        (self.root / "images").mkdir(exist_ok=True)
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
            Image.fromarray(noise).save(self.root / "images" / f"{number}.png")

    def require_predictions(self, folder: Path) -> None:
        """Run the same command again; then every prediction exists."""
        Running.start("predict", folder).end().require(0, "4 of 4 image(s) predicted")
        left = [path.name for path in folder.iterdir() if path.name.startswith(".") or ".part-" in path.name]
        assert not left and len(list(folder.glob("*_depth.npy"))) == 4, left

    def kill_prediction(self, folder: Path) -> None:
        """kill -9 in the middle; what is done is not done again."""
        delay = float(self.rng.uniform(0.001, 0.05))
        ended = Running.start("predict", folder, Disturbance("prediction", 2, "SIGKILL", delay)).end()
        assert ended.code in (-signal.SIGKILL, 0), ended
        self.require_predictions(folder)

    def fill_disk_of_prediction(self, folder: Path) -> None:
        """The disk is full while a prediction is written."""
        ended = Running.start("predict", folder, Disturbance("prediction", 2, "disk full")).end()
        ended.require(2, "densevision: File too large: ")
        assert not list(folder.glob("*.part-*")), "temporary files were left"
        self.require_predictions(folder)

    def second_predict(self, folder: Path) -> None:
        """A second prediction into the same folder is refused."""
        first = Running.start("predict", folder, Disturbance("prediction", 1, "pause"))
        wait_for(folder / "paused")
        Running.start("predict", folder).end().require(2, "is in use by process")
        (folder / "go").touch()
        first.end().require(0, "4 of 4 image(s) predicted")
        self.require_predictions(folder)

    # Bits

    def flip(self, folder: Path, name: str, load: Callable[[Path], object]) -> None:
        """One bit of a file is flipped: loading it says so, or gives what it gave before (a bit between the parts)."""
        from densevision.errors import UserError

        from ..tasks.training.toys import difference

        data = bytearray((self.reference / name).read_bytes())
        position, bit = int(self.rng.integers(len(data))), int(self.rng.integers(8))
        data[position] ^= 1 << bit
        path = folder / Path(name).name
        folder.mkdir()
        path.write_bytes(data)
        try:
            loaded = load(path)
        except UserError:
            return
        same = difference(loaded, load(self.reference / name)) is None
        assert same, f"bit {bit} of byte {position} of {len(data)} was not noticed"

    def run(self, kills: int, flips: int) -> None:
        """All cases."""
        from densevision.tasks.inference import load
        from densevision.tasks.training.state import load_state

        for _ in range(kills):
            self.case("training, kill -9", self.kill)
        for place, call in (("startup", 1), ("step", 7), ("evaluation", 1), ("state", 2)):
            self.case("training, SIGTERM", lambda folder, at=(place, call): self.terminate(folder, *at))
        self.case("training, worker killed", self.kill_worker)
        for place, call in (("state", 2), ("checkpoint", 3), ("log", 5)):
            self.case("training, disk full", lambda folder, at=(place, call): self.fill_disk(folder, *at))
        self.case("training, two writers", self.second_writer)
        self.write_images()
        self.case("prediction, kill -9", self.kill_prediction)
        self.case("prediction, disk full", self.fill_disk_of_prediction)
        self.case("prediction, two writers", self.second_predict)
        for _ in range(flips):
            self.case("bit flip, state", lambda folder: self.flip(folder, "last/state.pt", load_state))
            self.case("bit flip, checkpoint", lambda folder: self.flip(folder, "best.safetensors", load))

    def table(self) -> str:
        """Survived / tried of every kind, and every fault."""
        rows = [f"{kind:26} {each.count(None):3} / {len(each):3}" for kind, each in self.outcomes.items()]
        faults = [f"  {kind}: {fault}" for kind, each in self.outcomes.items() for fault in each if fault]
        lost = f"steps lost by kill -9, of at most {SAVE_EVERY}: {' '.join(self.notes)}"
        return "\n".join([f"seed {self.seed}", *rows, lost, *faults])


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.01)


def main() -> None:
    """Run all cases, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flips", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(Path(folder), arguments.seed)
        suite.run(arguments.kills, arguments.flips)
    print(suite.table())


if __name__ == "__main__":
    main()
