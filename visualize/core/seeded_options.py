"""Options shared by the methods that optimize an image."""

# No `from __future__ import annotations`: cyclopts evaluates a base class's annotations in the subclass's module.
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SeededOptions:
    """Random seed and precision; subclasses add their own options."""

    seed: int = 0
    """Random seed."""
    amp: Literal["auto", "bf16", "off"] = "off"
    """Run the model in bfloat16: if the hardware supports it (auto), always (bf16) or never (off)."""
