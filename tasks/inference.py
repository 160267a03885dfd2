"""Any size in, the same size out: how a trained network is asked.

An answer takes three steps, so that those who answer for many pictures may take them side by side: `prepared` reads and
resizes, `output` runs the network, `told` turns what it says into an answer. `predict` is one after the other.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbones.weights import WEIGHTS
from ..datasets.dataset import Sample
from ..datasets.fields import Kind, Labels, collate
from ..datasets.geometry import Rectangle, Size
from ..errors import UserError, unknown_name
from .any_size import evaluating, original_size, pad_by_reflection, reach, run_padded, run_tiled
from .device import choose_device, use_bf16
from .pictures import frames_in, labels_of, picture_of
from .task import Network, Prediction, Query, Task
from .training.checkpoint import holds_trunk, load_checkpoint, load_classifier

__all__ = [
    "Predictor",
    "Prepared",
    "evaluating",
    "load",
    "original_size",
    "pad_by_reflection",
    "reach",
    "run_padded",
    "run_tiled",
    "shipped_checkpoint",
]

SHIPPED = Path(__file__).parent
"""Where tasks keep the checkpoints that ship: SHIPPED / TASK / "weights"."""


@dataclass(frozen=True)
class Prepared:
    """A question as the network is asked it.

    Attributes:
        shown: the inputs at the network's size, one sample for each geometry of the view.
        view: one of the task's `views`.
        flip: whether the answer is averaged with that of the mirrored picture.
        query: for turning the output back into an answer about the original.
        remark: what of the inputs is left out ("the first of 12 frames"); empty where nothing is.
    """

    shown: tuple[Sample, ...]
    view: str
    flip: bool
    query: Query
    remark: str = ""


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
        prepared = self.prepared(*inputs, view=view, flip=flip, box=box)
        return self.told(prepared, self.output(prepared))

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
        prepared = self.shown(sample, view, flip, corner, note)
        return self.told(prepared, self.output(prepared))

    def prepared(
        self, *inputs: Any, view: str | None = None, flip: bool = False, box: Rectangle | None = None
    ) -> Prepared:
        """The first step of `predict`, with its arguments: read the inputs and show them as the network takes them.

        Any thread may do it while the network answers another question.

        Raises:
            UserError: as `predict`.
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
        frames = max(map(frames_in, inputs))
        remark = f"the first of {frames} frames" if frames > 1 else ""
        note = ""
        if box is None:
            box, note = self.task.sought(pictures)
        if box is None:
            return self.shown(pictures, view, flip, note=note, remark=remark)
        size = next(iter(sizes))
        finite = all(math.isfinite(number) for number in box)
        top, left, height, width = self.task.window(box, size) if finite else (0, 0, 0, 0)
        if height < 1 or width < 1:
            raise UserError(
                f"The box {' '.join(f'{number:g}' for number in box)} (x, y, width, height) holds no pixel of the "
                f"picture, which is {size[1]} wide and {size[0]} high."
            )
        parts = {name: picture[top : top + height, left : left + width] for name, picture in pictures.items()}
        return self.shown(parts, view, flip, (left, top), note, remark)

    def shown(
        self,
        sample: Sample,
        view: str | None = None,
        flip: bool = False,
        corner: tuple[int, int] | None = None,
        note: str = "",
        remark: str = "",
    ) -> Prepared:
        """The inputs of a sample, as `answer` takes them, at the size of the network."""
        kinds = self.task.inputs(self.fields)
        inputs = {name: sample[name] for name in kinds}
        first = next(iter(inputs.values()))
        source: Size = (first.shape[0], first.shape[1])
        view = view or self.task.views[0]
        if view not in self.task.views:
            raise unknown_name(f"view of the task {self.task.name}", view, self.task.views)
        geometries = self.task.shown(view, source, self.size, self.model)
        shown = tuple(
            self.task.prepare({name: kind.move(inputs[name], geometry) for name, kind in kinds.items()}, None, 0.0)
            for geometry in geometries
        )
        query = Query(inputs, self.fields, source, geometries[0].matrix(), corner, note)
        return Prepared(shown, view, flip, query, remark)

    def output(self, prepared: Prepared) -> Tensor:
        """The second step: the network's raw output, joined over the view's geometries. One thread at a time.

        Raises:
            UserError: the picture is too large for the device's memory.
        """
        try:
            return self.task.joined([self.run(one, prepared.flip, prepared.view) for one in prepared.shown])
        except torch.OutOfMemoryError:
            height, width = prepared.query.size
            raise UserError(
                f"A picture of {width}x{height} does not fit into the memory of {self.device} at the view "
                f"'{prepared.view}'; take another view or a smaller picture."
            ) from None

    def told(self, prepared: Prepared, output: Tensor) -> Prediction:
        """The third step: the output as an answer about the original picture. Any thread may do it."""
        return self.task.decode(output, prepared.query)

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

    @property
    def fingerprint(self) -> str:
        """What the network's weights are, in 16 letters: the same wherever the same checkpoint is loaded."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


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
