"""Any size in, the same size out: how a trained network is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.weights import WEIGHTS
from ..datasets.dataset import Sample
from ..datasets.fields import Kind, Labels, collate
from ..datasets.geometry import Rectangle, Size
from ..errors import UserError, unknown_name
from .device import choose_device, use_bf16
from .pictures import labels_of, picture_of
from .task import Network, Prediction, Query, Task
from .training.checkpoint import holds_trunk, load_checkpoint, load_classifier

SHIPPED = Path(__file__).parent
"""Where tasks keep the checkpoints that ship: SHIPPED / TASK / "weights"."""

TILE = 1024
"""Sides of the part of a tile that is kept, pixels; what lies beside it is only context."""

_REACHES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


class Predictor:
    """A network with all it takes to ask it: the task, the fields, the size it was trained at, the device.

    Attributes:
        task, model, fields, size: as trained; `size` is (height, width).
        header: the checkpoint's, empty for a network in training.
        seed: of what a network draws when it is asked, which few do: the same question has the same answer.
    """

    seed: int = 0

    def __init__(
        self,
        task: Task,
        model: Network,
        fields: dict[str, Kind],
        size: Size,
        device: str | torch.device = "cpu",
        amp: str = "off",
        header: dict[str, Any] | None = None,
    ) -> None:
        self.task, self.model, self.fields, self.size = task, model, fields, size
        self.device = torch.device(device)
        self.bf16 = use_bf16(amp, self.device)
        self.header = header or {}

    def predict(
        self, *inputs: Any, view: str | None = None, flip: bool = False, box: Rectangle | None = None
    ) -> Prediction:
        """Answer for one picture (or as many as the task takes), at its size.

        Args:
            inputs: paths, arrays, PIL images or tensors; one for most tasks, two for optical flow.
            view: one of the task's `views`: "fit" (at the training size, answer resized), "native" (at the picture's
                own), or what the task offers instead; default: the task's first.
            flip: average the answer with that of the mirrored picture.
            box: x, y, width and height in pixels of the part that is asked about; None: what the task's `sought` finds,
                for most tasks the whole picture. The answer is that part's.

        Raises:
            UserError: wrong number of inputs, one that is no picture, or a box without a pixel of it.
        """
        kinds = self.task.inputs(self.fields)
        if len(inputs) != len(kinds):
            raise UserError(f"{self.task.name} takes {len(kinds)} input(s) ({', '.join(kinds)}), not {len(inputs)}.")
        pictures = {
            name: labels_of(source, kind)
            if isinstance(kind, Labels)
            else picture_of(source, getattr(kind, "channels", 3))
            for (name, kind), source in zip(kinds.items(), inputs, strict=True)
        }
        sizes = {picture.shape[:2] for picture in pictures.values()}
        if len(sizes) > 1:
            raise UserError(f"The inputs differ in size: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}.")
        note = ""
        if box is None:
            box, note = self.task.sought(pictures)
        if box is None:
            return self.answer(pictures, view, flip, note=note)
        size = next(iter(sizes))
        finite = all(math.isfinite(number) for number in box)
        top, left, height, width = self.task.window(box, size) if finite else (0, 0, 0, 0)
        if height < 1 or width < 1:
            raise UserError(
                f"The box {' '.join(f'{number:g}' for number in box)} (x, y, width, height) holds no pixel of the "
                f"picture, which is {size[1]} wide and {size[0]} high."
            )
        parts = {name: picture[top : top + height, left : left + width] for name, picture in pictures.items()}
        return self.answer(parts, view, flip, (left, top), note)

    def answer(
        self,
        sample: Sample,
        view: str | None = None,
        flip: bool = False,
        corner: tuple[int, int] | None = None,
        note: str = "",
    ) -> Prediction:
        """Answer for the inputs of a sample, at their original size.

        Args:
            sample: holds the inputs.
            view, flip: as in `predict`.
            corner: (x, y) of the inputs in the pictures that they are parts of; None: they are whole.
            note: why that part, where the task sought it.
        """
        kinds = self.task.inputs(self.fields)
        inputs = {name: sample[name] for name in kinds}
        first = next(iter(inputs.values()))
        source: Size = (first.shape[0], first.shape[1])
        view = view or self.task.views[0]
        if view not in self.task.views:
            raise unknown_name(f"view of the task {self.task.name}", view, self.task.views)
        geometries = self.task.shown(view, source, self.size, self.model)
        shown = [
            self.task.prepare({name: kind.move(inputs[name], geometry) for name, kind in kinds.items()}, None, 0.0)
            for geometry in geometries
        ]
        output = self.task.joined([self.run(one, flip, view) for one in shown])
        return self.task.decode(output, Query(inputs, self.fields, source, geometries[0].matrix(), corner, note))

    @torch.inference_mode()
    def run(self, sample: Sample, flip: bool = False, view: str | None = None) -> Tensor:
        """The network's raw output for the prepared inputs of one sample, at their size: (1, C, H, W)."""
        prepared = self.task.prepared(self.fields)
        kinds = {name: prepared[name] for name in self.task.inputs(self.fields)}
        batch = collate([sample], kinds)
        inputs = [kinds[name].arrive(batch[name].to(self.device)) for name in kinds]
        model = self.task.asked(self.model, view or self.task.views[0])
        drawing = torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])
        with drawing, evaluating(self.model), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            torch.manual_seed(self.seed)
            output = run_padded(model, inputs)
            if flip:
                mirrored = run_padded(model, [tensor.flip(-1) for tensor in inputs])
                output = (output + self.task.mirrored(mirrored, self.fields, inputs[0].shape[-1])) / 2
        return output.float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and as it was afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def run_padded(model: Network, inputs: list[Tensor], tile: int = TILE) -> Tensor:
    """A network on inputs of any size: padded to multiples of its coarsest stride, tiled when large, cropped back.

    Args:
        model: with `stride` (of its coarsest level) and `takes`, see `Network`.
        inputs: (1, C, H, W) each, all of one size.
        tile: sides of the kept part of a tile, pixels.

    Returns:
        (1, C', H, W), or whatever a network answers that takes its inputs exactly as they are.
    """
    if model.takes == "exact":
        return model(*inputs)
    height, width = inputs[0].shape[-2:]
    stride = model.stride
    padded = [pad_by_reflection(tensor, stride) for tensor in inputs]
    if model.takes == "tiled" and max(padded[0].shape[-2:]) > 2 * tile:
        output = run_tiled(model, padded, tile, reach(model, *(tensor.shape[1] for tensor in padded)))
    else:
        output = _same_size(model(*padded), padded[0].shape[-2:])
    return output[..., :height, :width]


def pad_by_reflection(tensor: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) continued to the right and below by its mirror image, to multiples of a stride."""
    height, width = tensor.shape[-2:]
    right, below = -width % multiple, -height % multiple
    while right or below:
        # torch reflects by less than the size at once; tiny pictures need several goes.
        step_right, step_below = min(right, tensor.shape[-1] - 1), min(below, tensor.shape[-2] - 1)
        if step_right == 0 and step_below == 0:
            return F.pad(tensor, (0, right, 0, below), mode="replicate")
        tensor = F.pad(tensor, (0, step_right, 0, step_below), mode="reflect")
        right, below = right - step_right, below - step_below
    return tensor


def run_tiled(model: Network, inputs: list[Tensor], tile: int, overlap: int) -> Tensor:
    """A fully convolutional network tile by tile, equal to the whole where the overlap covers its reach.

    Tiles start at multiples of the stride, so that every tile's grid of units is the whole's. The picture's true
    border stays a border; elsewhere a tile sees `overlap` pixels of its neighbours, whose answers are thrown away.

    Args:
        model: with `stride`.
        inputs: (1, C, H, W) each, H and W multiples of the stride.
        tile: sides of the kept part, pixels.
        overlap: context on each side, pixels; both are rounded up to multiples of the stride.
    """
    height, width = inputs[0].shape[-2:]
    tile, overlap = (math.ceil(value / model.stride) * model.stride for value in (tile, overlap))
    output: Tensor | None = None
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            y0, x0 = max(0, top - overlap), max(0, left - overlap)
            y1, x1 = min(height, top + tile + overlap), min(width, left + tile + overlap)
            part = _same_size(model(*[tensor[..., y0:y1, x0:x1] for tensor in inputs]), (y1 - y0, x1 - x0))
            bottom, right = min(height, top + tile), min(width, left + tile)
            if output is None:
                output = part.new_empty((*part.shape[:2], height, width))
            output[..., top:bottom, left:right] = part[..., top - y0 : bottom - y0, left - x0 : right - x0]
    assert output is not None
    return output


def _same_size(output: Tensor, size: Any) -> Tensor:
    """Networks that answer at a fraction of the size (FCRN at half) are brought to it bilinearly."""
    if output.shape[-2:] == torch.Size(size):
        return output
    return F.interpolate(output.float(), size=tuple(size), mode="bilinear", align_corners=False)


def reach(model: Network, *channels: int) -> int:
    """How far, in pixels, an input pixel can change the output of a fully convolutional network: half its field.

    Measured, hence exact for any graph: one column of nan spreads through every convolution, pool, addition and
    resize as far as the network reaches, whatever the weights are (0 * nan is nan). A strip as high as one unit of
    the coarsest level suffices, since columns and rows are alike.

    Args:
        model: with `stride`.
        channels: of each of its inputs; one picture of three where none are given.

    Raises:
        UserError: the whole strip is reached: the network holds a global operation and cannot be tiled.
    """
    if model not in _REACHES:
        _REACHES[model] = _measured_reach(model, channels or (3,))
    return _REACHES[model]


def _measured_reach(model: Network, channels: tuple[int, ...]) -> int:
    device = next(model.parameters()).device
    stride = model.stride
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for units in (32, 128, 512):
            width, farthest, edge = units * stride, 0, False
            # What a pixel touches depends on its place within the stride; which place reaches farthest on the network.
            for column in range(width // 2, width // 2 + stride):
                strips = [torch.zeros(1, count, stride, width, device=device) for count in channels]
                for strip in strips:
                    strip[..., column] = math.nan
                touched = _same_size(model(*strips), (stride, width)).isnan()[0].any(0).any(0).nonzero().flatten()
                if len(touched) == 0:
                    raise UserError("The network swallows nan, so that its reach cannot be measured; run it whole.")
                first, last = int(touched.min()), int(touched.max())
                farthest, edge = max(farthest, column - first, last - column), first == 0 or last == width - 1
                if edge:
                    break
            if not edge:
                return farthest
    raise UserError("The network sees the whole picture at every pixel: it cannot be tiled.")


def original_size(output: Tensor, query: Query) -> np.ndarray:
    """A dense output back at the picture's size, bilinearly: (1, C, h, w) to (H, W, C) float32."""
    if tuple(output.shape[-2:]) != query.size:
        output = F.interpolate(output.float(), size=query.size, mode="bilinear", align_corners=False, antialias=False)
    return output[0].movedim(0, -1).float().cpu().numpy()


def load(name_or_path: str | Path, device: str = "auto", amp: str = "auto") -> Predictor:
    """A trained network by its task's name (the checkpoint that ships), its file, or its run folder.

    The weights of a trunk with its classifier ("resnet50/imagenet", or a file of such weights) answer as the task
    classification.

    >>> predictor = load("depth")  # doctest: +SKIP
    >>> predictor.predict("photo.jpg").metres  # doctest: +SKIP

    Raises:
        UserError: no such task or file, no shipped checkpoint, a damaged file.
    """
    path = Path(name_or_path)
    if (path / "best.safetensors").is_file():
        path = path / "best.safetensors"
    elif not path.suffix and str(name_or_path) not in WEIGHTS:
        path = shipped_checkpoint(str(name_or_path))
    if str(name_or_path) in WEIGHTS or holds_trunk(path):
        model, blueprint, header = load_classifier(str(name_or_path))
    else:
        model, blueprint, header = load_checkpoint(path)
    place = choose_device(device)
    model = model.to(place, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
    height, width = header["size"]
    return Predictor(blueprint.task, model, blueprint.fields, (height, width), place, amp, header)


def shipped_checkpoint(task: str) -> Path:
    """The checkpoint that comes with the package for a task.

    Raises:
        UserError: unknown task, or none ships for it.
    """
    from . import task_class

    task_class(task)
    folder = SHIPPED / task / "weights"
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise UserError(f"No checkpoint ships for '{task}': train one (densevision train {task}) and give its path.")
    return found[0]
