"""`densevision visualize`: methods that look into a network, one method a file and a line here.

Like the command tree, this imports nothing heavy: a method's own module is imported when it is called.
"""

from __future__ import annotations

from cyclopts import App, Parameter

app = App(
    name="visualize",
    help="Look into a network: what its units see.",
    default_parameter=Parameter(negative_iterable=()),
)
HERE = f"{__package__}"
app.command(
    f"{HERE}.receptive_field:receptive_field",
    name="receptive-field",
    help="Print the exact receptive field of every level, or draw it over a photograph.",
)
app.command(f"{HERE}.listing:show_probes", name="probes", help="List what can be asked of a network.")
app.command(
    f"{HERE}.saliency:show_saliency",
    name="saliency",
    help="Draw which pixels, changed a little, change an answer most.",
)
app.command(
    f"{HERE}.back_propagation:show_guided",
    name="guided",
    help="Guided backpropagation: the gradient through active units that want more.",
)
app.command(
    f"{HERE}.back_propagation:show_deconvnet",
    name="deconvnet",
    help="Lead one activation back to the pixels through the pools' switches.",
)
app.command(
    f"{HERE}.gradients:show_gradient_input",
    name="gradient-input",
    help="Draw the gradient times the picture.",
)
app.command(
    f"{HERE}.gradients:show_integrated_gradients",
    name="integrated-gradients",
    help="Draw how much each pixel adds on the way from nothing to the picture.",
)
app.command(
    f"{HERE}.grad_cam:show_grad_cam",
    name="grad-cam",
    help="Draw where a level speaks for an answer.",
)
app.command(
    f"{HERE}.style:show_style",
    name="style",
    help="Paint a photograph as other pictures are painted.",
)
app.command(
    f"{HERE}.correspondence:show_correspondence",
    name="correspond",
    help="Draw the patches of other pictures that are most like a patch.",
)
app.command(
    f"{HERE}.filters:show_filters",
    name="filters",
    help="Draw the first convolution's filters.",
)
app.command(
    f"{HERE}.activations:show_activations",
    name="activations",
    help="Draw what the channels of a level make of a picture.",
)
app.command(
    f"{HERE}.maximal:show_maximal",
    name="maximal",
    help="Draw which pictures of a folder excite a unit most.",
)
app.command(
    f"{HERE}.occlusion:show_occlusion",
    name="occlusion",
    help="Draw what an answer loses when a patch of the picture is covered.",
)
app.command(
    f"{HERE}.maximize:show_maximize",
    name="maximize",
    help="Paint what a class or a channel looks for.",
)
app.command(
    f"{HERE}.inversion:show_invert",
    name="invert",
    help="Paint a picture that a level cannot tell from a photograph.",
)
app.command(
    f"{HERE}.deep_dream:show_dream",
    name="dream",
    help="Draw more and more of what a level sees a little of.",
)
