"""`densevision visualize`: the methods of `densevision.visualize` as commands.

A command is built from its method when it is called: the method's named arguments are its options, with the help of the
method's docstring. Like the rest of the command line, this imports nothing heavy before.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from .. import visualize as library
from ..errors import UserError, printable
from ..limits import LIMITS, allow_megapixels

if TYPE_CHECKING:
    from ..visualize.core.model import InspectedModel
    from ..visualize.core.result import Visualization

app = App(
    name="visualize",
    help="Attribution and feature visualization.",
    default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
)
for _name, (_, _help) in library.METHODS.items():
    app.command(f"{__name__}:{_name}", name=_name.replace("_", "-"), help=_help)


@dataclass(kw_only=True)
class ModelOptions:
    """The model to visualize."""

    model: str
    """Backbone name (`densevision list backbones`, or timm:NAME), name of a packaged checkpoint or its task, or path of
    a checkpoint."""
    weights: str | None = None
    """Weights of a backbone: a file, or imagenet; random if not stated."""
    stride_in: Literal["1x1", "3x3"] | None = None
    """Convolution of a ResNet bottleneck that downsamples; as in the weights if not stated."""
    device: str = "cpu"
    """Device: cpu, cuda, mps or auto. On the CPU, the same seed gives the same numbers on every machine."""

    def open_model(self) -> InspectedModel:
        """Load the model; assumptions about its weights are printed on stderr."""
        from ..visualize.core.model import open_model

        options: dict[str, Any] = {"stride_in": self.stride_in} if self.stride_in else {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = open_model(self.model, self.weights, device=self.device, **options)
        for warning in caught:
            print(warning.message, file=sys.stderr)
        return model


OPTIONS: dict[str, tuple[Any, str]] = {
    "image": (tuple[Path, ...], "input image; two for a model with two inputs"),
    "folder": (Path, ""),
    "style": (tuple[Path, ...], ""),
    "guide": (Path | None, ""),
    "at": (tuple[str, ...], ""),
    "target": (
        str,
        "target: class:tabby, layer3:17, layer3:17@12,8, depth@120,80, the last in pixels of the original image"
        " (densevision visualize list-targets)",
    ),
    "patch": (int, ""),
    "stride": (int, ""),
}
"""Types, and if needed help, of arguments for which the command line has other ones than the method."""
SEVERAL_TARGETS = {"feature_visualization"}
LEFT_OUT = ("model", "progress", "settings")
"""Arguments that are not options of their own; the model has `ModelOptions`."""


def __getattr__(name: str) -> Any:
    if name in library.METHODS:
        return _command(getattr(library, name))
    raise AttributeError(f"{__name__} has no attribute '{name}'")


def _command(method: Callable[..., Visualization]) -> Callable[..., None]:
    """The command of a method: opens the model, calls the method, prints its notes and writes its result."""
    parameters = inspect.signature(method).parameters

    def command(
        *, model_options: ModelOptions, out: Path, max_megapixels: float = LIMITS.max_megapixels, **arguments: Any
    ) -> None:
        from ..visualize.core.images import validate_out

        allow_megapixels(max_megapixels)
        validate_out(out)
        if "progress" in parameters:
            arguments["progress"] = print_progress
        result = method(model_options.open_model, **arguments)
        if result.notes:
            print("\n".join(result.notes))
        print(printable(f"Wrote {' and '.join(map(str, result.save(out)))}."))

    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter("model_options", keyword, annotation=Annotated[ModelOptions, Parameter(name="*")])]
    options += [
        each.replace(kind=keyword, annotation=_type(method, each))
        for name, each in parameters.items()
        if name not in LEFT_OUT
    ]
    options.append(inspect.Parameter("out", keyword, annotation=Path))
    options.append(inspect.Parameter("max_megapixels", keyword, annotation=float, default=LIMITS.max_megapixels))
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in options}
    command.__name__, command.__doc__ = method.__name__, _help_text(method)
    return command


def _type(method: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    name, scope = parameter.name, vars(sys.modules[method.__module__])
    if name == "options":
        return Annotated[eval(parameter.annotation, scope), Parameter(name="*")]  # our own source, see `METHODS`
    if name == "target" and method.__name__ in SEVERAL_TARGETS:
        return tuple[str, ...]
    if name == "target" and parameter.default is None:
        return str | None
    stated = OPTIONS[name][0] if name in OPTIONS else eval(parameter.annotation, scope)
    return Annotated[stated, Parameter(show_default=False)] if parameter.default == () else stated


def _help_text(method: Callable[..., Any]) -> str:
    """The method's docstring up to its arguments, with the help of the command's options."""
    text = inspect.getdoc(method) or ""
    head, _, arguments = text.partition("\nArgs:\n")
    helps = dict(re.findall(r"^    (\w+): (.*?)(?=^    \w|^\S|\Z)", arguments, re.DOTALL | re.MULTILINE))
    helps = {name: " ".join(each.split()).rstrip(".") for name, each in helps.items()}
    for name, (_, own) in OPTIONS.items():
        # Of texts that refer to Python, the command line has its own.
        if own and "`" in helps.get(name, ""):
            helps[name] = own
    helps["out"] = "output image (.png); the raw array is written to the same name with .npy"
    helps["max_megapixels"] = "images with more megapixels are refused before they are decoded"
    helps = {name: each for name, each in helps.items() if name not in (*LEFT_OUT, "options")}
    lines = (f"    {name}: {each[0].upper()}{each[1:]}." for name, each in helps.items())
    return f"{head}\n\nArgs:\n" + "\n".join(lines)


def print_progress(done: int, total: int, values: dict[str, float]) -> None:
    """Print the progress on one line of a terminal."""
    if sys.stderr.isatty():
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"\r{done}/{total} {numbers}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def list_targets(model_options: Annotated[ModelOptions, Parameter(name="*")]) -> None:
    """List the values that --target accepts, one a line; replace X, Y, WIDTH, HEIGHT and CHANNEL by numbers."""
    print("\n".join(library.list_targets(model_options.open_model)))


def receptive_field(
    *,
    model: str,
    stride_in: Literal["1x1", "3x3"] | None = None,
    layers: bool = False,
    image: Path | None = None,
    size: tuple[int, int] | None = None,
    out: Path = Path("receptive-field.png"),
    max_megapixels: float = LIMITS.max_megapixels,
) -> None:
    """Print the exact receptive field of every level, in pixels; with --image, draw it over an image.

    The receptive field of a level's center unit is drawn as a frame. The area outside of the image is padding.

    Args:
        model: Backbone name (`densevision list backbones`), or timm:NAME.
        stride_in: Convolution of a ResNet bottleneck that downsamples; 3x3 if not stated.
        layers: Also print every convolution and pooling layer.
        image: Image to draw over; print only if not stated.
        size: Height and width, in pixels, to which the image is resized; its own size if not stated.
        out: Output image of --image.
        max_megapixels: Images with more megapixels are refused before they are decoded.
    """
    import torch

    from ..backbones import create_backbone
    from ..datasets.formats.image import write_image

    allow_megapixels(max_megapixels)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out is '{out}'; name a .png or .jpg file.")
    options: dict[str, Any] = {"stride_in": stride_in} if stride_in else {}
    with torch.device("meta"):
        backbone = create_backbone(model, num_classes=0, **options)
    result = library.receptive_field(backbone, image, layers=layers, size=size)
    print("\n".join(result.notes))
    if image is not None:
        write_image(out, result.image)
        print(printable(f"Wrote {out}."))
