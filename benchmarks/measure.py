"""Timing and reports: two implementations alternate in one process (A B A B); the result is the median pairwise ratio.

Machines are noisy: a disturbance affects adjacent rounds of both implementations, so ratios are reliable and rates are
only indicative. Every figure states its threads and shapes.
"""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

from ..errors import UserError
from ..tasks.distributed import available_cores

Clock = Callable[[], float]
Round = Callable[[], float]
"""Runs one round of an implementation and returns its duration in seconds."""

RATE = "images/s"

MAX_OTHER_CORES = 0.2
"""Number of cores kept busy by other processes above which a report has a warning."""


@dataclass(frozen=True)
class Setting:
    """Options of a benchmark run.

    Attributes:
        device: device of the models.
        threads: number of threads of PyTorch and OpenCV.
        compile: whether densevision's models are compiled with torch.compile.
        rounds: number of pairs of a comparison or repetitions of a rate; None: the benchmark's default.
    """

    device: torch.device
    threads: int
    compile: bool = False
    rounds: int | None = None


@dataclass(frozen=True)
class Pairs:
    """Durations of both implementations by round, in seconds."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Speedup of ours over theirs, for each pair."""
        return tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))


def alternate(ours: Round, theirs: Round, rounds: int, warm_up: int = 2) -> Pairs:
    """Run two implementations alternately: `rounds` measured pairs, after `warm_up` discarded ones."""
    pairs = [(ours(), theirs()) for _ in range(warm_up + rounds)][warm_up:]
    return Pairs(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def repeat(round_: Round, rounds: int, warm_up: int = 1) -> tuple[float, ...]:
    """Durations of the rounds of a single implementation, after `warm_up` discarded ones."""
    return tuple([round_() for _ in range(warm_up + rounds)][warm_up:])


class Stopwatch:
    """Timer of work on a device: wall clock on a CPU, CUDA events on a GPU, which runs asynchronously.

    Args:
        device: device of the work.
        clock: returns seconds; replaced in tests.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock

    def __call__(self, function: Callable[[], object], calls: int = 1) -> float:
        """Seconds per call of a function, averaged over consecutive calls."""
        if self.device.type == "cuda":
            return self._by_events(function, calls)
        synchronize(self.device)
        start = self.clock()
        for _ in range(calls):
            function()
        synchronize(self.device)
        return (self.clock() - start) / calls

    def as_round(self, function: Callable[[], object], calls: int = 1) -> Round:
        """A function as a round of `alternate` or `repeat`."""
        return lambda: self(function, calls)

    def _by_events(self, function: Callable[[], object], calls: int) -> float:
        with torch.cuda.device(self.device):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            for _ in range(calls):
                function()
            stop.record()
            torch.cuda.synchronize()
            return start.elapsed_time(stop) / 1000 / calls


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class Figure:
    """One line of a report: the ratio of two implementations, or the rate of one.

    Attributes:
        what: the measured operation.
        shapes: the shapes of its input.
        ours, theirs: names of the implementations; `theirs` is empty for a rate.
        ours_rate, theirs_rate: median rates in images/s.
        value, lowest, highest: median, minimum and maximum of the ratio (above 1: ours is faster) or of the rate.
        unit: "x" for a ratio, else images/s.
        rounds: number of pairs or repetitions.
        required, goal: minimum value and desired value in `unit`; None if the figure is only informative.
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
    required: float | None = None
    goal: float | None = None

    @classmethod
    def from_pairs(
        cls,
        what: str,
        shapes: str,
        ours: str,
        theirs: str,
        pairs: Pairs,
        images: float,
        required: float | None = None,
        goal: float | None = None,
    ) -> Self:
        """Figure of a comparison; `images` is the number of images per round."""
        ratios = pairs.ratios
        rates = (ours, images / statistics.median(pairs.ours), theirs, images / statistics.median(pairs.theirs))
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        return cls(what, shapes, *rates, *spread, "x", len(ratios), required, goal)

    @classmethod
    def from_rate(
        cls, what: str, shapes: str, ours: str, seconds: Sequence[float], images: float, required: float | None = None
    ) -> Self:
        """Figure of a rate; `images` is the number of images per round."""
        rates = [images / one for one in seconds]
        spread = (statistics.median(rates), min(rates), max(rates))
        return cls(what, shapes, ours, spread[0], "", None, *spread, RATE, len(rates), required)

    @property
    def verdict(self) -> str:
        """Whether the median reaches the requirement, as text; empty without a requirement."""
        if self.required is None:
            return ""
        if self.goal is not None and self.value >= self.goal:
            return f"goal {self.goal:g} reached"
        return f"{self.required:g} reached" if self.value >= self.required else f"below {self.required:g}"


class MissingPeer(UserError):
    """A library to compare with is not installed; none of them is a dependency."""


def peer(module: str, distribution: str) -> Any:
    """A module of a library to compare with.

    Raises:
        MissingPeer: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingPeer(f"This compares with {distribution}: pip install {distribution}.") from None


@dataclass(frozen=True)
class Report:
    """Result of a benchmark.

    Attributes:
        name: name of the benchmark.
        title: description of what it measures.
        device: name of the device.
        threads: number of threads of PyTorch and OpenCV.
        figures: lines of the table.
        facts: other measured values, by name.
        remarks: notes, one sentence each.
    """

    name: str
    title: str
    device: str
    threads: int
    figures: tuple[Figure, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


class OtherProcesses:
    """CPU usage of other processes inside a with block, which makes figures less reliable.

    Attributes:
        cores: average number of cores used by others, set at the end of the block; None if the system does not report
            it (Linux does).
    """

    cores: float | None = None

    def __enter__(self) -> Self:
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        if self._start is not None and (now := self._now()) is not None:
            wall, machine, own = (after - before for before, after in zip(self._start, now, strict=True))
            self.cores = max(0.0, machine - own) / max(wall, 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Wall time, busy time of all cores, and CPU time of this process and its finished children, in seconds."""
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
    """Set the number of threads of PyTorch and OpenCV, and restore it afterwards."""
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def processor() -> str:
    """Model name of the CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Model name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({processor()})"


def run_benchmark(benchmark: Callable[[Setting], Report], setting: Setting) -> Report:
    """Run a benchmark; the report's facts include the CPU usage of other processes, and its remarks a high usage."""
    with OtherProcesses() as others:
        report = benchmark(setting)
    if others.cores is None:
        return report
    remarks = report.remarks
    if others.cores > MAX_OTHER_CORES:
        remarks += (f"Other processes kept {others.cores:.1f} of the {available_cores()} cores busy; measure again.",)
    facts = {**report.facts, "cores_busy_with_others": round(others.cores, 2)}
    return replace(report, facts=facts, remarks=remarks)


def machine() -> dict[str, Any]:
    """Machine, versions and time of a run; the load is that before the benchmarks."""
    import torchvision

    return {
        "processor": processor(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "isa_limit": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "cores": available_cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
