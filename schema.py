"""Schemas of what files store: plain data is validated once, where a file is opened, and an error is one sentence."""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from .errors import UserError, printable
from .limits import check_pixels

MAX_JSON_BYTES = 4 * 2**20
"""Size of a JSON text; that of a header with the 21,841 classes of ImageNet is half a megabyte."""
MAX_CLASSES = 100_000
"""Classes, joints and other names of one field."""
MAX_CHANNELS = 1024
"""Channels of an image."""
MAX_SIDE = 4096
"""Height or width, in pixels, of the images that a model was trained on."""
MAX_STEP = 10**12
"""Steps of a training."""

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys. Unlike `errors.printable`, which is for messages, it leaves all spaces in names."""


def _escape(text: str) -> str:
    return CONTROL_CHARACTERS.sub(lambda match: printable(match[0]), text)


Text = Annotated[str, Field(max_length=10_000), AfterValidator(_escape)]
"""Text that commands print: its control characters are escaped."""
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Step = Annotated[int, Field(ge=0, le=MAX_STEP)]


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    check_pixels(size[1], size[0])
    return size


Size = Annotated[tuple[Side, Side], AfterValidator(_check_size)]
"""(height, width) in pixels, within the limit of megapixels."""


class Schema(BaseModel):
    """Base of the schemas. Nothing is converted ("3" is no number), numbers are finite, unknown keys are kept."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow", arbitrary_types_allowed=True)


class Closed(Schema):
    """Base of the schemas that know all keys."""

    model_config = ConfigDict(extra="forbid")


SchemaT = TypeVar("SchemaT", bound=Schema)
DataclassT = TypeVar("DataclassT")


def validate_json(schema: type[SchemaT], text: str | bytes, source: str, remedy: str) -> SchemaT:
    """Parse JSON and validate it by a schema.

    Args:
        schema: what the text must be.
        text: the JSON, from a file.
        source: what it is, to begin the message: "the header of a.safetensors".
        remedy: what to do about an invalid one, to end the message.

    Raises:
        UserError: it is no JSON, too long, too deep, or not as the schema says; the message names the key.
    """
    if len(text) > MAX_JSON_BYTES:
        raise UserError(f"{source} has {len(text)} bytes, more than {MAX_JSON_BYTES}: {remedy}.")
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise _user_error(error, source, remedy) from None


def validate(schema: type[SchemaT], value: Any, source: str, remedy: str) -> SchemaT:
    """Validate plain data, as `validate_json`; here, a list is no tuple."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise _user_error(error, source, remedy) from None


def create_dataclass(cls: type[DataclassT], values: Mapping[str, Any], source: str, remedy: str) -> DataclassT:
    """An instance of a dataclass from JSON values that its type hints validate; lists become tuples.

    Raises:
        UserError: an unknown key, or a value of another type or beyond the bounds of its hint.
    """
    hints = get_type_hints(cls, include_extras=True)
    keys: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        keys[field.name] = (hints[field.name], ... if required else None)
    checked = validate_json(create_model(cls.__name__, __base__=Closed, **keys), json.dumps(values), source, remedy)
    return cls(**{name: getattr(checked, name) for name in checked.model_fields_set})


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write thousands of digits; YAML and pickles state such numbers in other bases.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def short(value: Any) -> str:
    """A value for a message: on one line, abbreviated, control characters escaped."""
    return printable(_SHORT.repr(value))


def _user_error(error: ValidationError, source: str, remedy: str) -> UserError:
    first = error.errors(include_url=False, include_context=False)[0]
    key = f"'{short('.'.join(map(str, first['loc'])))[1:-1]}'"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        problem = f"is not JSON ({printable(message.removeprefix('Invalid JSON: '))})"
    elif first["type"] == "missing":
        problem = f"lacks {key}"
    elif first["type"] == "extra_forbidden":
        problem = f"has an unknown {key}"
    elif not first["loc"]:
        problem = f"is {short(first['input'])}: {printable(message)}"
    elif message.startswith("Input should"):
        problem = f"has {short(first['input'])} as {key}, which {message.removeprefix('Input ')}"
    else:
        problem = f"has {short(first['input'])} as {key}: {printable(message)}"
    return UserError(f"{source} {problem}: {remedy}.")
