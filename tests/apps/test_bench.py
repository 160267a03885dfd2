"""Figures and reports of benchmarks. Nothing is timed: clocks are fakes, and the numbers of tiny runs are ignored."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import re
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from densevision import benchmarks
from densevision.apps import bench as command
from densevision.apps.cli import main
from densevision.benchmarks import (
    BENCHMARKS,
    attribution,
    colorization_encoding,
    correlation,
    default_runs,
    exported,
    flow_data,
    image_pipeline,
    loader,
    measure,
    occlusion,
    predict,
    quantized,
    training_loop,
    training_step,
)
from densevision.benchmarks.measure import (
    Figure,
    OtherProcesses,
    Pairs,
    Report,
    Setting,
    Stopwatch,
    alternate,
    fixed_threads,
    repeat,
    run_benchmark,
)

CPU = torch.device("cpu")
QUICK = Setting(CPU, threads=1, rounds=1)
TINY = {
    "attribution": lambda setting: attribution.measure(setting, backbone="resnet20_cifar", size=32, steps=2),
    "colorization-encoding": lambda setting: colorization_encoding.measure(setting, num_images=2, size=12),
    "correlation": lambda setting: correlation.measure(setting, cases=(correlation.Case("none", (2, 3, 7, 9), 4, 2),)),
    "default-runs": lambda setting: default_runs.measure(
        setting, tasks=("depth",), image_size=(32, 32), batch_size=2, round_seconds=0.0
    ),
    "flow-data": lambda setting: flow_data.measure(setting, chairs_size=(24, 32), kitti_size=(24, 40), calls=1),
    "loader": lambda setting: loader.measure(setting, image_size=(32, 32), batch_size=2, workers=1, steps=2),
    "occlusion": lambda setting: occlusion.measure(
        setting, cases=(occlusion.Case("lenet5", 1.0),), size=32, row_stride=16, batch_sizes=(1, 2)
    ),
    "image-pipeline": lambda setting: image_pipeline.measure(
        setting, source_size=(45, 60), crop_size=16, num_files=2, batch_size=2
    ),
    "int8": lambda setting: quantized.measure(setting, tasks=("restoration",), batch=2, calibration=4, samples=2),
    "onnxruntime": lambda setting: exported.measure(setting, task="restoration", batches=(2,)),
    "predict": lambda setting: predict.measure(setting, sizes=((4, (60, 80)), (3, (90, 64))), batched=False),
    "synthetic-rooms": lambda setting: loader.measure_rendering(
        setting, sizes=(((12, 16), 60.0), ((16, 12), None)), num_images=2
    ),
    "training-loop": lambda setting: training_loop.measure(
        setting, source_size=(30, 40), crop_size=32, batch_size=2, steps=1, batches=1
    ),
    "training-step": lambda setting: training_step.measure(setting, batch_size=2, image_size=32, matmul_size=32),
}
FIGURE = Figure.from_pairs(
    "fp32", "16x3x8x8", "ours", "theirs", Pairs((1.0, 2.0, 4.0), (2.0, 2.0, 6.0)), 16, required=1.1, goal=1.2
)
REPORT = Report("training-step", "A step", "cpu (Abacus)", 3, (FIGURE,), {"load": 1.5}, ("It went well.",))


def seconds(*durations: float) -> measure.Round:
    """An implementation whose rounds take these seconds."""
    rounds = iter(durations)
    return lambda: next(rounds)


def test_implementations_alternate_and_warm_up_rounds_do_not_count():
    order = []

    def implementation(name: str) -> measure.Round:
        number = itertools.count(1)
        return lambda: order.append(name) or float(next(number))

    pairs = alternate(implementation("A"), implementation("B"), rounds=3, warm_up=2)
    assert "".join(order) == "ABABABABAB"
    assert pairs == Pairs((3.0, 4.0, 5.0), (3.0, 4.0, 5.0))
    assert repeat(seconds(9.0, 1.0, 2.0), rounds=2) == (1.0, 2.0)


def test_the_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_the_medians():
    # Medians are 4 and 20 seconds, whose ratio is 5; the pairs' ratios are 10, 5, 1, 2 and 7.
    pairs = alternate(seconds(1, 4, 30, 10, 3), seconds(10, 20, 30, 20, 21), rounds=5, warm_up=0)
    figure = Figure.from_pairs("step", "8x3", "ours", "theirs", pairs, images=8)
    assert pairs.ratios == (10, 5, 1, 2, 7)
    assert (figure.value, figure.lowest, figure.highest, figure.unit, figure.rounds) == (5, 1, 10, "x", 5)
    pairs = alternate(seconds(1, 1, 100), seconds(2, 3, 100), rounds=3, warm_up=0)
    assert Figure.from_pairs("step", "8x3", "ours", "theirs", pairs, images=8).value == 2
    assert (figure.ours_rate, figure.theirs_rate) == (8 / 4, 8 / 20)


def test_a_rate_is_the_median_of_its_rounds():
    figure = Figure.from_rate("synthetic-rooms", "8x8", "one thread", (1.0, 2.0, 4.0), images=100, required=60)
    assert (figure.value, figure.lowest, figure.highest, figure.unit) == (50, 25, 100, "images/s")
    assert figure.theirs_rate is None
    assert figure.verdict == "below 60"


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.09, "below 1.1"), (1.1, "1.1 reached"), (1.19, "1.1 reached"), (1.2, "goal 1.2 reached")]
)
def test_the_verdict_compares_the_median_with_the_requirement(value, verdict):
    assert dataclasses.replace(FIGURE, value=value).verdict == verdict
    assert dataclasses.replace(FIGURE, value=value, required=None).verdict == ""


def test_the_stopwatch_gives_the_seconds_of_one_call():
    ticks, calls = iter([10.0, 16.0]), []
    assert Stopwatch(CPU, lambda: next(ticks))(lambda: calls.append(1), calls=3) == 2.0
    assert len(calls) == 3


def test_a_gpu_is_timed_by_events_between_two_synchronizations(monkeypatch):
    order = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            order.append("record")

        def elapsed_time(self, stop: object) -> float:
            assert isinstance(stop, Event)
            return 500.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("synchronize"))
    watch = Stopwatch(torch.device("cuda"))
    assert watch.as_round(lambda: order.append("work"), 2)() == 0.25
    assert order == ["synchronize", "record", "work", "work", "record", "synchronize"]


def test_fixed_threads_restores_the_number_of_threads():
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    with pytest.raises(KeyError), fixed_threads(2):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
        raise KeyError
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_a_report_warns_of_the_cpu_usage_of_other_processes(monkeypatch):
    # Ten seconds on two cores: 12 busy core seconds, of which 9 were ours; then 9.5 of which 9 were ours.
    for machine, others, warning in ((12.0, 0.3, True), (9.5, 0.05, False)):
        times = iter([(100.0, 50.0, 7.0), (110.0, 50.0 + machine, 16.0)])
        monkeypatch.setattr(OtherProcesses, "_now", staticmethod(lambda times=times: next(times)))
        report = run_benchmark(lambda setting: REPORT, QUICK)
        assert report.facts == {"load": 1.5, "cores_busy_with_others": others}
        assert ("measure again" in report.remarks[-1]) == warning
    monkeypatch.setattr(OtherProcesses, "_now", staticmethod(lambda: None))
    assert run_benchmark(lambda setting: REPORT, QUICK) == REPORT


def test_the_loader_is_timed_after_the_first_batch_of_every_worker(monkeypatch):
    now = [0.0]

    def slow_stream(trainer, batch, workers, count):
        for _ in range(count):
            now[0] += 3  # a batch takes 3 s to come, a step 5 s
            yield {}

    def slow_step(trainer, source):
        next(source)
        now[0] += 5

    monkeypatch.setattr(loader, "stream", slow_stream)
    monkeypatch.setattr(loader, "train_step", slow_step)
    trainer: Any = SimpleNamespace(device=CPU)
    assert loader.time_loader(trainer, 1, workers=2, count=4, clock=lambda: now[0]) == 12
    assert loader.time_training(trainer, 1, workers=2, count=4, clock=lambda: now[0]) == (32, 12)


def test_a_step_costs_three_forward_passes_less_the_gradient_of_the_image():
    # He et al. 2015, table 1: 1.8e9 multiply-adds forward; conv1 alone has 112² · 64 · 7² · 3 of them.
    forward, first = 2 * 1.814e9, 2 * 112**2 * 64 * 49 * 3
    assert training_step.step_operations(224) == pytest.approx(3 * forward - first, rel=0.01)


@pytest.mark.parametrize(
    "name",
    [
        # An export, and eight loaders that start.
        pytest.param(name, marks=pytest.mark.slow) if name in ("int8", "onnxruntime", "training-loop") else name
        for name in sorted(BENCHMARKS)
    ],
)
def test_a_tiny_run_fills_every_figure_with_its_shapes_and_threads(name, monkeypatch):
    monkeypatch.setattr(training_step, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(image_pipeline, "COMPARED", 4)
    report = TINY[name](QUICK)
    assert report.name == name
    assert report.threads == 1
    assert report.figures
    for figure in report.figures:
        assert re.search(r"\d+x\d+", figure.shapes)
        assert figure.rounds == 1
        assert 0 < figure.lowest <= figure.value <= figure.highest < math.inf
        assert (figure.theirs_rate is None) == (figure.theirs == "")
    json.dumps(dataclasses.asdict(report))
    assert all(remark.endswith(".") for remark in report.remarks)


def test_our_crops_equal_pillows_to_one_gray_level(tmp_path):
    images = image_pipeline.write_files(tmp_path, (90, 120), 2)
    difference = image_pipeline.difference(images, 48)
    assert difference["largest_difference"] <= 1
    assert difference["mean_difference"] < 0.1


def test_every_benchmark_has_a_tiny_run_and_is_listed_in_the_help():
    assert sorted(TINY) == sorted(BENCHMARKS)
    assert all(name in str(command.bench.__doc__) for name in BENCHMARKS)


@pytest.fixture
def settings_used(monkeypatch):
    """The settings of the benchmarks that ran; every benchmark returns the same report."""
    settings = []

    def measure(setting, name: str):
        settings.append(setting)
        return dataclasses.replace(REPORT, name=name)

    entries = {name: partial(measure, name=name) for name in BENCHMARKS}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", entries)
    return settings


def call(*words: str) -> int:
    try:
        main(["bench", *words])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_plain_lines_and_json_state_shapes_threads_and_spread(settings_used, tmp_path, capsys):
    out = tmp_path / "new" / "figures.json"
    assert call("training-step", "--device", "cpu", "--threads", "3", "--rounds", "7", "--out", str(out)) == 0
    assert settings_used == [Setting(CPU, 3, False, 7)]
    printed = capsys.readouterr().out
    assert "training-step: A step. cpu (Abacus), 3 thread(s)." in printed
    assert "fp32 [16x3x8x8]: 1.50 x (1.00 - 2.00) of 3, goal 1.2 reached" in printed
    assert "It went well." in printed
    assert "\x1b" not in printed
    data = json.loads(out.read_text())
    assert {"processor", "cores", "load", "torch", "torchvision"} <= data["machine"].keys()
    (report,) = data["reports"]
    assert (report["threads"], report["device"], report["facts"]["load"]) == (3, "cpu (Abacus)", 1.5)
    (figure,) = report["figures"]
    assert (figure["shapes"], figure["value"], figure["lowest"], figure["highest"]) == ("16x3x8x8", 1.5, 1.0, 2.0)


def test_a_terminal_gets_a_table(settings_used, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert call("synthetic-rooms", "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert "3 thread(s)" in printed
    assert "━" in printed
    assert re.search(r"16x3x8x8.*1\.50 x \(1\.00 - 2\.00\) of 3.*goal 1\.2 reached", printed)


def test_without_a_name_all_benchmarks_run(settings_used, capsys):
    assert call("--device", "cpu", "--compile") == 0
    assert [setting.compile for setting in settings_used] == [True] * len(BENCHMARKS)
    printed = capsys.readouterr().out
    assert all(f"{name}: A step" in printed for name in BENCHMARKS)


def test_the_page_has_every_ratio_and_the_command_that_wrote_it(settings_used, tmp_path, capsys):
    page = tmp_path / "speed.md"
    assert call("training-step", "loader", "--device", "cpu", "--threads", "2", "--markdown", str(page)) == 0
    text = page.read_text()
    assert f"densevision bench training-step loader --threads 2 --markdown {page}\n" in text
    assert "## training-step\n\nA step. cpu (Abacus), 3 thread(s).\n" in text and "## loader\n" in text
    row = "| fp32 | 16x3x8x8 | ours: 8.0 images/s | theirs: 8.0 images/s | **1.50 x (1.00 - 2.00)**, n = 3 | goal 1.2"
    assert text.count(row) == 2 and text.count("- It went well.\n") == 2
    assert measure.processor() in text


def test_a_missing_library_leaves_out_its_comparisons_and_is_named(settings_used, monkeypatch, capsys, tmp_path):
    def without_peer(setting):
        return measure.peer("no_such_library", "no-such-library")

    monkeypatch.setitem(benchmarks.BENCHMARKS, "correlation", without_peer)
    assert call("correlation", "loader", "--device", "cpu", "--markdown", str(tmp_path / "speed.md")) == 0
    line = "correlation: This compares with no-such-library: pip install no-such-library."
    assert line in capsys.readouterr().out and f"- {line}" in (tmp_path / "speed.md").read_text()
    assert len(settings_used) == 1
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    report = TINY["attribution"](QUICK)
    assert {figure.theirs for figure in report.figures} == {"captum"}
    assert "This compares with grad-cam: pip install grad-cam." in report.remarks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope",), "There is no benchmark named 'nope'"),
        (("room",), "did you mean 'synthetic-rooms'?"),
        (("synthetic-rooms", "--threads", "0"), "--threads is 0; it must be at least 1."),
        (("synthetic-rooms", "--rounds", "0"), "--rounds is 0; it must be at least 1."),
        (("synthetic-rooms", "--device", "abacus"), "There is no device 'abacus'"),
    ],
)
def test_a_user_error_is_one_line_with_exit_code_2(words, message, capsys):
    assert call(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("densevision: ") and message in line
