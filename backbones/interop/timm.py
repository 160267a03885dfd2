"""Backbones of timm (Wightman, huggingface/pytorch-image-models) under our contract: `create_backbone("timm:NAME")`.

timm says itself where a network's feature maps are (`feature_info`). Without a classifier its `features_only` form is
built, which leaves out what lies behind the last level; with one, the whole network, whose maps are caught by hooks.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError, unknown_name
from ..backbone import Backbone, Level, Preprocessing, levels_of_tensors

PREFIX = "timm:"


class TimmBackbone(Backbone):
    """One of timm's networks.

    Levels: those of timm's `feature_info`, by the module that makes them.

    Args:
        name: "timm:" and timm's name, `timm:efficientnet_b0`.

    Raises:
        UserError: timm has no such network, it gives no feature maps, or a number that it cannot have.
    """

    def __init__(self, name: str, *, num_classes: int = 1000, in_channels: int = 3, levels: int | None = None) -> None:
        super().__init__()
        import timm

        called = name.removeprefix(PREFIX)
        if not timm.is_model(called):
            raise unknown_name("backbone of timm", called, timm.list_models())
        with torch.device("meta"):
            whole = _levels(_features_only(called, None, 3).feature_info)
        self._set_metadata(name, whole, num_classes=num_classes, in_channels=in_channels, built=levels)
        if self.num_classes:
            self.model: Any = timm.create_model(called, num_classes=num_classes, in_chans=in_channels)
        else:
            self.model = _features_only(called, len(self.levels), in_channels)
        self.channels_last = str(getattr(self.model, "output_fmt", "NCHW")).endswith("NHWC")
        self.taps = [(info["module"], info.get("hook_type", "forward")) for info in _infos(self.model.feature_info)]
        self.taps = self.taps[: len(self.levels)]
        inner = {"model.model.": ""} if type(self.model).__name__ == "FeatureGetterNet" else {}
        self.state_dict_aliases = {**inner, **_flattened(called, self.model), "model.": ""}
        config = timm.get_pretrained_cfg(called)
        if config is not None:
            self.preprocessing = _preprocessing(config.to_dict()).for_channels(in_channels)
            self.fixed_size = config.input_size[-2:] if config.fixed_input_size else None
        if not self.num_classes:
            self._leave_out_what_no_level_needs()

    def features(self, image: Tensor) -> list[Tensor]:
        """The built levels of (B, in_channels, H, W); see `Backbone.features`. Some networks take one size only."""
        maps = self._caught(image) if self.num_classes else list(self.model(image))
        if self.channels_last:
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, num_classes) logits of (B, in_channels, H, W)."""
        self.require_classifier()
        return self.model(image)

    def _leave_out_what_no_level_needs(self) -> None:
        # Some of timm's `features_only` forms keep and run the stages behind the last level (EfficientNet).
        try:
            needed = levels_of_tensors(self)
        except RuntimeError:
            return  # networks with constants of their own (Swin) do not run on the meta device: they stay whole
        gone: list[str] = []
        for name, module in list(self.model.named_modules()):
            owned = [f"model.{name}.{own}" for own, _ in module.named_parameters()]
            inside = any(name.startswith(f"{part}.") for part in gone)
            if name and owned and not inside and not any(parameter in needed for parameter in owned):
                parent, _, child = name.rpartition(".")
                # An empty sequence may still be walked through.
                nothing = nn.Sequential() if isinstance(module, nn.Sequential) else _LeftOut()
                setattr(self.model.get_submodule(parent), child, nothing)
                gone.append(name)

    def _caught(self, image: Tensor) -> list[Tensor]:
        maps: dict[str, Tensor] = {}

        def catch(name: str, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
            maps[name] = inputs[0] if output is None else output

        with ExitStack() as hooks:
            for name, kind in self.taps:
                module = self.model.get_submodule(name)
                register = module.register_forward_pre_hook if kind == "forward_pre" else module.register_forward_hook
                hooks.enter_context(register(partial(catch, name)))
            self.model.forward_features(image)
        return [maps[name] for name, _ in self.taps]


class _LeftOut(nn.Module):
    """Stands where a stage was whose result nobody reads."""

    def forward(self, x: Tensor, *_others: Any, **_named: Any) -> Tensor:
        return x


def fetch_pretrained(name: str) -> tuple[str, dict[str, str], dict[str, Tensor]]:
    """timm's own published weights of a network, fetched by timm: a name for messages, the metadata, the tensors.

    Raises:
        UserError: there are none, or they could not be fetched.
    """
    import timm

    called = name.removeprefix(PREFIX)
    config = timm.get_pretrained_cfg(called) if timm.is_model(called) else None
    if config is None or not (config.url or config.hf_hub_id):
        raise UserError(f"timm has no published weights of '{called}'; give the path of a file.")
    where = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
    try:
        tensors = timm.create_model(called, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The weights at {where} could not be fetched ({reason}); "
            "fetch them elsewhere and give the file's path as weights."
        ) from error
    metadata = {
        "network": name,
        "classes": str(config.num_classes),
        "levels": "all",
        "preprocessing": _preprocessing(config.to_dict()).to_json(),
        "origin": str(where),
        "licence": config.license or "unstated",
    }
    return called, metadata, tensors


def _features_only(called: str, levels: int | None, in_channels: int) -> Any:
    import timm

    wanted: dict[str, Any] = {} if levels is None else {"out_indices": tuple(range(levels))}
    try:
        return timm.create_model(called, features_only=True, in_chans=in_channels, **wanted)
    except (RuntimeError, AttributeError, KeyError) as error:
        raise UserError(f"timm's {called} gives no feature maps ({error}); choose another backbone.") from error


def _infos(feature_info: Any) -> list[dict[str, Any]]:
    # A plain list in the whole network, an object around one in the `features_only` form.
    return list(feature_info) if isinstance(feature_info, list) else feature_info.get_dicts()


def _levels(feature_info: Any) -> list[Level]:
    return [Level(info["module"], info["reduction"], info["num_chs"]) for info in _infos(feature_info)]


def _flattened(called: str, model: nn.Module) -> dict[str, str]:
    """timm's `features_only` form calls "features.0" "features_0": our beginning to the whole network's.

    Which underscore was a dot follows from the complete network, since names contain underscores themselves.
    """
    import timm

    with torch.device("meta"):
        whole = timm.create_model(called)
    parts = {part.replace(".", "_"): part for part, _ in whole.named_modules() if part.count(".") == 1}
    children = {name for name, _ in whole.named_children()}
    return {
        f"model.{name}.": f"{parts[name]}."
        for name, _ in model.named_children()
        if name not in children and name in parts
    }


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    crop = config.get("input_size", (3, 224, 224))[-1]
    return Preprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize=round(crop / config.get("crop_pct", 0.875)),
        crop=crop,
        interpolation=config.get("interpolation", "bilinear"),
    )
