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
    "list-targets": ("list_targets:show_targets", "List the targets of a model: classes, channels, pixels, keypoints."),
    "saliency": (
        "saliency:show_saliency",
        "Saliency map: absolute gradient of the target, or SmoothGrad.",
    ),
    "guided-backprop": (
        "guided_backprop:show_guided_backprop",
        "Guided backpropagation of the target.",
    ),
    "deconvnet": (
        "guided_backprop:show_deconvnet",
        "Deconvnet: project an activation back through the pooling switches.",
    ),
    "input-x-gradient": ("integrated_gradients:show_input_x_gradient", "Input times the gradient of the target."),
    "integrated-gradients": (
        "integrated_gradients:show_integrated_gradients",
        "Integrated gradients from a baseline image to the input.",
    ),
    "grad-cam": (
        "grad_cam:show_grad_cam",
        "Grad-CAM: class activation map of a level, weighted by gradients.",
    ),
    "occlusion": (
        "occlusion:show_occlusion",
        "Occlusion sensitivity: score lost when a patch is covered.",
    ),
    "activations": ("activations:show_activations", "Activation maps of the channels of a level."),
    "filters": ("filters:show_filters", "Filters of the first convolution, as RGB images."),
    "receptive-field": ("receptive_field:receptive_field", "Exact receptive fields of all levels, printed or drawn."),
    "top-activations": (
        "top_activations:show_top_activations",
        "Images of a folder that activate a channel most.",
    ),
    "feature-visualization": (
        "feature_visualization:show_feature_visualization",
        "Activation maximization: synthesize an image that maximizes a target.",
    ),
    "feature-inversion": (
        "feature_inversion:show_feature_inversion",
        "Feature inversion: reconstruct an image from the features of a level.",
    ),
    "deepdream": ("deep_dream:show_deepdream", "DeepDream: amplify what a level detects in an image."),
    "style-transfer": ("style_transfer:show_style_transfer", "Neural style transfer from one or more style images."),
    "nearest-patches": (
        "nearest_patches:show_nearest_patches",
        "Nearest neighbors of an image patch in feature space, over a folder of images.",
    ),
}
"""Command name to ("module:function" of this package, help line)."""

for _name, (_target, _help) in METHODS.items():
    app.command(f"{__package__}.{_target}", name=_name, help=_help)
