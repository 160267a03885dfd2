"""Names of 0.1.0 before the renaming, old to new: what `densevision weights convert` and records of runs need.

Nothing else may read this table: a file with old names is refused, not understood.
"""

from __future__ import annotations

from typing import Any

from ..schema import Schema

OPTIONS: dict[str, str] = {
    "levels": "backbone_levels",
    "network": "model",
    "init": "init_from",
    "batch": "batch_size",
    "size": "image_size",
    "decay": "weight_decay_on",
    "warmup": "warmup_steps",
    "trunk_lr": "backbone_lr_factor",
    "ema": "ema_decay",
    "accumulate": "micro_batches",
    "clip": "clip_grad_norm",
    "freeze": "freeze_backbone",
    "flip": "hflip",
    "rotate": "max_rotation",
    "zoom": "max_zoom",
    "scale": "resize_short_side",
    "pad": "crop_padding",
    "area": "crop_area",
    "colour": "color_jitter",
    "overfit": "overfit_one_batch",
    "evaluate_every": "eval_every",
}
"""Options of `densevision train`, as `config.yaml` stores them."""

SCHEDULES: dict[str, tuple[tuple[float, ...], float]] = {
    "step": ((0.5, 0.75), 0.1),
    "three-steps": ((0.25, 0.5, 0.75), 0.1),
    "halving": ((1 / 2, 2 / 3, 5 / 6), 0.5),
    "exponential": (tuple(part / 30 for part in range(1, 30)), 0.96),
}
"""Schedules that are `multistep` now, with their milestones and gamma."""

OPTION_VALUES: dict[str, dict[str, str]] = {
    "optimizer": {"sgd-1986": "sgd-caffe"},
    "weight_decay_on": {"kernels": "weights"},
}

TASK_OPTIONS: dict[str, dict[str, str]] = {
    "colorization": {"answer": "output", "neighbours": "neighbors"},
    "flow": {"form": "fusion", "between": "relative_motion"},
    "pose": {"stretch": "keep_aspect", "start": "init", "patches": "random_erase"},
    "restoration": {"degrade": "degradations"},
    "translation": {
        "from_": "source_field",
        "to": "target_field",
        "patches": "discriminator_layers",
        "fidelity": "lambda_l1",
    },
}
"""Options of the tasks themselves. The value of `keep_aspect` is that of `stretch` negated."""

TASK_OPTION_VALUES: dict[str, dict[str, dict[str, str]]] = {
    "colorization": {"output": {"classes": "bins"}},
    "flow": {"fusion": {"shared": "siamese", "stacked": "early"}},
    "restoration": {"degradations": {"holes": "masks"}},
    "translation": {"norm": {"batch-stats": "batch", "frozen": "frozen-batch"}},
}

DATASETS: dict[str, str] = {
    "athletes": "synthetic-athletes",
    "chairs": "synthetic-chairs",
    "facades": "synthetic-facades",
    "figures": "synthetic-figures",
    "mislabelled-figures": "synthetic-mislabeled-figures",
    "photograph-edges": "edges-to-photos",
    "photograph-greys": "gray-to-photos",
    "photographs": "image-folders",
    "rooms": "synthetic-rooms",
    "shapes": "synthetic-shapes",
    "weather": "synthetic-weather",
}

RECIPES: dict[str, str] = {
    "chairs": "synthetic-chairs",
    "facades": "synthetic-facades",
    "figures": "synthetic-figures",
    "photographs": "photos",
    "rooms": "synthetic-rooms",
    "shapes": "synthetic-shapes",
    "weather": "synthetic-weather",
}

LOSSES: dict[str, dict[str, str]] = {
    "classification": {"smoothed": "label-smoothing"},
    "colorization": {"classification": "cross-entropy"},
    "depth": {"log": "log-l1+grad", "log-edges": "log-l1+grad-strong"},
}

PROTOCOLS: dict[str, dict[str, str]] = {
    "classification": {"centre-crop": "center-crop"},
    "flow": {"pixels": "pixel-mean", "pictures": "image-mean"},
    "restoration": {"y-studio": "y-bt601"},
    "translation": {"pictures": "image-mean", "judge": "fcn-score", "facades": "fcn-score-synthetic-facades"},
}

METRICS: dict[str, str] = {
    "rms": "rmse",
    "rms_log": "rmse_log",
    "colourfulness": "colorfulness",
    "colourfulness_of_truth": "colorfulness_of_ground_truth",
}

FIELD_TYPES: dict[str, str] = {"Labels": "SegmentationMask", "Category": "ClassLabel", "Number": "Scalar"}

TITLES: dict[str, str] = {
    "Folders of photographs": "Image folders",
    "Rooms (embedded world)": "Rooms (synthetic)",
    "Chairs (embedded world)": "Chairs (synthetic)",
    "Figures (embedded world)": "Figures (synthetic)",
    "Athletes (embedded world)": "Athletes (synthetic)",
    "Facades (embedded world)": "Facades (synthetic)",
    "Shapes (embedded world)": "Shapes (synthetic)",
    "Weather (embedded world)": "Weather (synthetic)",
}

TERMS: dict[str, str] = {
    "drawn with photographs": "rendered with photos",
    "Flickr pictures": "Flickr images",
    "whatever holds for your files": "license of your files",
}
"""Phrases in the terms of data."""

HEADER_KEYS: dict[str, str] = {"network": "model", "trunk": "backbone_weights", "init": "init_from"}
"""Keys of a checkpoint's header."""

RESULT_KEYS: dict[str, str] = {"network": "model", "watch": "monitor", "trunk": "backbone_weights", "init": "init_from"}
"""Keys of `result.json`."""

TENSORS: dict[str, dict[str, str]] = {"colorization": {"answer.": "decoder."}}
"""Prefixes of tensor names, by task."""


class OldData(Schema):
    """The dataset, whose keys are those of the present."""

    name: str
    title: str
    terms: str


class OldOrigin(Schema):
    """The checkpoint from which a model was initialized."""

    file: str
    data: OldData
    init: OldOrigin | None


class OldField(Schema):
    """A field type, of which only the name is read."""

    kind: str


class OldHeader(Schema):
    """What `conversion` reads of a header; its result is validated as `checkpoint_header.Header`."""

    format: None = None
    task: str
    task_options: dict[str, Any]
    fields: dict[str, OldField]
    data: OldData
    trunk: dict[str, Any] | None = None
    init: OldOrigin | None = None
    loss: str | None = None
    recipe: str | None = None
    metrics: dict[str, Any] | None = None
