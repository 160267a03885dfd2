"""Benchmark of attribution methods against captum and pytorch-grad-cam: one image, one class, random weights.

Ours draw the map over the image as well; the peers return arrays only. On the same network, image and class, Grad-CAM
is compared before the upsampling, at the units of the last level.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from ..visualize.attribution.grad_cam import grad_cam
from ..visualize.attribution.integrated_gradients import integrated_gradients
from ..visualize.attribution.saliency import saliency
from ..visualize.core.hooks import modules_of_levels
from ..visualize.core.targets import parse_target
from .measure import Figure, MissingPeer, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, peer
from .occlusion import random_model

BACKBONE, IMAGE_SIZE, STEPS, ROUNDS = "resnet18", 224, 16, 7


def measure(
    setting: Setting, *, backbone: str = BACKBONE, size: int = IMAGE_SIZE, steps: int = STEPS, rounds: int = ROUNDS
) -> Report:
    """Measure saliency, integrated gradients with a number of steps, and Grad-CAM at the last level."""
    figures, facts, remarks = [], {}, []
    with fixed_threads(setting.threads):
        model, image = random_model(backbone, size, setting.device)
        assert model.backbone is not None
        objective, level = parse_target(f"class:{model.classes[0]}", model), model.backbone.levels[-1].name
        module, layer = model.module.eval(), modules_of_levels(model.backbone)[level]
        ours = {
            "saliency": partial(saliency, model, image, objective),
            f"integrated gradients, {steps} steps": partial(integrated_gradients, model, image, objective, steps=steps),
            "Grad-CAM": partial(grad_cam, model, image, objective, level=level),
        }
        first, second, third = ours
        theirs: list[tuple[str, str, Callable[[], Callable[[], Any]]]] = [
            (first, "captum", lambda: partial(captum().Saliency(module).attribute, image.clone(), target=0)),
            (second, "captum", lambda: partial(captum_gradients, captum(), module, image, steps)),
            (third, "captum", lambda: partial(captum().LayerGradCam(module, layer).attribute, image, target=0)),
            (third, "pytorch-grad-cam", lambda: pytorch_grad_cam(module, layer, image)),
        ]
        watch = Stopwatch(setting.device)
        for what, name, create in theirs:
            try:
                their_call = create()
            except MissingPeer as error:
                remarks.append(str(error))
                continue
            pairs = alternate(watch.as_round(ours[what]), watch.as_round(their_call), setting.rounds or rounds)
            shapes = f"{backbone}, 1x3x{size}x{size}"
            figures.append(Figure.from_pairs(what, shapes, "densevision", name, pairs, 1))
            if what == third and name == "captum":
                units = their_call()[0, 0].detach().cpu().numpy()
                difference = np.abs(ours[third]().units - units).max() / np.abs(units).max()
                facts["grad_cam_difference"] = float(difference)
                remarks.append(f"Units of Grad-CAM differ from captum's by {difference:.1e} of the largest at most.")
    title = "Attribution maps of one image, random weights"
    device = device_name(setting.device)
    return Report("attribution", title, device, setting.threads, tuple(figures), facts, tuple(dict.fromkeys(remarks)))


def captum() -> Any:
    """The methods of captum."""
    return peer("captum.attr", "captum")


def captum_gradients(methods: Any, module: torch.nn.Module, image: torch.Tensor, steps: int) -> torch.Tensor:
    """Integrated gradients, in batches of as many steps as ours."""
    return methods.IntegratedGradients(module).attribute(image, target=0, n_steps=steps, internal_batch_size=16)


def pytorch_grad_cam(module: torch.nn.Module, layer: Any, image: torch.Tensor) -> Callable[[], Any]:
    """A call of pytorch-grad-cam."""
    library = peer("pytorch_grad_cam", "grad-cam")
    targets = [peer("pytorch_grad_cam.utils.model_targets", "grad-cam").ClassifierOutputTarget(0)]
    method = library.GradCAM(model=module, target_layers=[layer])
    return lambda: method(input_tensor=image, targets=targets)
