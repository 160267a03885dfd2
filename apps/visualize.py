"""`densevision visualize`: attribution and feature visualization, one module per method.

Like the rest of the command line, this imports nothing heavy: a method's module is imported when it is called.
"""

from __future__ import annotations

from cyclopts import App, Parameter

app = App(
    name="visualize",
    help="Attribution and feature visualization.",
    default_parameter=Parameter(negative_iterable=()),
)
METHODS: dict[str, tuple[str, str]] = {
    "list-targets": (
        "core.list_targets:show_targets",
        "List the targets of a model: classes, channels, pixels, keypoints.",
    ),
    "saliency": (
        "attribution.saliency:show_saliency",
        "Saliency map: absolute gradient of the target, or SmoothGrad.",
    ),
    "guided-backprop": (
        "attribution.guided_backprop:show_guided_backprop",
        "Guided backpropagation of the target.",
    ),
    "deconvnet": (
        "attribution.guided_backprop:show_deconvnet",
        "Deconvnet: project an activation back through the pooling switches.",
    ),
    "input-x-gradient": (
        "attribution.integrated_gradients:show_input_x_gradient",
        "Input times the gradient of the target.",
    ),
    "integrated-gradients": (
        "attribution.integrated_gradients:show_integrated_gradients",
        "Integrated gradients from a baseline image to the input.",
    ),
    "grad-cam": (
        "attribution.grad_cam:show_grad_cam",
        "Grad-CAM: class activation map of a level, weighted by gradients.",
    ),
    "occlusion": (
        "attribution.occlusion:show_occlusion",
        "Occlusion sensitivity: score lost when a patch is covered.",
    ),
    "activations": ("features.activations:show_activations", "Activation maps of the channels of a level."),
    "filters": ("features.filters:show_filters", "Filters of the first convolution, as RGB images."),
    "receptive-field": (
        "correspondence.receptive_field:receptive_field",
        "Exact receptive fields of all levels, printed or drawn.",
    ),
    "top-activations": (
        "correspondence.top_activations:show_top_activations",
        "Images of a folder that activate a channel most.",
    ),
    "feature-visualization": (
        "features.feature_visualization:show_feature_visualization",
        "Activation maximization: synthesize an image that maximizes a target.",
    ),
    "feature-inversion": (
        "features.feature_inversion:show_feature_inversion",
        "Feature inversion: reconstruct an image from the features of a level.",
    ),
    "deepdream": ("features.deep_dream:show_deepdream", "DeepDream: amplify what a level detects in an image."),
    "style-transfer": (
        "style.style_transfer:show_style_transfer",
        "Neural style transfer from one or more style images.",
    ),
    "nearest-patches": (
        "correspondence.nearest_patches:show_nearest_patches",
        "Nearest neighbors of an image patch in feature space, over a folder of images.",
    ),
}
"""Command name to ("module:function" of `visualize`, help line)."""

_LIBRARY = f"{(__package__ or '').rpartition('.')[0]}.visualize"
for _name, (_target, _help) in METHODS.items():
    app.command(f"{_LIBRARY}.{_target}", name=_name, help=_help)
