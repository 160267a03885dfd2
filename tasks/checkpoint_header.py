"""Schema of the checkpoint header: the JSON from which a model is built, and what is known about its training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..errors import UserError
from ..schema import Closed, Schema, Size, Step, Text, validate_json
from .renamed import OldHeader

FORMAT = 2
"""Version of the names in the header; the first version had no number."""
REMEDY = "download or copy the file again, or train again"

Number = float | None
"""A finite number, or null for one that is not."""


class Data(Schema):
    """The training dataset, and its terms."""

    name: Text
    title: Text
    terms: Text


class BackboneWeights(Schema):
    """Weights from which the backbone was initialized, and their license."""

    weights: Text
    origin: Text | None
    license: Text | None


class Origin(Closed):
    """The checkpoint from which the model was initialized, with that checkpoint's own origin."""

    file: Text
    data: Data
    init_from: Origin | None


class Metrics(Schema):
    """Scores of the last evaluation by name, under a protocol."""

    __pydantic_extra__: dict[str, Number] = Field(init=False)

    protocol: Text
    samples: Number = None
    split: Text = ""


class Header(Schema):
    """Header of a checkpoint; it may have more keys. `ModelSpec.from_json` validates `task_options` by the task's
    class, `fields` by the classes of the field types, and `backbone_options` by the class of the backbone.
    """

    format: Literal[2]
    version: Text = ""
    task: Text
    task_options: dict[Text, Any]
    fields: Annotated[dict[Text, dict[Text, Any]], Field(max_length=100)]
    backbone: Text | None
    backbone_options: dict[Text, Any]
    head: Text | None
    model: Text | None
    preprocessing: str | None
    size: Size
    step: Step = 0
    data: Data
    backbone_weights: BackboneWeights | None
    init_from: Origin | None
    loss: Text | None = None
    recipe: Text | None = None
    metrics: Metrics | None = None
    digest: Text | None = None

    @model_validator(mode="after")
    def _one_network(self) -> Header:
        if (self.backbone is None) == (self.model is None):
            raise ValueError("it must name either a 'backbone' or a 'model'")
        return self


class _Format(Schema):
    format: int | None = None
    digest: Text | None = None


def parse_header(text: str | bytes, source: str) -> dict[str, Any]:
    """The header of a checkpoint from its JSON text.

    Args:
        text: the value of `HEADER` in the metadata of the file.
        source: name of the file, for messages.

    Returns:
        Plain data without `digest`, which is not about the model; text is printable.

    Raises:
        UserError: not as the schema says, or with the names of an earlier version.
    """
    if not is_current(text, source):
        raise UserError(
            f"{source} was written with the names of an earlier densevision; convert it with: "
            f"densevision weights convert {source} NEW.safetensors"
        )
    return validate_json(Header, text, f"The header of {source}", REMEDY).model_dump(
        mode="json", exclude_unset=True, exclude={"digest"}
    )


def is_current(text: str | bytes, source: str) -> bool:
    """Whether a header has a format, and so the present names; raises as `parse_header`."""
    return validate_json(_Format, text, f"The header of {source}", REMEDY).format is not None


def stated_digest(text: str | bytes, source: str) -> str | None:
    """The `tensors_digest` that a header states; None in those of earlier versions. Raises as `parse_header`."""
    return validate_json(_Format, text, f"The header of {source}", REMEDY).digest


def parse_old_header(text: str | bytes, source: str) -> dict[str, Any]:
    """The header of a checkpoint before the renaming, which has no format, as plain data.

    Raises:
        UserError: not as the schema says.
    """
    header = validate_json(OldHeader, text, f"The old header of {source}", REMEDY)
    return header.model_dump(mode="json", exclude_unset=True)
