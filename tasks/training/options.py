"""Training options: one frozen dataclass for the command line, `config.yaml` and Python.

A recipe is an instance of the same dataclass that states only what differs. Order of precedence: the caller, the
recipe, the defaults of `ResolvedOptions`.
"""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import yaml

from ...atomic_io import write_text
from ...errors import UserError, unknown_name

Optimizer = Literal["sgd", "sgd-caffe", "adam", "adamw"]
Schedule = Literal["constant", "multistep", "poly", "cosine", "linear"]
"""The schedules of `schedules.learning_rate`."""

OWN_LOSS = "for a loss of your own, override `phases` in a subclass of the task and pass an instance of it as the task"


def has_type(value: Any, hint: Any) -> bool:
    """Whether a value has the type of an option; integers are numbers too, and paths are text."""
    if get_origin(hint) in (Union, UnionType):
        return any(has_type(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        # `validate` lists the choices.
        return isinstance(value, str)
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        several = isinstance(value, tuple) and (parts[-1] is ... or len(value) == len(parts))
        return several and all(has_type(entry, parts[0]) for entry in value)
    abstract = {float: numbers.Real, int: numbers.Integral, str: (str, Path)}
    return isinstance(value, abstract.get(hint, hint)) and (hint is bool or not isinstance(value, bool))


def describe_type(hint: Any) -> str:
    """The type of an option in words: "a number", "2 integers"."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(describe_type(part) for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        return f"{'several' if parts[-1] is ... else len(parts)} {'integers' if parts[0] is int else 'numbers'}"
    words = {float: "a number", int: "an integer", bool: "True or False", Path: "a path"}
    return words.get(hint, "a string")


@dataclass(frozen=True)
class Options:
    """Options of a training run. None means: the recipe's value, else the default."""

    data: str | None = None
    """Dataset by name (`densevision list datasets`)."""
    root: Path | None = None
    """Folder of the dataset; synthetic datasets need none."""
    eval_data: str | None = None
    """Dataset to evaluate on, if it is not the training dataset."""
    eval_root: Path | None = None
    """Folder of the evaluation dataset, if it is not --root."""
    eval_split: str | None = None
    """Split to evaluate on; without it, the last split of the dataset."""
    train_samples: int | None = None
    """Train on the first N samples only."""
    eval_samples: int | None = None
    """Evaluate on the first N samples only."""
    backbone: str | None = None
    """Backbone by name (`densevision list backbones`)."""
    backbone_levels: int | None = None
    """Build only the first N feature levels of the backbone, from fine to coarse."""
    head: str | None = None
    """Head by name (`densevision list heads`)."""
    model: str | None = None
    """Complete model by name, instead of a backbone and a head (`densevision list models`)."""
    weights: str | None = None
    """Backbone weights: 'imagenet' or a file. Without it, the backbone is trained from scratch."""
    stride_in: Literal["1x1", "3x3"] | None = None
    """Convolution that carries the stride in ResNet bottlenecks; without it, as the weights file says, else the 3x3."""
    init_from: Path | None = None
    """Checkpoint to initialize the whole model from (its weights only, not its schedule)."""
    recipe: str | None = None
    """Named recipe of the task (`densevision list recipes`)."""
    loss: str | None = None
    """Loss function by name."""
    steps: int | None = None
    """Number of optimizer steps."""
    epochs: float | None = None
    """Number of passes over the training set, instead of --steps."""
    batch_size: int | None = None
    """Images per process and forward pass."""
    image_size: tuple[int, int] | None = None
    """Height and width of the training images in pixels."""
    lr: float | None = None
    """Peak learning rate."""
    optimizer: Optimizer | None = None
    """Optimizer; sgd-caffe keeps the learning rate inside the momentum buffer, as Caffe and papers up to 2014 do."""
    momentum: float | None = None
    """Momentum of SGD, beta 1 of Adam and AdamW."""
    weight_decay: float | None = None
    """Weight decay."""
    weight_decay_on: Literal["weights", "all"] | None = None
    """Parameters that decay: weights (tensors of two or more axes) or all (biases and norms too)."""
    schedule: Schedule | None = None
    """Learning-rate schedule."""
    milestones: tuple[float, ...] | None = None
    """With --schedule multistep, fractions of the run after which the learning rate is multiplied by --gamma."""
    gamma: float | None = None
    """With --schedule multistep, factor of the learning rate at every milestone."""
    warmup_steps: int | None = None
    """Steps of linear warm-up of the learning rate."""
    backbone_lr_factor: float | None = None
    """Learning rate of the backbone as a factor of --lr: 0.1 with --weights and 1 without, if not stated."""
    ema_decay: float | None = None
    """Decay of the exponential moving average of the weights that is evaluated and saved; 0 turns it off."""
    grad_accum_steps: int | None = None
    """Forward and backward passes whose gradients are averaged for one optimizer step."""
    clip_grad_norm: float | None = None
    """Maximum norm of the gradient; 0 turns clipping off."""
    freeze_backbone: bool | None = None
    """Freeze the weights and the BatchNorm statistics of the backbone."""
    freeze_bn: bool | None = None
    """Freeze the BatchNorm statistics of the backbone."""
    hflip: float | None = None
    """Probability of a horizontal flip."""
    max_rotation: float | None = None
    """Maximum rotation in degrees."""
    max_zoom: float | None = None
    """Maximum magnification; metric depth is divided by it."""
    resize_short_side: tuple[int, int] | None = None
    """Minimum and maximum length of the short side in pixels before a crop, sampled uniformly."""
    crop_padding: int | None = None
    """With --resize-short-side, pixels of padding before a random crop."""
    crop_area: tuple[float, float] | None = None
    """Minimum and maximum area of a random resized crop as a fraction of the image, instead of --resize-short-side."""
    color_jitter: float | None = None
    """Strength of the color augmentation, from 0 to 1."""
    find_lr: bool | None = None
    """Run a learning-rate range test, plot it to find-lr.png in the run folder, and stop."""
    overfit_one_batch: bool | None = None
    """Train on the first batch only, to check that the loss can reach zero."""
    patience: int | None = None
    """Stop after N evaluations without improvement; 0 turns early stopping off."""
    eval_every: int | None = None
    """Steps between evaluations, 0 for one at the end; a tenth of the run, if not stated."""
    save_every: int | None = None
    """Steps between saves of the training state."""
    log_every: int | None = None
    """Steps between lines of the log."""
    seed: int | None = None
    """Random seed."""
    workers: int | None = None
    """Data loading processes, 0 for none; the free CPU cores up to 8, if not stated."""
    threads: int | None = None
    """CPU threads of the model; all cores that data loading leaves free, if not stated."""
    device: str | None = None
    """Device: cpu, cuda, mps or auto."""
    amp: Literal["auto", "bf16", "off"] | None = None
    """Mixed precision; auto uses bf16 where the hardware supports it."""
    compile: bool | None = None
    """Compile the model with torch.compile."""
    resume: bool | None = None
    """Resume the run in --out, or the newest run of the task."""
    out: Path | None = None
    """Run folder; runs/TASK-N with the next free N, if not stated."""

    def merge_defaults(self, other: Options) -> Self:
        """These options, with those of `other` where these are None."""
        missing = {name: value for name, value in other.explicit().items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def explicit(self) -> dict[str, Any]:
        """The options that are not None, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def write(self, path: Path) -> None:
        """Write the explicit options as YAML."""
        plain = {
            name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in self.explicit().items()
        }
        write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read options that `write` wrote.

        Raises:
            UserError: the file is missing, or is not YAML of known options.
        """
        way_out = "restore it from a copy, or start a new run with another --out"
        try:
            stored = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read as training options ({error}): {way_out}.") from error
        if not isinstance(stored, dict):
            raise UserError(
                f"{path} cannot be read as training options: it contains no 'name: value' lines; {way_out}."
            )
        return cls.from_plain(stored, str(path))

    @classmethod
    def from_plain(cls, stored: dict[str, Any], where: str) -> Self:
        """Options from plain data, with lists as tuples and paths as `Path`.

        Args:
            stored: values by option name.
            where: source of the values, for the error message.

        Raises:
            UserError: an unknown option, or a value of another type; the message names the option.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(map(str, set(stored) - known)):
            raise unknown_name(f"option of a training run ({where})", unknown[0], known)
        values = dict(stored)
        for name in ("root", "eval_root", "init_from", "out"):
            if isinstance(values.get(name), str):
                values[name] = Path(values[name])
        for name in ("image_size", "resize_short_side", "crop_area", "milestones"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values).require_types(where)

    def require_types(self, where: str) -> Self:
        """Check the types of all values and return the options themselves.

        Args:
            where: source of the values, for the error message.

        Raises:
            UserError: a value of another type; the message names the option.
        """
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not has_type(value, hint):
                own = f"; {OWN_LOSS}" if name == "loss" else ""
                raise UserError(
                    f"The option '{name}' ({where}) is {value!r}, a {type(value).__name__}; it must be "
                    f"{describe_type(hint)}{own}."
                )
        return self

    def validate(self) -> Self:
        """Check all values and return the options themselves.

        Raises:
            UserError: an invalid value; the message names the option and its valid values.
        """
        at_least = {
            "batch_size": 1, "steps": 1, "grad_accum_steps": 1, "log_every": 1, "save_every": 1, "max_zoom": 1,
            "train_samples": 1, "eval_samples": 1, "backbone_levels": 1, "threads": 1, "workers": 0, "eval_every": 0,
            "patience": 0, "warmup_steps": 0, "lr": 0, "clip_grad_norm": 0, "weight_decay": 0, "max_rotation": 0,
            "backbone_lr_factor": 0, "crop_padding": 0, "gamma": 0,
        }  # fmt: skip
        for name, minimum in at_least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {minimum}.")
        for name in ("hflip", "color_jitter", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be between 0 and 1.")
        for name, hint in get_type_hints(type(self)).items():
            literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
            choices = [word for literal in literals for word in get_args(literal)]
            value = getattr(self, name)
            if choices and value is not None and value not in choices:
                raise unknown_name(f"--{name.replace('_', '-')}", str(value), choices)
        if self.image_size is not None and min(self.image_size) < 8:
            height, width = self.image_size
            raise UserError(f"--image-size is {height}x{width}; height and width must be at least 8 pixels.")
        if self.resize_short_side is not None and not 1 <= self.resize_short_side[0] <= self.resize_short_side[1]:
            minimum, maximum = self.resize_short_side
            raise UserError(f"--resize-short-side is {minimum} {maximum}; give the minimum first, at least 1 pixel.")
        if self.crop_area is not None and not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            minimum, maximum = self.crop_area
            raise UserError(f"--crop-area is {minimum} {maximum}; give the minimum first, above 0 and up to 1.")
        if self.resize_short_side is not None and self.crop_area is not None:
            raise UserError("--resize-short-side and --crop-area are two ways to sample a crop: give only one of them.")
        if (self.max_zoom or 1) > 1 and (self.resize_short_side or self.crop_area):
            raise UserError("--max-zoom cannot be combined with --resize-short-side or --crop-area: leave it out.")
        if self.crop_padding and self.resize_short_side is None:
            raise UserError("--crop-padding pads the crops of --resize-short-side: give --resize-short-side too.")
        if self.milestones is not None and not (
            sorted(self.milestones) == list(self.milestones) and all(0 < part < 1 for part in self.milestones)
        ):
            stated = " ".join(f"{part:g}" for part in self.milestones)
            raise UserError(f"--milestones is {stated}; give ascending fractions of the run between 0 and 1.")
        if self.model and (self.backbone or self.head or self.backbone_levels or self.stride_in):
            raise UserError(
                "--model is a complete model: give either it, or --backbone and --head (with --backbone-levels and "
                "--stride-in)."
            )
        if self.epochs is not None and self.epochs <= 0:
            raise UserError(f"--epochs is {self.epochs}; it must be above 0.")
        return self


@dataclass(frozen=True)
class ResolvedOptions(Options):
    """Training options with the defaults for values that neither the caller nor the recipe states."""

    image_size: tuple[int, int] = (224, 224)
    loss: str = ""
    batch_size: int = 16
    lr: float = 1e-3
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    weight_decay_on: Literal["weights", "all"] = "weights"
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    warmup_steps: int = 0
    backbone_lr_factor: float = 1.0
    ema_decay: float = 0.0
    grad_accum_steps: int = 1
    clip_grad_norm: float = 0.0
    freeze_backbone: bool = False
    freeze_bn: bool = False
    hflip: float = 0.5
    max_rotation: float = 0.0
    max_zoom: float = 1.0
    crop_padding: int = 0
    color_jitter: float = 0.0
    find_lr: bool = False
    overfit_one_batch: bool = False
    patience: int = 0
    save_every: int = 200
    log_every: int = 20
    seed: int = 0
    device: str = "auto"
    amp: Literal["auto", "bf16", "off"] = "auto"
    compile: bool = False
    resume: bool = False

    @classmethod
    def of(cls, options: Options) -> ResolvedOptions:
        """The options with defaults for those that are None."""
        return cls(**options.explicit())
