"""How a probe's number changes with the pixels: the gradient from which most methods start."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...errors import UserError
from .measures import Channel, Probe, Unit
from .subject import Seen, Subject


def score(
    subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, levels: Iterable[str] = ()
) -> tuple[Tensor, Seen]:
    """One look, and the probe's number for every picture: (B,), differentiable, and what was seen.

    Args:
        subject: the network.
        pixels: (B, C, H, W) in [0, 1] each.
        probe: what is measured.
        levels: whose activations are wanted beside it.
    """
    seen = subject.look(pixels, (*probe.levels, *levels), answer=probe.asks)
    return probe.measure(seen), seen


def gradients(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe) -> tuple[Tensor, ...]:
    """The probe's gradient with respect to the pixels, (B, C, H, W) each; whether it is 0 is not looked at."""
    watched = tuple(each.detach().to(subject.device).requires_grad_() for each in pixels)
    with torch.enable_grad():
        measured, _ = score(subject, watched, probe)
        if not measured.requires_grad:
            return tuple(torch.zeros_like(each) for each in watched)
        found = torch.autograd.grad(measured.sum(), watched, allow_unused=True)
    return tuple(torch.zeros_like(each) if g is None else g for each, g in zip(watched, found, strict=True))


def require_alive(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, found: Iterable[Tensor]) -> None:
    """Refuse to draw nothing: a unit that no pixel changes, here.

    Args:
        subject, pixels, probe: as in `score`.
        found: the gradients.

    Raises:
        UserError: all of them are 0; of a level's channel, with the nearest channels that are active.
    """
    if any(bool(each.any()) for each in found):
        return
    said = f"No pixel changes {probe} on this picture"
    if not isinstance(probe, Channel):
        raise UserError(f"{said}: the network is flat there; take another probe or picture.")
    with torch.no_grad():
        maps = subject.look(pixels, probe.levels, answer=False).levels[probe.level][: len(pixels[0])]
    if isinstance(probe, Unit) and maps.ndim == 4:
        maps = maps[:, :, probe.y : probe.y + 1, probe.x : probe.x + 1]
    active = (maps.movedim(1, 0).flatten(1) > 0).any(1).nonzero().flatten().tolist()
    place = f"@{probe.x},{probe.y}" if isinstance(probe, Unit) else ""
    near = sorted(active, key=lambda index: (abs(index - probe.index), index))[:3]
    offered = ", ".join(f"{probe.level}:{index}{place}" for index in near)
    hint = f"active ones nearby: {offered}" if near else "none of its neighbours is active either; take another picture"
    raise UserError(f"{said}: it is dead; {hint}.")
