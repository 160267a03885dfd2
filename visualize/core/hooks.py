"""Forward hooks: capture activations without changing the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...backbones.backbone import Backbone, features_on_meta, meta_input
from ...errors import UserError
from ...tasks.tiling import eval_mode

T = TypeVar("T")

_FINDINGS: WeakKeyDictionary[nn.Module, dict[str, tuple[Any, Any]]] = WeakKeyDictionary()

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Attributes in which a module stores its hooks."""


def found_once(module: nn.Module, name: str, find: Callable[[], T]) -> T:
    """What `find` returns about the structure of a module; called again only if the module or its parts changed.

    A method may run many times on one model, and following it through all its operations takes longer than a
    gradient. Results must not refer to the module itself, which would never be freed.
    """
    findings = _FINDINGS.setdefault(module, {})
    structure = repr(module), [id(part) for part in module.modules()]
    if name not in findings or findings[name][0] != structure:
        findings[name] = structure, find()
    return findings[name][1]


class StopForward(Exception):
    """Raised by a hook to end the forward pass once all activations are captured."""


@contextmanager
def frozen_eval(model: nn.Module) -> Iterator[nn.Module]:
    """Context: evaluation mode, and no gradients for the parameters.

    On exit, also after an exception, the modes, every `requires_grad` and all hooks are restored.
    """
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    hooks = [(vars(module)[name], dict(vars(module)[name])) for module in model.modules() for name in HOOKS]
    with eval_mode(model):
        try:
            for parameter in requires_grad:
                parameter.requires_grad_(False)
            yield model
        finally:
            for parameter, state in requires_grad.items():
                parameter.requires_grad_(state)
            for registered, before in hooks:
                registered.clear()
                registered.update(before)


class IgnoreDetach(TorchFunctionMode):
    """Context that makes `detach` the identity.

    Some models detach an estimate before they refine it (RAFT, flow warping). This stabilizes training, but a gradient
    computed through it would not be the derivative of the prediction.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.detach, torch.detach):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def capture_activations(
    modules: dict[str, nn.Module | None], backbone: Backbone | None, activations: dict[str, Tensor], stop: bool
) -> Iterator[None]:
    """Context in which every forward pass fills `activations` by name; with `stop`, it ends once all are captured.

    The module whose output is captured is None for a level that no module returns (LeNet-5), but the backbone's
    `features`.
    """

    def record(name: str, activation: Tensor) -> None:
        activations[name] = activation
        if stop and modules.keys() <= activations.keys():
            raise StopForward

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Tensor]:
        def record_output(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise UserError(f"'{name}' does not return a single tensor; choose a layer inside it.")
            record(name, output)
            # Return a copy: a following in-place ReLU would modify the recorded activation.
            return output.clone()

        return record_output

    with ExitStack() as stack:
        for name, module in modules.items():
            if module is not None:
                stack.callback(module.register_forward_hook(hook(name)).remove)
        if backbone is not None and None in modules.values():
            stack.enter_context(
                _report_levels(
                    backbone,
                    lambda name, level_map: modules.get(name, backbone) is None and record(name, level_map),
                )
            )
        yield


@contextmanager
def capture_maps(module: nn.Module, last: str | None = None) -> Iterator[dict[str, Tensor]]:
    """Context whose forward passes fill a dictionary with the (B, C, h, w) maps of the modules directly inside one.

    `StopForward` is raised after the map `last`; None: passes run to their end.
    """
    maps: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                maps[name] = output
            if name == last:
                raise StopForward

        return record

    with ExitStack() as stack:
        for name, child in module.named_children():
            stack.callback(child.register_forward_hook(hook(name)).remove)
        yield maps


@contextmanager
def _report_levels(backbone: Backbone, callback: Callable[[str, Tensor], Any]) -> Iterator[None]:
    """Context that calls `callback` with the name and map of every level that the backbone's `features` returns."""
    original = backbone.features

    def features(image: Tensor) -> list[Tensor]:
        maps = original(image)
        for name, level_map in zip(level_names(backbone), maps, strict=False):
            callback(name, level_map)
        return maps

    vars(backbone)["features"] = features
    try:
        yield
    finally:
        del vars(backbone)["features"]


def level_names(backbone: Backbone | None) -> list[str]:
    """Names of the backbone's levels; empty without a backbone."""
    return [] if backbone is None else [level.name for level in backbone.levels]


def modules_of_levels(backbone: Backbone) -> dict[str, nn.Module | None]:
    """Module whose output is the level, by level name; None for a level that is not the output of one module call.

    Found by running the backbone on the meta device.
    """
    paths = {module: path for path, module in backbone.named_modules()}
    found = found_once(
        backbone, "levels", lambda: {name: paths.get(module) for name, module in _modules_of_levels(backbone).items()}
    )
    return {name: None if path is None else backbone.get_submodule(path) for name, path in found.items()}


def _modules_of_levels(backbone: Backbone) -> dict[str, nn.Module | None]:
    calls: list[tuple[nn.Module, Any]] = []
    module_of_level: dict[str, nn.Module | None] = dict.fromkeys(level_names(backbone))
    with frozen_eval(backbone):
        for module in backbone.modules():
            if module is not backbone:
                module.register_forward_hook(lambda module, _inputs, output: calls.append((module, output)))
        try:
            maps, _ = features_on_meta(backbone, meta_input(backbone))
        except RuntimeError:
            return module_of_level  # models with constants of their own (timm's Swin) do not run on the meta device
    runs = [module for module, _ in calls]
    for name, level_map in zip(module_of_level, maps, strict=False):
        for module, output in calls:
            if output is level_map and runs.count(module) == 1:
                module_of_level[name] = module
    return module_of_level
