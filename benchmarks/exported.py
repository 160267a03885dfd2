"""Benchmark of prediction against onnxruntime: the packaged depth network, and the same network exported to ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..tasks.export import export
from ..tasks.export.export_module import example_inputs
from ..tasks.inference import load
from ..tasks.tiling import eval_mode, run_padded
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, peer

TASK, BATCHES, ROUNDS = "depth", (1, 8), 9


def measure(setting: Setting, *, task: str = TASK, batches: tuple[int, ...] = BATCHES, rounds: int = ROUNDS) -> Report:
    """Measure batches of the training size, in fp32 on the CPU; exporting takes a minute."""
    runtime, cpu, figures = peer("onnxruntime", "onnxruntime"), torch.device("cpu"), []
    for module in ("onnx", "onnxscript"):
        peer(module, module)
    watch, predictor, difference = Stopwatch(cpu), load(task, "cpu", "off"), 0.0
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{task}.onnx"
        export(predictor, path, "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for batch in batches:
            images = example_inputs(predictor.preprocessor.inputs, batch, predictor.size)
            feed = {one.name: image.numpy() for one, image in zip(session.get_inputs(), images, strict=True)}

            @torch.inference_mode()
            def ours(images: list[torch.Tensor] = images) -> Any:
                with eval_mode(predictor.model):
                    return run_padded(predictor.model, images)

            def theirs(feed: dict[str, np.ndarray] = feed) -> Any:
                return session.run(None, feed)[0]

            expected = theirs()
            difference = max(difference, float(np.abs(ours().numpy() - expected).max() / np.abs(expected).max()))
            pairs = alternate(watch.as_round(ours), watch.as_round(theirs), setting.rounds or rounds)
            shapes = f"{batch}x3x{predictor.size[0]}x{predictor.size[1]}"
            figures.append(Figure.from_pairs(f"{task}, fp32", shapes, "PyTorch", "onnxruntime", pairs, batch))
    remark = f"Outputs differ by at most {difference:.1e} of the largest."
    title = "Prediction with the exported network"
    return Report("onnxruntime", title, device_name(cpu), setting.threads, tuple(figures), {}, (remark,))
