"""How a figure counts: two contestants in one process, A B A B after a warm-up, the median of the pairwise ratios.

Machines are noisy: what slows one contestant down for a while slows its neighbour down too, so ratios are results and
rates are colour. Threads and shapes stand beside every figure.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

Clock = Callable[[], float]
Round = Callable[[], float]
"""Plays one round of a contestant and returns the seconds it took."""

RATE = "pictures/s"

DISTURBING = 0.2
"""Cores that others may keep busy before a report warns of it."""


@dataclass(frozen=True)
class Setting:
    """What the caller chose.

    Attributes:
        device: where networks run.
        threads: of PyTorch and OpenCV.
        compile: whether our networks go through torch.compile.
        rounds: pairs A B of a comparison and repetitions of a rate; None leaves it to the benchmark.
    """

    device: torch.device
    threads: int
    compile: bool = False
    rounds: int | None = None


@dataclass(frozen=True)
class Pairs:
    """Seconds of both contestants, round by round."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast ours was, in every pair."""
        return tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))


def alternate(ours: Round, theirs: Round, rounds: int, warm_up: int = 2) -> Pairs:
    """Play A B A B.

    Args:
        ours, theirs: the contestants.
        rounds: pairs that count.
        warm_up: pairs before them that do not.
    """
    pairs = [(ours(), theirs()) for _ in range(warm_up + rounds)][warm_up:]
    return Pairs(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def repeat(work: Round, rounds: int, warm_up: int = 1) -> tuple[float, ...]:
    """Seconds of every round of a single contestant, after rounds that do not count."""
    return tuple([work() for _ in range(warm_up + rounds)][warm_up:])


class Stopwatch:
    """Seconds that work takes on a device: wall clock on a CPU, events on a GPU, which works after the call returned.

    Args:
        device: where the work is done.
        clock: for tests.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock

    def __call__(self, work: Callable[[], object], times: int = 1) -> float:
        """Seconds per call of work, called so many times in a row."""
        if self.device.type == "cuda":
            return self._by_events(work, times)
        settle(self.device)
        start = self.clock()
        for _ in range(times):
            work()
        settle(self.device)
        return (self.clock() - start) / times

    def rounds_of(self, work: Callable[[], object], times: int = 1) -> Round:
        """Work as a contestant of `alternate`."""
        return lambda: self(work, times)

    def _by_events(self, work: Callable[[], object], times: int) -> float:
        with torch.cuda.device(self.device):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            for _ in range(times):
                work()
            stop.record()
            torch.cuda.synchronize()
            return start.elapsed_time(stop) / 1000 / times


def settle(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class Figure:
    """One line of a report: a ratio of two contestants, or the rate of one.

    Attributes:
        what: what was done.
        shapes: on what.
        ours, theirs: the contestants; `theirs` is empty for a rate.
        ours_rate, theirs_rate: medians, in pictures/s.
        value, lowest, highest: the ratio (above 1: ours is faster), or the rate once more.
        unit: "x" for a ratio, else pictures/s.
        rounds: how many pairs or repetitions the median is of.
        least, aim: what is asked for and what is hoped for, in `unit`; None where the figure is only information.
    """

    what: str
    shapes: str
    ours: str
    ours_rate: float
    theirs: str
    theirs_rate: float | None
    value: float
    lowest: float
    highest: float
    unit: str
    rounds: int
    least: float | None = None
    aim: float | None = None

    @classmethod
    def of_pairs(
        cls,
        what: str,
        shapes: str,
        ours: str,
        theirs: str,
        pairs: Pairs,
        amount: float,
        least: float | None = None,
        aim: float | None = None,
    ) -> Self:
        """A comparison; `amount` is how many pictures one round handles."""
        ratios = pairs.ratios
        rates = (ours, amount / statistics.median(pairs.ours), theirs, amount / statistics.median(pairs.theirs))
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        return cls(what, shapes, *rates, *spread, "x", len(ratios), least, aim)

    @classmethod
    def of_rate(
        cls, what: str, shapes: str, ours: str, seconds: Sequence[float], amount: float, least: float | None = None
    ) -> Self:
        """A rate; `amount` is how many pictures one round handles."""
        rates = [amount / one for one in seconds]
        spread = (statistics.median(rates), min(rates), max(rates))
        return cls(what, shapes, ours, spread[0], "", None, *spread, RATE, len(rates), least)

    @property
    def verdict(self) -> str:
        """Whether the median is what was asked for, in words; empty where nothing was."""
        if self.least is None:
            return ""
        if self.aim is not None and self.value >= self.aim:
            return f"aim {self.aim:g} reached"
        return f"{self.least:g} reached" if self.value >= self.least else f"below {self.least:g}"


@dataclass(frozen=True)
class Report:
    """What one benchmark found.

    Attributes:
        name: in the catalogue.
        title: what it measures, in a sentence.
        device: where, as people call it.
        threads: of PyTorch and OpenCV while it ran.
        figures: the table.
        facts: other numbers that were measured, by name.
        remarks: sentences for the reader.
    """

    name: str
    title: str
    device: str
    threads: int
    figures: tuple[Figure, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


class Neighbours:
    """How many cores other processes kept busy between entering and leaving: beside them, figures are worth less.

    Attributes:
        cores: their share, known after leaving; None where the system does not tell (it does on Linux).
    """

    cores: float | None = None

    def __enter__(self) -> Self:
        self._start = self._now()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._start is not None and (now := self._now()) is not None:
            wall, machine, own = (after - before for before, after in zip(self._start, now, strict=True))
            self.cores = max(0.0, machine - own) / max(wall, 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds: by the wall clock, of all cores being busy, of this process and its finished children."""
        try:
            with open("/proc/stat", encoding="utf-8") as file:
                user, nice, system, _, _, *rest = map(int, file.readline().split()[1:9])
        except (OSError, ValueError):
            return None
        own = os.times()
        busy = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, own.user + own.system + own.children_user + own.children_system


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """So many threads for PyTorch and OpenCV, and the former numbers again afterwards."""
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU as its maker calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """A device as its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({processor()})"


def measured(benchmark: Callable[[Setting], Report], setting: Setting) -> Report:
    """A benchmark's report, with what others did meanwhile among its facts and, where it was much, its remarks."""
    with Neighbours() as others:
        report = benchmark(setting)
    if others.cores is None:
        return report
    remarks = report.remarks
    if others.cores > DISTURBING:
        remarks += (f"Other processes kept {others.cores:.1f} of the {cores()} cores busy meanwhile: measure again.",)
    facts = {**report.facts, "cores_busy_with_others": round(others.cores, 2)}
    return replace(report, facts=facts, remarks=remarks)


def machine() -> dict[str, Any]:
    """Where and when the figures were taken; the load says how busy the machine was with other things before."""
    import torchvision

    return {
        "processor": processor(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
