"""Conversion of the committed result records from the names before 0.1.0 to today's.

    python tools/convert_runs.py runs OLD NEW           the records of the results pages, a folder of folders
    python tools/convert_runs.py experiments OLD NEW    the measurements of examples/training_deep_networks.py

Reads every `*.json` file under OLD and writes it under NEW with the new names of keys, data sets, protocols, options
and files. Names change; numbers do not: a record whose numbers differ after the conversion is an error. It was run
once, on `docs/results` into `tools/reproduce/runs` and on `docs/experiments` into `examples/training_deep_networks`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from densevision.atomic_io import json_text
from densevision.tasks import renamed

Record = dict[str, Any]

RESULT_KEYS = {**renamed.RESULT_KEYS, "flip": "tta_flip"}
"""Keys of a `result.json`, old to new; `flip` is a key of `densevision evaluate`."""

FOLDERS = {"trunk": "backbone", "colour-loss": "color-loss", "adversary": "adversarial-loss"}
"""Folders of records, old to new."""

FILES = {
    "classical/chairs": "classical/flying-chairs",
    "classical/photographs": "classical/photos",
    "classical/weather": "classical/synthetic-weather",
    "classification/digits": "classification/mnist",
    "classification/world": "classification/synthetic-shapes",
    "colorization/photographs": "colorization/photos",
    "colorization/world": "colorization/synthetic-shapes",
    "depth/kitchen-unseen": "depth/kitchen-zero-shot",
    "depth/rooms": "depth/packaged-synthetic-rooms",
    "depth/world": "depth/synthetic-rooms",
    "flow/chairs": "flow/flying-chairs",
    "flow/world": "flow/synthetic-chairs",
    "pose/sports": "pose/lsp-extended",
    "pose/world": "pose/synthetic-figures",
    "restoration/photographs": "restoration/photos",
    "restoration/world": "restoration/synthetic-weather",
    "translation/judge": "translation/evaluator",
    "translation/streets": "translation/camvid",
    "translation/world": "translation/synthetic-facades",
    "initialisation": "initialization",
    "normalisation": "normalization",
}
"""Records, old to new, where the name of the file changes as well."""

LABELS = {"l1-of-logarithms-and-edges-": "log-l1-gradient-", "with-": "adversarial-l1-", "without-": "l1-only-"}
"""Variants of a comparison, old to new, as the names of their files begin."""

METHODS = {"the picture as it came": "degraded input"}
"""Classical methods, old to new."""


def new_name(name: str) -> str:
    """The name of a record today, without its ending; slashes separate folders."""
    folder, _, stem = FILES.get(name, name).rpartition("/")
    for old, new in LABELS.items():
        if stem.startswith(old):
            stem = new + stem.removeprefix(old)
    return f"{FOLDERS.get(folder, folder)}/{stem}" if folder else stem


def convert_result(record: Record) -> Record:
    """A `result.json`, of `densevision train`, `densevision evaluate` or tools/reproduce/classical.py."""
    if "task" not in record:
        return record  # the speeds of backbones: names of variants and numbers
    task, converted = record["task"], {RESULT_KEYS.get(key, key): value for key, value in record.items()}
    for key in ("data", "trained_on"):
        if key in converted:
            converted[key] = renamed.DATASETS.get(converted[key], converted[key])
    converted["protocol"] = convert_protocol(task, record["protocol"])
    if "options" in record:
        converted["options"] = convert_options(task, record["options"])
    for key in ("metrics", "baseline"):
        if key in record:
            converted[key] = convert_metrics(record[key])
    if "methods" in record:
        converted["methods"] = {
            METHODS.get(name, name): convert_metrics(metrics) for name, metrics in record["methods"].items()
        }
    if "monitor" in converted:
        monitored = converted["monitor"]
        converted["monitor"] = {**monitored, "name": renamed.METRICS.get(monitored["name"], monitored["name"])}
    return converted


def convert_protocol(task: str, protocol: str) -> str:
    """A protocol with its value, which may be the checkpoint of another record's run."""
    name, equals, value = protocol.partition("=")
    parts = value.split("/")
    if parts[0] == "runs":
        run = new_name("/".join(parts[1:-1]))
        value = "/".join(["runs", run, parts[-1]])
    return f"{renamed.PROTOCOLS.get(task, {}).get(name, name)}{equals}{value}"


def convert_options(task: str, options: Record) -> Record:
    """The options of a task."""
    names, values = renamed.TASK_OPTIONS.get(task, {}), renamed.TASK_OPTION_VALUES.get(task, {})
    converted = {}
    for old, value in options.items():
        name = names.get(old, old)
        if name == "keep_aspect":
            value = not value
        elif isinstance(value, str) and name in values:
            value = ",".join(values[name].get(part, part) for part in value.split(","))
        converted[name] = value
    return converted


def convert_metrics(metrics: Record | None) -> Record | None:
    """Scores by the names of their metrics."""
    return metrics and {renamed.METRICS.get(name, name): value for name, value in metrics.items()}


def convert_experiment(record: Record) -> Record:
    """Measurements of examples/training_deep_networks.py."""
    keys = {"network": "backbone", "rate": "lr"}
    runs = [{keys.get(key, key): value for key, value in run.items()} for run in record["runs"]]
    for run in runs:
        run["label"] = run["label"].replace("momentum, rate ", "momentum, learning rate ")
    return {**record, "how": record["how"].replace("pictures", "images"), "runs": runs}


def numbers(value: Any) -> Iterator[int | float]:
    """Every number of a record, in its order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def convert_folder(old: Path, new: Path, convert: Callable[[Record], Record], indent: int | None) -> None:
    """Convert every record under a folder, and count the numbers that are as before.

    Raises:
        ValueError: a number changed, or two records would have one name.
    """
    files, compared = sorted(old.rglob("*.json")), 0
    targets = {file: new / f"{new_name(file.relative_to(old).with_suffix('').as_posix())}.json" for file in files}
    if len(set(targets.values())) < len(files):
        raise ValueError(f"Two records under {old} would have the same name.")
    for file, target in targets.items():
        before = json.loads(file.read_text(encoding="utf-8"))
        after = convert(before)
        if list(numbers(before)) != list(numbers(after)):
            raise ValueError(f"{file}: a number changed.")
        compared += sum(1 for _ in numbers(before))
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json_text(after, indent=indent, ensure_ascii=indent is not None)
        target.write_text(text + "\n", encoding="utf-8")
    print(f"{len(files)} records, {compared} numbers, all of them unchanged.")


if __name__ == "__main__":
    kinds = {"runs": (convert_result, 2), "experiments": (convert_experiment, None)}
    if len(sys.argv) != 4 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    convert_folder(Path(sys.argv[2]), Path(sys.argv[3]), *kinds[sys.argv[1]])
