"""Keeping a network still while it is looked at, and keeping what its levels are in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...backbones.backbone import Backbone, empty_pictures, features_on_meta
from ...errors import UserError
from ...tasks.inference import evaluating

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps what is hooked to it."""


class Enough(Exception):
    """Everything that was wanted has been seen."""


@contextmanager
def still(model: nn.Module) -> Iterator[nn.Module]:
    """A model that is only looked at: in evaluation, its parameters without gradients.

    At the end, after an exception too, its modes, every `requires_grad` and all hooks are as they were.
    """
    learned = {parameter: parameter.requires_grad for parameter in model.parameters()}
    hooks = [(vars(module)[name], dict(vars(module)[name])) for module in model.modules() for name in HOOKS]
    with evaluating(model):
        try:
            for parameter in learned:
                parameter.requires_grad_(False)
            yield model
        finally:
            for parameter, state in learned.items():
                parameter.requires_grad_(state)
            for held, before in hooks:
                held.clear()
                held.update(before)


class Uncut(TorchFunctionMode):
    """While it lasts, nothing is cut off from the graph.

    Some networks detach an estimate before they refine it (RAFT, the warping of flow): that steadies their training,
    but what comes out would no longer be the derivative of their answer.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.detach, torch.detach):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def keeping(
    places: dict[str, nn.Module | None], trunk: Backbone | None, kept: dict[str, Tensor], stop: bool
) -> Iterator[None]:
    """While it lasts, every pass fills `kept` with activations.

    Args:
        places: the submodule whose output is wanted, by name; None for a level that no submodule makes (LeNet-5's).
        trunk: whose `features` says what such a level is.
        kept: what is filled, by name.
        stop: raise `Enough` when all have been seen.
    """

    def keep(name: str, made: Tensor) -> None:
        kept[name] = made
        if stop and places.keys() <= kept.keys():
            raise Enough

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Tensor]:
        def keep_output(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise UserError(f"'{name}' makes no single map; name a layer inside it.")
            keep(name, output)
            # What follows gets a copy: an in-place ReLU would rectify what was kept.
            return output.clone()

        return keep_output

    with ExitStack() as stack:
        for name, module in places.items():
            if module is not None:
                stack.callback(module.register_forward_hook(hook(name)).remove)
        if trunk is not None and None in places.values():
            stack.enter_context(
                _telling(trunk, lambda name, made: places.get(name, trunk) is None and keep(name, made))
            )
        yield


@contextmanager
def _telling(trunk: Backbone, tell: Callable[[str, Tensor], Any]) -> Iterator[None]:
    """A trunk whose `features` says what it returns, level by level."""
    usual = trunk.features

    def features(image: Tensor) -> list[Tensor]:
        maps = usual(image)
        for name, made in zip(level_names(trunk), maps, strict=False):
            tell(name, made)
        return maps

    vars(trunk)["features"] = features
    try:
        yield
    finally:
        del vars(trunk)["features"]


def level_names(trunk: Backbone | None) -> list[str]:
    """The names of a trunk's levels; none without a trunk."""
    return [] if trunk is None else [level.name for level in trunk.levels]


def level_makers(trunk: Backbone) -> dict[str, nn.Module | None]:
    """The submodule whose output each level is, by the level's name; None where no submodule alone makes it.

    Found without numbers, by running the trunk on the meta device.
    """
    made: list[tuple[nn.Module, Any]] = []
    makers: dict[str, nn.Module | None] = dict.fromkeys(level_names(trunk))
    with still(trunk):
        for module in trunk.modules():
            if module is not trunk:
                module.register_forward_hook(lambda module, _inputs, output: made.append((module, output)))
        try:
            maps, _ = features_on_meta(trunk, empty_pictures(trunk))
        except RuntimeError:
            return makers  # networks with constants of their own (timm's Swin) do not run without numbers
    runs = [module for module, _ in made]
    for name, level_map in zip(makers, maps, strict=False):
        for module, output in made:
            if output is level_map and runs.count(module) == 1:
                makers[name] = module
    return makers
