"""Command-line options shared by the methods of `densevision visualize`: model, image, target, output.

Like the methods' modules, this imports nothing heavy until a method is called.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .model import InspectedModel, ModelInput
    from .objectives import Objective


class AttributionInputs(NamedTuple):
    """Inputs of an attribution method: the model, the preprocessed images and the objective to attribute."""

    model: InspectedModel
    model_input: ModelInput
    objective: Objective

    @property
    def pixels(self) -> tuple[Tensor, ...]:
        """Model inputs, (1, C, H, W) in [0, 1] each."""
        return self.model_input.pixels

    def mark(self, image: np.ndarray) -> np.ndarray:
        """Enlarge a visualization of the model inputs, with a cross at the target's pixel, box center or keypoint."""
        import torch

        from .gradients import evaluate_objective
        from .render import draw_crosses

        with torch.no_grad():
            _, result = evaluate_objective(self.model, self.pixels, self.objective)
        return draw_crosses(image, self.objective.positions(result))


@dataclass(kw_only=True)
class ModelOptions:
    """The model to visualize."""

    model: str
    """Backbone name (`densevision list backbones`, or timm:NAME), task name for the packaged checkpoint, or path of a
    checkpoint."""
    weights: str | None = None
    """Weights of a backbone: a file, or imagenet; random if not stated."""
    stride_in: Literal["1x1", "3x3"] | None = None
    """Convolution of a ResNet bottleneck that downsamples; as in the weights if not stated."""
    device: str = "cpu"
    """Device: cpu, cuda, mps or auto. On the CPU, the same seed gives the same numbers on every machine."""

    def open_model(self) -> InspectedModel:
        """Load the model; assumptions about its weights are printed on stderr."""
        from .model import open_model

        options: dict[str, Any] = {"stride_in": self.stride_in} if self.stride_in else {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = open_model(self.model, self.weights, device=self.device, **options)
        for warning in caught:
            print(warning.message, file=sys.stderr)
        return model


@dataclass(kw_only=True)
class AttributionOptions(ModelOptions):
    """Options of an attribution method: model, image, target and output file."""

    image: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]
    """Input image; two for a model with two inputs."""
    target: str
    """Target: class:tabby, layer3:17, layer3:17@12,8, depth@120,80, the last in pixels of the original image
    (densevision visualize list-targets)."""
    out: Path
    """Output image (.png); the raw array is written to the same name with .npy."""

    def open(self) -> AttributionInputs:
        """Load model and images, and parse the target.

        Raises:
            UserError: a model, image or target that cannot be loaded, or an `out` that is not a .png.
        """
        from .render import validate_out
        from .targets import parse_target

        validate_out(self.out)
        model = self.open_model()
        parse_target(self.target, model)  # an invalid target is reported before the images are read
        model_input = model.preprocess(*self.image)
        return AttributionInputs(model, model_input, parse_target(self.target, model, model_input))

    def write(self, image: np.ndarray, array: Any) -> None:
        """Write the visualization and the raw array, and print both paths."""
        from .render import write_image_and_array

        print(f"Wrote {' and '.join(map(str, write_image_and_array(self.out, image, array)))}.")
