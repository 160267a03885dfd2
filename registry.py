"""Registries: plain dicts from a name to an object, or to its "module:attribute", which is imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from .errors import unknown_name

Entry = TypeVar("Entry")


@overload
def lookup(kind: str, name: str, registry: Mapping[str, str]) -> Any: ...
@overload
def lookup(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry: ...
def lookup(kind: str, name: str, registry: Mapping[str, Any]) -> Any:
    """The entry of a registry with a name.

    Args:
        kind: what the registry contains, for the error message ("backbone", "depth loss").
        name: the key.
        registry: name to object, or to "package.module:attribute", relative to this package ("backbones.vgg:vgg16").

    Raises:
        UserError: the name is not in the registry; the message suggests the nearest one.
    """
    if name not in registry:
        raise unknown_name(kind, name, registry)
    entry = registry[name]
    if not isinstance(entry, str):
        return entry
    module, attribute = entry.split(":")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)
