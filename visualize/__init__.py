"""Visualization for any PyTorch model: attribution, feature visualization, correspondence and style transfer.

>>> from densevision import visualize  # doctest: +SKIP
>>> visualize.saliency(model, "cat.jpg", target=281).save("saliency.png")  # doctest: +SKIP

Every method takes a `Predictor`, a `Backbone`, any `nn.Module`, or the name of a model (`core.model.inspect_model`),
and leaves it as it was. Like the rest of the package, this imports nothing heavy until a method is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribution.grad_cam import grad_cam
    from .attribution.guided_backprop import deconvnet, guided_backprop
    from .attribution.integrated_gradients import input_x_gradient, integrated_gradients
    from .attribution.occlusion import occlusion
    from .attribution.saliency import saliency
    from .core.model import open_model
    from .core.result import Visualization
    from .core.targets import list_targets
    from .correspondence.patches import nearest_patches, top_activations
    from .correspondence.receptive_field import receptive_field
    from .features.activations import activations, filters
    from .features.deep_dream import deepdream
    from .features.feature_inversion import feature_inversion
    from .features.feature_visualization import feature_visualization
    from .features.style_transfer import style_transfer

METHODS: dict[str, tuple[str, str]] = {
    "list_targets": ("core.targets", "List the targets of a model: classes, channels, pixels, keypoints."),
    "saliency": ("attribution.saliency", "Saliency map: absolute gradient of the target, or SmoothGrad."),
    "guided_backprop": ("attribution.guided_backprop", "Guided backpropagation of the target."),
    "deconvnet": ("attribution.guided_backprop", "Deconvnet: project an activation back through the pooling switches."),
    "input_x_gradient": ("attribution.integrated_gradients", "Input times the gradient of the target."),
    "integrated_gradients": (
        "attribution.integrated_gradients",
        "Integrated gradients from a baseline image to the input.",
    ),
    "grad_cam": ("attribution.grad_cam", "Grad-CAM: class activation map of a level, weighted by gradients."),
    "occlusion": ("attribution.occlusion", "Occlusion sensitivity: score lost when a patch is covered."),
    "activations": ("features.activations", "Activation maps of the channels of a level."),
    "filters": ("features.activations", "Filters of the first convolution, as RGB images."),
    "receptive_field": ("correspondence.receptive_field", "Exact receptive fields of all levels, printed or drawn."),
    "top_activations": ("correspondence.patches", "Images of a folder that activate a channel most."),
    "feature_visualization": (
        "features.feature_visualization",
        "Activation maximization: synthesize an image that maximizes a target.",
    ),
    "feature_inversion": (
        "features.feature_inversion",
        "Feature inversion: reconstruct an image from the features of a level.",
    ),
    "deepdream": ("features.deep_dream", "DeepDream: amplify what a level detects in an image."),
    "style_transfer": ("features.style_transfer", "Neural style transfer from one or more style images."),
    "nearest_patches": (
        "correspondence.patches",
        "Nearest neighbors of an image patch in feature space, over a folder of images.",
    ),
}
"""Function name to (its module, help line); each is a command of `densevision visualize`."""

_OTHERS = {"Visualization": "core.result", "open_model": "core.model"}

__all__ = [
    "METHODS",
    "Visualization",
    "activations",
    "deconvnet",
    "deepdream",
    "feature_inversion",
    "feature_visualization",
    "filters",
    "grad_cam",
    "guided_backprop",
    "input_x_gradient",
    "integrated_gradients",
    "list_targets",
    "nearest_patches",
    "occlusion",
    "open_model",
    "receptive_field",
    "saliency",
    "style_transfer",
    "top_activations",
]


def __getattr__(name: str) -> Any:
    module = METHODS[name][0] if name in METHODS else _OTHERS.get(name)
    if module is not None:
        return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"densevision.visualize has no attribute '{name}'")
