"""Harness of the hostile suite: a command runs on a malicious input in a process of its own, within limits.

A generator writes the files of its cases below a folder and yields them. It draws everything from its `rng`, so that
another seed (`DENSEVISION_HOSTILE_SEED`) gives other inputs:

    python -m densevision.tests.hostile --seeds 0 1 2 3
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CPU_SECONDS = 10
MEMORY_GIB = 2.0
SEED = int(os.environ.get("DENSEVISION_HOSTILE_SEED", "0"))


@dataclass(frozen=True)
class Case:
    """A command on a malicious input."""

    kind: str
    """Row of the table: the format or the room."""
    name: str
    """What is wrong with the input; unique within the kind."""
    command: tuple[str, ...]
    """Words after `densevision`."""
    may_succeed: bool = False
    """Whether the input may also be accepted: a flipped bit can leave a valid file."""


@dataclass(frozen=True)
class Outcome:
    """How the command of a case ended."""

    case: Case
    code: int
    """Exit code; negative: the signal that ended it."""
    out: str
    err: str
    cpu_seconds: float
    peak_gib: float

    @property
    def fault(self) -> str | None:
        """What the command did wrong; None if it survived."""
        lines = self.err.splitlines()
        if self.cpu_seconds > CPU_SECONDS or self.code == -signal.SIGXCPU:
            return f"{self.cpu_seconds:.1f} s of CPU"
        if self.peak_gib > MEMORY_GIB:
            return f"{self.peak_gib:.1f} GiB"
        printed = f"{self.out}{self.err}".replace("\n", "").replace("\t", "")
        if self.code == 0 and self.case.may_succeed:
            return None if printed.isprintable() else f"control characters: {printed[:300]!r}"
        if self.code not in (1, 2):
            return f"exit code {self.code}: {self.err[-300:]}"
        if "Traceback" in self.err:
            return f"a traceback: {lines[-1][:300]}"
        # Lines on the progress may come first. A validation lists the problems on stdout.
        errors = [line for line in lines if line.startswith("densevision: ")]
        if (errors != lines[-1:] or "Warning" in self.err) and not (self.code == 1 and (lines or self.out)):
            return f"not one error message, in the last line: {self.err[:300]}"
        if not printed.isprintable():
            return f"control characters: {printed[:300]!r}"
        return None


Generator = Callable[[np.random.Generator, Path], Iterator[Case]]
"""Writes the files of its cases below a folder of its own, and yields the cases."""


def generate(generators: dict[str, Generator], folder: Path, seed: int = SEED) -> list[Case]:
    """All cases of several generators, each of which has its own folder and random numbers."""
    cases = []
    for number, (name, generator) in enumerate(sorted(generators.items())):
        (folder / name).mkdir()
        cases += generator(np.random.default_rng([seed, number]), folder / name)
    return cases


def run_case(case: Case, wall_seconds: float = 60) -> Outcome:
    """Run the command of a case in an empty folder, in a process that is forked when everything is imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["densevision.tests.hostile.preload"])
    with tempfile.TemporaryDirectory() as folder:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_supervise, args=(case.command, folder, wall_seconds, sender))
        process.start()
        # Without the sender here, the end of a process that sent nothing is an EOFError.
        sender.close()
        code, cpu_seconds, peak_gib = receiver.recv()
        process.join()
        out, err = (Path(folder, name).read_text(errors="backslashreplace") for name in ("out", "err"))
    return Outcome(case, code, out, err, cpu_seconds, peak_gib)


def _supervise(command: tuple[str, ...], folder: str, wall_seconds: float, sender: object) -> None:
    """Fork, run the command in the child, and send exit code, CPU seconds and peak memory in GiB."""
    before = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(command, folder)
    code = -signal.SIGALRM
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL or time.monotonic() - before < wall_seconds:
                code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() - before > wall_seconds:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    sender.send((code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20))  # type: ignore[attr-defined]


def _run(command: tuple[str, ...], folder: str) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.mkdir("work")
        for name, stream in (("out", 1), ("err", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), stream)
        os.chdir("work")
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", encoding="utf-8") for stream in (1, 2))
        resource.setrlimit(resource.RLIMIT_CPU, (2 * CPU_SECONDS, 2 * CPU_SECONDS + 1))
        # Beyond what is allowed, so that the fault is measured, but before the machine suffers.
        resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, 6 * 2**30))
        from densevision.apps.cli import main

        try:
            main(list(command))
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def table(outcomes: list[Outcome]) -> str:
    """Survived / tried of every kind, and every fault."""
    kinds = sorted({outcome.case.kind for outcome in outcomes})
    rows = []
    for kind in kinds:
        tried = [outcome for outcome in outcomes if outcome.case.kind == kind]
        survived = sum(outcome.fault is None for outcome in tried)
        rows.append(f"{kind:24} {survived:4} / {len(tried):4}")
    survived = sum(outcome.fault is None for outcome in outcomes)
    rows.append(f"{'total':24} {survived:4} / {len(outcomes):4}")
    rows += [f"  {each.case.kind}, {each.case.name}: {each.fault}" for each in outcomes if each.fault is not None]
    return "\n".join(rows)
