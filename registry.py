"""Registries: plain dicts from a name to "module:attribute", imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from .errors import unknown_name


def lookup(kind: str, name: str, registry: Mapping[str, str]) -> Any:
    """Import an entry of a registry.

    Args:
        kind: what the registry contains, for the error message ("backbone").
        name: the key.
        registry: name to "package.module:attribute", relative to this package ("backbones.vgg:vgg16").

    Raises:
        UserError: the name is not in the registry; the message suggests the nearest one.
    """
    if name not in registry:
        raise unknown_name(kind, name, registry)
    module, attribute = registry[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)
