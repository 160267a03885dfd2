"""Every choice of a training run: one frozen dataclass for the command line, the run folder and Python.

A recipe is a value of the same dataclass that states only the differences; what neither the caller nor the recipe
says is taken from `Settled`. So the order is: caller, recipe, base. Nothing is inherited in any other way.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import yaml

from ...errors import UserError, unknown_name
from ...writing import write_text

Schedule = Literal["constant", "step", "three-steps", "halving", "exponential", "poly", "cosine", "linear"]
"""What `schedules.learning_rate` knows."""


@dataclass(frozen=True)
class Options:
    """How to train. None means: as the recipe says, else as the base says."""

    data: str | None = None
    """Data set by name (`densevision list data`); default: the task's world."""
    root: Path | None = None
    """Folder of the data set; worlds need none."""
    eval_data: str | None = None
    """Data set to evaluate on; default: the training one."""
    eval_root: Path | None = None
    """Folder of the evaluation set; default: the training one's."""
    eval_split: str | None = None
    """Split to evaluate on; default: the set's last one."""
    train_samples: int | None = None
    """Use only the first N training samples; default: all."""
    eval_samples: int | None = None
    """Use only the first N evaluation samples; default: all."""
    backbone: str | None = None
    """Trunk by name (`densevision list backbones`); default: the task's."""
    levels: int | None = None
    """Build only the first N levels of the trunk, fine to coarse; default: all."""
    head: str | None = None
    """Head by name (`densevision list heads`); default: the task's."""
    network: str | None = None
    """Whole network by name instead of trunk and head (`densevision list networks`)."""
    weights: str | None = None
    """Weights of the trunk: 'imagenet' or a file; default: none, from scratch."""
    stride_in: Literal["1x1", "3x3"] | None = None
    """Where ResNet bottlenecks put their stride; default: as the weights file says, the 3x3 without one."""
    init: Path | None = None
    """Start from another run's checkpoint (its weights, not its schedule)."""
    recipe: str | None = None
    """Named recipe of the task; default: the task's."""
    loss: str | None = None
    """Loss by name; default: the recipe's, else the task's first."""
    steps: int | None = None
    """Optimizer steps; default: the recipe's."""
    epochs: float | None = None
    """Passes over the training set, instead of steps."""
    batch: int | None = None
    """Pictures per process and micro-step; default: the recipe's, else 16."""
    size: tuple[int, int] | None = None
    """Height and width of the network's input in training, pixels; default: the recipe's."""
    lr: float | None = None
    """Largest learning rate; default: the recipe's, else 1e-3."""
    optimizer: Literal["sgd", "sgd-1986", "adam", "adamw"] | None = None
    """Optimizer; sgd-1986 has the rate inside its velocity, as the papers up to 2014 print it; default: the recipe's,
    else adamw."""
    momentum: float | None = None
    """SGD's momentum, Adam's beta 1; default: 0.9."""
    weight_decay: float | None = None
    """Weight decay; default: 1e-4."""
    decay: Literal["kernels", "all"] | None = None
    """What decays: kernels (weights of two axes or more) or all parameters, as in the papers up to 2016; default:
    kernels."""
    schedule: Schedule | None = None
    """How the learning rate falls; default: the recipe's, else cosine."""
    warmup: int | None = None
    """Steps over which the learning rate rises linearly; default: 0."""
    trunk_lr: float | None = None
    """Learning rate of the trunk relative to the head's; default: 0.1 with weights, 1 without."""
    ema: float | None = None
    """Decay of the moving average of weights that is evaluated and saved, 0 for none; default: 0."""
    accumulate: int | None = None
    """Micro-steps whose gradients are averaged before each optimizer step; default: 1."""
    clip: float | None = None
    """Largest norm of the gradient, 0 for no limit; default: 0."""
    freeze: bool | None = None
    """Keep the trunk's weights and statistics as they are; default: no."""
    freeze_bn: bool | None = None
    """Keep the trunk's BatchNorm statistics as they are; default: no."""
    flip: float | None = None
    """Probability of a left-right flip; default: 0.5."""
    rotate: float | None = None
    """Largest rotation, degrees; default: 0."""
    zoom: float | None = None
    """Largest magnification (metric depth is divided by it); default: 1."""
    scale: tuple[int, int] | None = None
    """Least and largest short side of the picture before its crop, pixels, drawn evenly; default: covers the size."""
    pad: int | None = None
    """With --scale, pixels by which a crop may reach beyond the picture; default: 0."""
    area: tuple[float, float] | None = None
    """Least and largest share of the picture's area in a crop, 0 to 1, instead of --scale; default: none."""
    colour: float | None = None
    """Strength of the photometric augmentation, 0 to 1; default: 0."""
    find_lr: bool | None = None
    """Test which learning rates train, draw the curve to find-lr.png in the run folder, and stop; default: no."""
    overfit: bool | None = None
    """Train on the first batch alone, to see that the loss can reach zero; default: no."""
    patience: int | None = None
    """Stop after N evaluations without a better score, 0 for never; default: 0."""
    evaluate_every: int | None = None
    """Steps between evaluations, 0 for only at the end; default: a tenth of the steps."""
    save_every: int | None = None
    """Steps between saves of the training state; default: 200."""
    log_every: int | None = None
    """Steps between lines of the log; default: 20."""
    seed: int | None = None
    """Seed of every random stream; default: 0."""
    workers: int | None = None
    """Processes that prepare samples, 0 for none; default: one per core, up to 8, that the network leaves free."""
    threads: int | None = None
    """CPU threads of the network; default: all, three fifths where a world is drawn beside it."""
    device: str | None = None
    """cpu, cuda, mps or auto; default: auto."""
    amp: Literal["auto", "bf16", "off"] | None = None
    """Mixed precision; auto: bf16 where the device does it in hardware; default: auto."""
    compile: bool | None = None
    """Compile the network with torch.compile; default: no."""
    resume: bool | None = None
    """Continue the run in --out (default: the newest run of the task) where it stopped."""
    out: Path | None = None
    """Run folder; default: runs/TASK-N with the next free N."""

    def over(self, other: Options) -> Self:
        """These options, and the other's where these say nothing."""
        missing = {name: value for name, value in other.stated().items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def stated(self) -> dict[str, Any]:
        """The options that say something."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def write(self, path: Path) -> None:
        """Write as YAML."""
        plain = {
            name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in self.stated().items()
        }
        write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UserError: the file is not YAML of known options.
        """
        try:
            stored = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read as a run's options: {error}") from error
        if not isinstance(stored, dict):
            raise UserError(f"{path} cannot be read as a run's options: it holds no 'name: value' lines.")
        return cls.from_plain(stored, str(path))

    @classmethod
    def from_plain(cls, stored: dict[str, Any], where: str) -> Self:
        """Options from plain data; lists become tuples and paths paths.

        Raises:
            UserError: a name that is no option.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(stored) - known):
            raise unknown_name(f"option of a training run ({where})", unknown[0], known)
        values = dict(stored)
        for name in ("root", "eval_root", "init", "out"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        for name in ("size", "scale", "area"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    def checked(self) -> Self:
        """Itself, if every number makes sense.

        Raises:
            UserError: naming the option and what would do.
        """
        at_least = {
            "batch": 1, "steps": 1, "accumulate": 1, "log_every": 1, "save_every": 1, "zoom": 1, "train_samples": 1,
            "eval_samples": 1, "levels": 1, "threads": 1, "workers": 0, "evaluate_every": 0, "patience": 0, "warmup": 0,
            "lr": 0, "clip": 0, "weight_decay": 0, "rotate": 0, "trunk_lr": 0, "pad": 0,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}.")
        for name in ("flip", "colour", "ema"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"--{name} is {value}; it must lie in 0 to 1.")
        for name, hint in get_type_hints(type(self)).items():
            literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
            offered = [word for literal in literals for word in get_args(literal)]
            value = getattr(self, name)
            if offered and value is not None and value not in offered:
                raise unknown_name(f"--{name.replace('_', '-')}", str(value), offered)
        if self.size is not None and min(self.size) < 8:
            raise UserError(f"--size is {self.size[0]}x{self.size[1]}; both sides must be at least 8 pixels.")
        if self.scale is not None and not 1 <= self.scale[0] <= self.scale[1]:
            raise UserError(f"--scale is {self.scale[0]} {self.scale[1]}; give the least first, from 1 pixel on.")
        if self.area is not None and not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f"--area is {self.area[0]} {self.area[1]}; give the least first, above 0 and up to 1.")
        if self.scale is not None and self.area is not None:
            raise UserError("--scale and --area are two ways to draw a crop: give one of them.")
        if (self.zoom or 1) > 1 and (self.scale or self.area):
            raise UserError("--zoom magnifies a picture that covers the size; with --scale or --area leave it out.")
        if self.pad and self.scale is None:
            raise UserError("--pad widens where a crop of --scale may lie: give --scale too.")
        if self.network and (self.backbone or self.head or self.levels or self.stride_in):
            raise UserError(
                "--network is a whole network: give either it, or --backbone and --head (with --levels, --stride-in)."
            )
        if self.epochs is not None and self.epochs <= 0:
            raise UserError(f"--epochs is {self.epochs}; it must be above 0.")
        return self


@dataclass(frozen=True)
class Settled(Options):
    """The options that a run reads: the base, where neither the caller nor the recipe said anything."""

    size: tuple[int, int] = (224, 224)
    loss: str = ""
    batch: int = 16
    lr: float = 1e-3
    optimizer: Literal["sgd", "sgd-1986", "adam", "adamw"] = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: Literal["kernels", "all"] = "kernels"
    schedule: Schedule = "cosine"
    warmup: int = 0
    trunk_lr: float = 1.0
    ema: float = 0.0
    accumulate: int = 1
    clip: float = 0.0
    freeze: bool = False
    freeze_bn: bool = False
    flip: float = 0.5
    rotate: float = 0.0
    zoom: float = 1.0
    pad: int = 0
    colour: float = 0.0
    find_lr: bool = False
    overfit: bool = False
    patience: int = 0
    save_every: int = 200
    log_every: int = 20
    seed: int = 0
    device: str = "auto"
    amp: Literal["auto", "bf16", "off"] = "auto"
    compile: bool = False
    resume: bool = False

    @classmethod
    def of(cls, options: Options) -> Settled:
        """The base under what the options say."""
        return cls(**options.stated())
