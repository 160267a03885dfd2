"""Static quantization to int8: weights per channel, activations by the ranges that calibration images have."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..inference import Predictor
from ..preprocessing import ImageInputs
from ..tiling import pad_by_reflection
from .metadata import KEY

MAX_IMAGES = 100
"""Calibration images at most; more change the ranges little."""
HELD_OUT = 5
"""Every fifth image is for the comparison with PyTorch, not for the ranges."""

Calibration = Sequence[list[Tensor]]
"""Inputs of the network, one image (or pair) each: (1, C, H, W)."""


def split(calibration: Calibration) -> tuple[Calibration, Calibration]:
    """Images for the ranges, and those held out; one of each at least, of two or more."""
    return [each for number, each in enumerate(calibration) if number % HELD_OUT], calibration[::HELD_OUT]


def calibration_input(predictor: Predictor, images: ImageInputs) -> list[Tensor]:
    """Images of one prediction as inputs of the exported network, at its training size where the task resizes to it."""
    mode = "fit" if "fit" in predictor.task.inference.modes else None
    samples = predictor.preprocessor.prepare(images, predictor.model, mode).samples[:1]
    tensors = predictor.preprocessor.tensors(samples, torch.device("cpu"))
    multiple = 1 if predictor.model.input_policy == "fixed" else predictor.model.stride
    return [pad_by_reflection(each, multiple) for each in tensors]


def quantize(source: Path, target: Path, names: Sequence[str], calibration: Calibration, metadata: str) -> None:
    """Write an ONNX file with operators in int8, in the QDQ form that onnxruntime and OpenVINO run.

    Args:
        source: ONNX file in fp32.
        target: file to write.
        names: of the inputs.
        calibration: images for the ranges.
        metadata: JSON text that is stored in the file.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Gives one image after the other."""

        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, Any]] = (
                {name: tensor.numpy() for name, tensor in zip(names, each, strict=True)} for each in calibration
            )

        def get_next(self) -> dict[str, Any]:
            return next(self.feeds, None)  # type: ignore[return-value]  # onnxruntime ends at None

    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantized,
            Reader(),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        model = onnx.load(quantized)
    onnx.helper.set_model_props(model, {KEY: metadata})
    target.write_bytes(model.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the hints of onnxruntime.quantization, which logs to the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
