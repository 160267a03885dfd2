"""Benchmark of int8: exported networks in onnxruntime, quantized and in fp32, with sizes and scores."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch

from ..atomic_io import json_text
from ..datasets import dataset_class, open_dataset
from ..datasets.dataset import SyntheticDataset
from ..errors import UserError
from ..tasks.evaluation import prepare_split, score
from ..tasks.export import export
from ..tasks.export.export_module import example_inputs
from ..tasks.export.exported_predictor import ExportedPredictor
from ..tasks.export.quantize import calibration_input, quantize
from ..tasks.inference import Predictor, load
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, peer

TASKS, BATCH, ROUNDS = ("depth", "classification"), 8, 9
CALIBRATION, SAMPLES = 60, 200


def measure(
    setting: Setting,
    *,
    tasks: tuple[str, ...] = TASKS,
    batch: int = BATCH,
    rounds: int = ROUNDS,
    calibration: int = CALIBRATION,
    samples: int = SAMPLES,
) -> Report:
    """Measure batches of the training size on the CPU; exporting takes a minute for each task."""
    for module in ("onnxruntime", "onnx", "onnxscript"):
        peer(module, module)
    watch, figures, remarks = Stopwatch(torch.device("cpu")), [], []
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            predictor = load(task, "cpu", "off")
            files = [Path(folder) / f"{task}{end}.onnx" for end in ("-int8", "")]
            result = export(predictor, files[1], "onnx")
            names = [each["name"] for each in result.metadata["inputs"]]
            quantize(files[1], files[0], names, calibration_inputs(predictor, calibration), json_text(result.metadata))
            int8, fp32 = (ExportedPredictor(predictor, file) for file in files)
            size = result.metadata["size"]
            count = batch if result.dynamic_axes.batch else 1
            images = example_inputs(predictor.preprocessor.inputs, count, (size[0], size[1]))
            int8_round, fp32_round = (watch.as_round(partial(one.exported.run, images)) for one in (int8, fp32))
            pairs = alternate(int8_round, fp32_round, setting.rounds or rounds)
            shapes = f"{count}x{images[0].shape[1]}x{size[0]}x{size[1]}"
            figures.append(Figure.from_pairs(task, shapes, "int8", "fp32", pairs, count))
            small, large = (file.stat().st_size / 2**20 for file in files)
            remarks.append(f"{task}: {small:.2f} MiB in int8, {large:.2f} MiB in fp32; {scores(fp32, int8, samples)}.")
    title = "Networks in int8 and in fp32, both in onnxruntime"
    return Report("int8", title, device_name(torch.device("cpu")), setting.threads, tuple(figures), {}, tuple(remarks))


def calibration_inputs(predictor: Predictor, count: int) -> list[list[torch.Tensor]]:
    """Training samples of the model's dataset, or of the task's synthetic one, as inputs of the network."""
    dataset = open_dataset(own_dataset(predictor) or predictor.task.defaults.data, None, "train")
    dataset = dataset.with_size(predictor.size)
    samples = (dataset.read(index) for index in range(count))
    images = ([sample[name] for name in predictor.preprocessor.inputs] for sample in samples)
    return [calibration_input(predictor, predictor.preprocessor.load(each)) for each in images]


def own_dataset(predictor: Predictor) -> str | None:
    """The dataset of the checkpoint, if it is synthetic and needs no files."""
    name = predictor.header["data"]["name"]
    try:
        return name if issubclass(dataset_class(name), SyntheticDataset) else None
    except UserError:
        return None


def scores(fp32: Predictor, int8: Predictor, samples: int) -> str:
    """The monitored metric of both on the same samples; how to score them where that needs files."""
    name, metric = own_dataset(fp32), fp32.task.monitor.name
    if name is None:
        return f"scores by `densevision evaluate {fp32.task.name} --root FOLDER --exported FILE`"
    dataset = open_dataset(name, None, dataset_class(name).splits[-1])
    values = []
    for predictor in (fp32, int8):
        test, protocol = prepare_split(predictor, dataset, None, samples)
        values.append(score(predictor.task, predictor, test, protocol, samples, batch_size=8).metrics[metric])
    return f"{metric} {values[1]:.4f} in int8, {values[0]:.4f} in fp32, on {samples} samples of {name} ({protocol})"
