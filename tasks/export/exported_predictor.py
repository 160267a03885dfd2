"""ExportedPredictor: a predictor that runs an exported file, with everything around it as in PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError, unknown_name
from ..inference import Predictor
from ..network import Network
from . import SUFFIXES, check_export_options
from .verify import Run, open_exported


class ExportedPredictor(Predictor):
    """Predicts with an exported file of a predictor's model, on the CPU, for scores of what will be deployed.

    Attributes:
        metadata: metadata of the file.

    Raises:
        UserError: it is no file of `export`, or one of another task.
    """

    def __init__(self, predictor: Predictor, path: str | Path) -> None:
        path = Path(path)
        super().__init__(predictor.task, predictor.model, predictor.fields, predictor.size, header=predictor.header)
        formats = {suffix: name for name, suffix in SUFFIXES.items()}
        if path.suffix not in formats:
            raise unknown_name("suffix of an exported file", path.suffix, formats)
        if not path.is_file():
            raise UserError(f"There is no exported file '{path}'.")
        check_export_options(formats[path.suffix], path)
        try:
            run, text = open_exported(path, formats[path.suffix])
            self.metadata: dict[str, Any] = json.loads(text)
        except Exception as error:  # each runtime raises its own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} is no file of `densevision export`, or damaged ({reason}).") from error
        if self.metadata["task"] != self.task.name:
            raise UserError(f"{path} is a model of {self.metadata['task']}, not of {self.task.name}.")
        self.exported = ExportedNetwork(run, self.model, self.metadata)

    def network(self, mode: str) -> Network:
        """The file.

        Raises:
            UserError: it was exported in another input mode.
        """
        # A search runs the network as the first mode does, more than once.
        if mode not in (self.metadata["example"]["mode"], self.task.inference.search_mode):
            raise UserError(
                f"An exported file predicts in the input mode {self.metadata['example']['mode']}, not {mode}."
            )
        return self.exported


class ExportedNetwork(Network):
    """An exported file in its runtime, as a network."""

    def __init__(self, run: Run, model: Network, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.run, self.dynamic = run, metadata["dynamic"]
        self.size: list[int] = metadata["size"]
        self.stride = metadata["multiple"]
        # In tiles, the receptive field of PyTorch's network would be needed.
        self.input_policy = "fixed" if model.input_policy == "fixed" else "whole"

    def forward(self, *inputs: Tensor) -> Tensor:
        """The raw output of inputs (B, C, H, W) in [0, 1]."""
        if not self.dynamic["size"] and list(inputs[0].shape[-2:]) != self.size:
            height, width = self.size
            raise UserError(f"The exported file takes images of {width}x{height} only.")
        if self.dynamic["batch"]:
            return self.run([each.contiguous() for each in inputs])
        rows = zip(*(each.split(1) for each in inputs), strict=True)
        return torch.cat([self.run([each.contiguous() for each in row]) for row in rows])
