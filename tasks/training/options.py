# ruff: noqa: RUF009 - `option` returns a field
"""Training options: one frozen dataclass for the command line, `config.yaml` and Python.

A recipe is an instance of the same dataclass that states only what differs. `resolve` decides where a value comes from.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import yaml

from ...atomic_io import write_text
from ...errors import UserError, printable, unknown_name
from ...limits import LimitExceeded, check_pixels, open_file
from ...schema import MAX_SIDE, short

Optimizer = Literal["sgd", "sgd-caffe", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "multistep", "poly", "cosine", "linear"]
"""The schedules of `optimizers.learning_rate`."""

OWN_LOSS = "a loss of your own is passed as train(..., loss=...)"
MAX_CONFIG_BYTES = 2**20
"""Size of config.yaml."""
PER_CALL = ("resume", "config", "dry_run", "force")
"""Options of one call, which config.yaml does not store."""
REPLACED: dict[str, tuple[str, ...]] = {
    "steps": ("epochs", "minutes"),
    "epochs": ("steps", "minutes"),
    "minutes": ("steps", "epochs"),
    "model": ("backbone", "head", "backbone_levels", "stride_in"),
    "backbone": ("model", "backbone_levels", "stride_in"),
    "head": ("model",),
    "crop_area": ("resize_short_side", "crop_padding"),
    "resize_short_side": ("crop_area",),
    "schedule": ("milestones", "gamma"),
}
"""Options that a stated option replaces, since they say the same in another way or belong to another value."""


MAX_SAMPLES = 10_000_000
MAX_STEPS = 10_000_000
"""Steps of a run that only `minutes` limits."""


def option(default: Any = None, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field of `Options`, itself None: only what nobody states takes the default. A maximum needs a minimum."""
    return dataclasses.field(default=None, metadata={"default": default, "minimum": minimum, "maximum": maximum})


def has_type(value: Any, hint: Any) -> bool:
    """Whether a value has the type of an option; integers are numbers too, and paths are text. Numbers are finite."""
    if value is None:
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(has_type(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        # `validate` lists the choices.
        return isinstance(value, str)
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        several = isinstance(value, tuple) and (parts[-1] is ... or len(value) == len(parts))
        return several and all(has_type(entry, parts[0]) for entry in value)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if hint is float and isinstance(value, int) and abs(value) > sys.float_info.max:
        return False
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
    """Options of a training run; None: not stated. After `resolve`, only those are None whose type says so."""

    data: str | None = option()
    """Dataset by name (`densevision list datasets`)."""
    root: str | Path | None = option()
    """Folder of the dataset, or the address of shards (s3://bucket/data); synthetic datasets need none."""
    cache: Path | None = option()
    """Folder for copies of shards, which are fetched once; without it, in every epoch."""
    eval_data: str | None = option()
    """Dataset to evaluate on, if it is not the training dataset."""
    eval_root: str | Path | None = option()
    """Folder of the evaluation dataset, if it is not --root."""
    eval_split: str | None = option()
    """Split to evaluate on; without it, the last split of the dataset."""
    train_samples: int | None = option(minimum=1, maximum=MAX_SAMPLES)
    """Train on the first N samples only."""
    sample_uses: int | None = option(minimum=1)
    """Times that each sample of a synthetic dataset is used, under its own augmentation. If it is not stated, once, or
    with --minutes as often as makes the run faster."""
    eval_samples: int | None = option(minimum=1, maximum=MAX_SAMPLES)
    """Evaluate on the first N samples only."""
    backbone: str | None = option()
    """Backbone by name (`densevision list backbones`); without it, that of the recipe, or its complete model."""
    backbone_levels: int | None = option(minimum=1, maximum=100)
    """Build only the first N feature levels of the backbone, from fine to coarse."""
    head: str | None = option()
    """Head by name (`densevision list heads`); without it, that of the recipe or the task."""
    model: str | None = option()
    """Complete model by name, instead of a backbone and a head (`densevision list models`)."""
    weights: str | None = option()
    """Backbone weights: 'imagenet' or a file. Without it, the backbone is trained from scratch."""
    stride_in: Literal["1x1", "3x3"] | None = option()
    """Convolution that carries the stride in ResNet bottlenecks; without it, as the weights file says, else the 3x3."""
    init_from: Path | None = option()
    """Checkpoint to initialize the whole model from (its weights only, not its schedule)."""
    recipe: str | None = option()
    """Named recipe of the task (`densevision list recipes`)."""
    loss: str = option()
    """Loss function by name."""
    steps: int | None = option(1000, minimum=0, maximum=10**9)
    """Number of optimizer steps; with 0, the model is evaluated and saved as it starts."""
    epochs: float | None = option(minimum=0, maximum=1e6)
    """Number of passes over the training set, instead of --steps."""
    minutes: float | None = option(minimum=0, maximum=1e6)
    """Minutes that the run may take, evaluations included: how many steps fit, up to --steps, is measured before the
    first one. Without it, the run takes as long as its steps."""
    batch_size: int = option(16, minimum=1, maximum=2**16)
    """Images of a micro-batch: of one forward pass."""
    micro_batches: int | None = option(minimum=1, maximum=2**16)
    """Micro-batches of a step, which the processes share and whose gradients are averaged; one for each process, if not
    stated. A step with as many is the same on any number of processes."""
    image_size: tuple[int, int] = option((224, 224))
    """Height and width of the training images in pixels."""
    lr: float = option(1e-3, minimum=0)
    """Peak learning rate."""
    optimizer: Optimizer = option("adamw")
    """Optimizer; sgd-caffe keeps the learning rate inside the momentum buffer, as Caffe and papers up to 2014 do;
    rmsprop has a floor of 0.01 under the root mean square, as the code of DeepPrior."""
    momentum: float = option(0.9, minimum=0, maximum=1)
    """Momentum of SGD, beta 1 of Adam and AdamW, decay of the mean square of RMSProp."""
    weight_decay: float = option(1e-4, minimum=0)
    """Weight decay."""
    weight_decay_on: Literal["weights", "all"] = option("weights")
    """Parameters that decay: weights (tensors of two or more axes) or all (biases and norms too)."""
    schedule: Schedule = option("cosine")
    """Learning-rate schedule."""
    milestones: tuple[float, ...] = option((0.5, 0.75))
    """With --schedule multistep, fractions of the run after which the learning rate is multiplied by --gamma."""
    gamma: float = option(0.1, minimum=0)
    """With --schedule multistep, factor of the learning rate at every milestone."""
    warmup_steps: int = option(0, minimum=0)
    """Steps of linear warm-up of the learning rate."""
    backbone_lr_factor: float = option(1.0, minimum=0)
    """Learning rate of the backbone as a factor of --lr: 0.1 with --weights and 1 without, if not stated."""
    ema_decay: float = option(0.0, minimum=0, maximum=1)
    """Decay of the exponential moving average of the weights that is evaluated and saved; 0 turns it off."""
    clip_grad_norm: float = option(0.0, minimum=0)
    """Maximum norm of the gradient; 0 turns clipping off."""
    freeze_backbone: bool = option(False)
    """Freeze the weights and the BatchNorm statistics of the backbone."""
    checkpoint_gradients: bool = option(False)
    """Recompute the activations inside the blocks of the backbone in the backward pass (gradient checkpointing): less
    memory, the same gradients, longer steps; without it, they are kept."""
    freeze_bn: bool = option(False)
    """Freeze the BatchNorm statistics of the backbone."""
    sync_bn: bool = option(False)
    """BatchNorm statistics of a step from the images of all GPUs; without it, each GPU uses its own images."""
    hflip: float = option(0.5, minimum=0, maximum=1)
    """Probability of a horizontal flip."""
    max_rotation: float = option(0.0, minimum=0)
    """Maximum rotation in degrees."""
    max_zoom: float = option(1.0, minimum=1)
    """Maximum magnification; metric depth is divided by it."""
    resize_short_side: tuple[int, int] | None = option()
    """Minimum and maximum length of the short side in pixels before a crop, sampled uniformly."""
    crop_padding: int = option(0, minimum=0, maximum=MAX_SIDE)
    """With --resize-short-side, pixels of padding before a random crop."""
    crop_area: tuple[float, float] | None = option()
    """Minimum and maximum area of a random resized crop as a fraction of the image, instead of --resize-short-side."""
    color_jitter: float = option(0.0, minimum=0, maximum=1)
    """Strength of the color augmentation, from 0 to 1."""
    find_lr: bool = option(False)
    """Run a learning-rate range test, plot it to find-lr.png in the run folder, and stop."""
    overfit_one_batch: bool = option(False)
    """Train on the first batch only, to check that the loss can reach zero."""
    patience: int = option(0, minimum=0)
    """Stop after N evaluations without improvement; 0 turns early stopping off."""
    eval_every: int | None = option(minimum=0)
    """Steps between evaluations, 0 for one at the end; a tenth of the run, if not stated."""
    save_every: int | str = option(200, minimum=1)
    """Steps between saves of the training state, or seconds with an s (300s)."""
    keep_best: int = option(0, minimum=0)
    """Keep the checkpoints of the N best evaluations in best/, beside best.safetensors; 0 keeps none there."""
    keep_every: int = option(0, minimum=0)
    """Keep a checkpoint of every N steps in steps/; 0 keeps none."""
    log_every: int = option(20, minimum=1)
    """Steps between lines of the log."""
    seed: int = option(0, minimum=0, maximum=2**63 - 1)
    """Random seed."""
    workers: int | None = option(minimum=0, maximum=1024)
    """Data loading processes, 0 for none; the free CPU cores up to 8, if not stated."""
    threads: int | None = option(minimum=1, maximum=1024)
    """CPU threads of the model; all cores that data loading leaves free, if not stated."""
    device: str = option("auto")
    """Device: cpu, cuda, mps or auto."""
    amp: Literal["auto", "bf16", "fp16", "off"] = option("auto")
    """Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices."""
    collective_timeout: float = option(600.0, minimum=1, maximum=1e6)
    """Seconds that a process waits for the others before it ends, since one of them is lost."""
    compile: bool = option(False)
    """Compile the model with torch.compile."""
    resume: Literal["auto"] | bool = option(False)
    """Resume the run in --out, or the newest run of the task; auto starts it if there is nothing to resume."""
    out: Path | None = option()
    """Run folder; runs/TASK-N with the next free N, if not stated."""
    force: bool = option(False)
    """Write to the run folder even if another process writes there; without it, one run at a time does."""
    config: Path | None = option()
    """Start a new run with the options in another run's config.yaml; those stated beside it take precedence."""
    dry_run: bool = option(False)
    """Print the resolved options, the size of the model and the shapes of one batch, and stop; nothing is written. The
    multiply-adds are those of the convolutions and matrix products of one forward pass for one image; the memory is
    that of the activations that a training step keeps for one image until its backward pass, without the weights."""

    def merge_defaults(self, other: Options) -> Self:
        """These options, with those of `other` where these are None."""
        missing = {name: value for name, value in other.explicit().items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def over(self, other: Options) -> Self:
        """These options, with those of a recipe or another run where these neither state nor replace them."""
        other = other.without(name for stated in self.explicit() for name in REPLACED.get(stated, ()))
        if self.steps and other.warmup_steps and other.warmup_steps >= self.steps:
            # That warm-up is meant for its own number of steps.
            other = dataclasses.replace(other, warmup_steps=self.steps // 10)
        return self.merge_defaults(other)

    def without(self, names: Iterable[str]) -> Self:
        """These options, with some of them not stated."""
        return dataclasses.replace(self, **dict.fromkeys(names))

    def explicit(self) -> dict[str, Any]:
        """The options that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def command_line(self) -> str:
        """The options as on the command line; switches that are off and options of one call are left out."""
        words = []
        for name, value in self.without(PER_CALL).explicit().items():
            if value is not False:
                values = value if isinstance(value, tuple) else () if value is True else (value,)
                words += [flag(name), *(shlex.quote(str(one)) for one in values)]
        return " ".join(words)

    def write(self, path: Path) -> None:
        """Write the explicit options as YAML."""
        plain = {
            name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in self.explicit().items()
        }
        write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    @classmethod
    def read(cls, path: Path, hint: str = "restore it from a copy, or start a new run with another --out") -> Self:
        """Read options that `write` wrote; the hint says what to do if the file cannot be read."""
        try:
            with open_file(path) as file:
                text = file.read(MAX_CONFIG_BYTES + 1)
            if len(text) > MAX_CONFIG_BYTES:
                raise ValueError(f"more than {MAX_CONFIG_BYTES} bytes")
            stored = yaml.safe_load(text.decode("utf-8")) or {}
        # ValueError: a number of too many digits, a date that there is not; RecursionError: lists in lists.
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read as training options ({printable(str(error))}): {hint}.") from error
        if not isinstance(stored, dict):
            raise UserError(f"{path} cannot be read as training options: it contains no 'name: value' lines; {hint}.")
        try:
            return cls.from_plain(stored, str(path))
        except UserError as error:
            raise UserError(f"{error} {hint[0].upper()}{hint[1:]}.") from error

    @classmethod
    def from_plain(cls, stored: dict[str, Any], where: str) -> Self:
        """Options from plain data, with lists as tuples and paths as `Path`; errors say `where` it is from."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(map(str, set(stored) - known)):
            raise unknown_name(f"option of a training run ({where})", unknown[0], known)
        values, hints = dict(stored), get_type_hints(cls)
        for name, value in stored.items():
            if isinstance(value, str) and "\0" in value:
                raise UserError(
                    f"The option '{name}' ({where}) is {short(value)}; it must not contain a NUL character."
                )
            # Addresses stay text: a path would join their slashes.
            if isinstance(value, str) and Path in get_args(hints[name]) and str not in get_args(hints[name]):
                values[name] = Path(value)
            elif isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values).require_types(where)

    def require_types(self, where: str) -> Self:
        """Check the types of all values and return the options themselves; errors say `where` they are from."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not has_type(value, hint):
                own = f"; {OWN_LOSS}" if name == "loss" else ""
                raise UserError(
                    f"The option '{name}' ({where}) is {short(value)}, a {type(value).__name__}; it must be "
                    f"{describe_type(hint)}{own}."
                )
        return self

    def validate(self) -> Self:
        """Check all values and return the options themselves.

        Raises:
            UserError: an invalid value; the message names the option and its valid values.
        """
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            minimum, maximum = field.metadata["minimum"], field.metadata["maximum"]
            if value is None:
                continue
            words = isinstance(value, str)
            if minimum is not None and not words and not minimum <= value <= (value if maximum is None else maximum):
                valid = f"at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
                raise UserError(f"{flag(name)} is {short(value)}; it must be {valid}.")
            literals = [part for part in (hints[name], *get_args(hints[name])) if get_origin(part) is Literal]
            choices = [word for literal in literals for word in get_args(literal)]
            if choices and words and value not in choices:
                raise unknown_name(flag(name), str(value), choices)
        for name, size in (("image_size", self.image_size), ("resize_short_side", self.resize_short_side)):
            try:
                check_pixels(*(size or (0, 0)))
            except LimitExceeded as error:
                raise UserError(f"{flag(name)} is {error}.") from error
        if self.image_size is not None and not 8 <= min(self.image_size) <= max(self.image_size) <= MAX_SIDE:
            height, width = self.image_size
            raise UserError(
                f"--image-size is {height}x{width}; height and width must be at least 8 pixels, and at most {MAX_SIDE}."
            )
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
        for name in ("epochs", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{name} is {value}; it must be above 0.")
        if isinstance(self.save_every, str) and not re.fullmatch(r"[1-9]\d{0,6}s", self.save_every):
            raise UserError(
                f"--save-every is {short(self.save_every)}; give a number of steps, or of seconds with an s: 300s."
            )
        if self.checkpoint_gradients and self.compile:
            raise UserError("--checkpoint-gradients and --compile cannot be combined: leave one of them out.")
        if self.epochs is not None and self.steps is not None:
            raise UserError("--steps and --epochs are two ways to say the same thing: give one of them.")
        if self.schedule != "multistep" and (self.milestones is not None or self.gamma is not None):
            raise UserError("--milestones and --gamma need --schedule multistep: add it, or leave them out.")
        return self

    def save_due(self, step: int, seconds: float) -> bool:
        """Whether to save after a step, so many seconds after the last save."""
        if isinstance(self.save_every, str):
            return seconds >= int(self.save_every.removesuffix("s"))
        return step > 0 and step % self.save_every == 0

    def total_steps(self, samples: int | None, images_per_step: int) -> int:
        """Number of steps with these options, once resolved, for `samples` in an epoch (None: infinite).

        With `minutes`, it is the maximum.
        """
        if self.epochs is not None and samples is None:
            raise UserError("--epochs needs a finite training set; give --steps, or --train-samples N.")
        if self.steps is None and self.epochs is None:
            return MAX_STEPS
        steps = self.steps
        if steps is None:
            steps = max(1, round((self.epochs or 0) * (samples or 0) / images_per_step))
        if self.warmup_steps >= max(steps, 1):
            raise UserError(
                f"--warmup-steps is {self.warmup_steps}, but the run has {steps} steps and would never reach --lr: use "
                "fewer warm-up steps, or more --steps."
            )
        return steps


def flag(name: str) -> str:
    """The name of an option on the command line."""
    return f"--{name.replace('_', '-')}"


DEFAULTS = Options(**{field.name: field.metadata["default"] for field in dataclasses.fields(Options)})
"""The default of each option that has one."""


def resolve(explicit: Options, recipe: Options, task: Options) -> Options:
    """The options of a run: each is that of the caller, else of the recipe, else of the task, else its default.

    The task states dataset, backbone, head and loss.
    """
    if not (explicit.weights or explicit.init_from):
        # Recipes for photos spare a pretrained backbone; one from scratch has nothing to spare.
        recipe = recipe.without(("backbone_lr_factor", "freeze_bn"))
    options = explicit.over(recipe)
    options = options.merge_defaults(task.without(("backbone", "head")) if options.model else task)
    defaults = dataclasses.replace(DEFAULTS, backbone_lr_factor=0.1 if options.weights else 1.0)
    if options.epochs is not None or options.minutes is not None:
        defaults = defaults.without(("steps",))
    if (options.schedule or defaults.schedule) != "multistep":
        defaults = defaults.without(("milestones", "gamma"))
    return options.merge_defaults(defaults)
