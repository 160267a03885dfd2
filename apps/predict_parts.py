"""Prediction in parts on Ray Data: `densevision predict --engine ray`, where machines come and go (extra: ray).

A part is a fixed slice of the sorted requests. An actor writes its predictions (`parts/00017.tar`, or the files
themselves) and then its record (`parts/00017.jsonl`), which says that the part is done. Ray executes a part at least
once; writing it again gives the same files under the same names. No process reads the records of all parts.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from ..atomic_io import json_text
from ..datasets.core.files import IMAGE_SUFFIXES, natural_key
from ..datasets.core.problems import DatasetError
from ..datasets.core.storage import Storage
from ..datasets.formats.tar import pack_members
from ..errors import UserError, printable
from ..limits import allow_megapixels
from .inference_config import Box, InferenceConfig
from .inputs import InferenceRequest, Source
from .manifest import Manifest, parse_record
from .pipeline import PipelineSteps, pipelined_map
from .ray_cluster import connect

Form = Literal["tar", "files"]
Names = tuple[str, ...]
Made = tuple[list[str], dict[str, Any]]
"""Paths of the files of a prediction, and its values."""


@dataclass(frozen=True)
class PartOptions:
    """What an actor needs: the model, how it predicts, and where inputs and outputs are.

    Attributes:
        checkpoint, device, amp: see `tasks.inference.load`; every machine has the checkpoint.
        task_options: for `Predictor.with_options`.
        mode, tta_flip, box: see `Predictor.predict`.
        seed, batch_size, max_megapixels: those of the command.
        source, target: storage of the inputs and of the outputs.
        form: whether the predictions of a part are one tar, or files as those of a run on one machine.
    """

    checkpoint: str
    device: str
    amp: str
    task_options: dict[str, Any]
    mode: str | None
    tta_flip: bool
    box: Box | None
    seed: int
    batch_size: int
    max_megapixels: float
    source: Storage
    target: Storage
    form: Form

    def config(self) -> InferenceConfig:
        """Model and options, as those of a run on one machine."""
        from ..tasks.inference import load

        allow_megapixels(self.max_megapixels)
        predictor = load(self.checkpoint, self.device, self.amp).with_options(**self.task_options)
        predictor.seed = self.seed
        return InferenceConfig(predictor, Path(), self.mode, self.tta_flip, self.box)


class PartPredictor:
    """Predicts parts, one after the other; an actor of Ray."""

    def __init__(self, options: PartOptions) -> None:
        self.options, self.config = options, options.config()
        self.task = self.config.predictor.task.name

    @cached_property
    def digest(self) -> str:
        """Digest of everything that a prediction depends on besides its images."""
        return Manifest(Path(), self.task, self.config.digest()).digest

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predict a part, unless its record says that it is done.

        Args:
            row: `part`, its number, and `requests`, pairs of an output stem and the names of its inputs, as JSON.

        Returns:
            part: its number. done: predictions that exist now. existing: those of an earlier run. skipped: messages of
            requests that failed, as JSON.
        """
        number, requests = int(row["part"]), [(stem, tuple(names)) for stem, names in json.loads(row["requests"])]
        source, target = self.options.source, self.options.target
        inputs = {stem: {name: source.stamp(name) for name in names} for stem, names in requests}
        result = {"part": number, "done": len(requests), "existing": 0, "skipped": "[]"}
        if self._is_done(number, inputs):
            return {**result, "existing": len(requests)}
        skipped: list[str] = []
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as copies:
            items = [stored_request(source, stem, names, Path(copies)) for stem, names in requests]
            made = self._predict(items, Path(folder), skipped)
            written = {path: (Path(folder) / path).read_bytes() for paths, _ in made.values() for path in paths}
        if self.options.form == "tar":
            target.write(f"{part_name(number)}.tar", pack_members(sorted(written.items())))
        else:
            for path, data in sorted(written.items()):
                target.write(path, data)
        lines: list[dict[str, Any]] = [{"config": self.digest, "options": self.config.digest()}]
        for stem, (paths, values) in sorted(made.items()):
            of_stem = {"inputs": inputs[stem], "files": {path: [len(written[path])] for path in paths}}
            lines.append({"output": stem, "task": self.task, "config": self.digest, **of_stem, "values": values})
        target.write(f"{part_name(number)}.jsonl", "".join(f"{json_text(line)}\n" for line in lines).encode())
        return {**result, "done": len(made), "skipped": json_text(skipped)}

    def _is_done(self, number: int, inputs: dict[str, dict[str, Any]]) -> bool:
        """Whether the record of a part has these inputs, unchanged, predicted with the same model and options."""
        target = self.options.target
        try:
            lines = target.read(f"{part_name(number)}.jsonl", "the record of a part").splitlines()
        except DatasetError:
            return False
        records = [record for line in lines if (record := parse_record(line)) is not None]
        if {record["output"]: record["inputs"] for record in records} != inputs:
            return False
        if any(record["config"] != self.digest or record["task"] != self.task for record in records):
            return False
        if self.options.form == "tar":
            return target.exists(f"{part_name(number)}.tar")
        sizes = {path: size for record in records for path, size in record["files"].items()}
        return all(target.stamp(path)[:1] == size for path, size in sizes.items())

    def _predict(self, requests: Sequence[InferenceRequest], folder: Path, skipped: list[str]) -> dict[str, Made]:
        """Predict requests into a folder; returns what was made, by output stem."""
        config, source = replace(self.config, out=folder), self.options.source
        made: dict[str, Made] = {}

        def finish(request: InferenceRequest, prepared: Any, outputs: Any) -> Made:
            files, values, _ = config.finish(request, prepared, outputs)
            return [file.relative_to(folder).as_posix() for file in files], values

        run = partial(config.run, batch_size=self.options.batch_size)
        # The size of a remote image is known when it has been fetched, in `prepare`.
        pixels = (lambda _: 0) if source.is_remote else config.pixels
        steps = PipelineSteps(config.prepare, run, finish, pixels)
        with closing(pipelined_map(requests, steps, batch_size=self.options.batch_size)) as results:
            for request, result in results:
                if isinstance(result, UserError):
                    skipped.append(f"{request.name}: {' '.join(str(result).split())}")
                else:
                    made[request.stem.as_posix()] = result
        return made


def part_name(number: int) -> str:
    """Name of the files of a part, without suffix."""
    return f"parts/{number:05}"


def stored_request(source: Storage, stem: str, names: Names, folder: Path) -> InferenceRequest:
    """The request for images of a storage; those of a remote one are copied to a folder when they are read."""
    from ..tasks.image_io import ImageFile

    def images() -> Sequence[Any]:
        for name in names if source.is_remote else ():
            if not (folder / name).exists():
                source.copy_to(name, folder / name)
        root = folder if source.is_remote else Path(source.root)
        return [ImageFile(root / name) for name in names]

    return InferenceRequest(images, " ".join(map(source.path, names)), Path(stem), tuple(map(Path, names)))


def list_requests(source: Storage, needed: int | None, names: Sequence[str]) -> Iterator[InferenceRequest]:
    """The requests for all images of a storage, grouped as the frames of its folders.

    Raises:
        UserError: there is no image, or a folder has fewer than the model takes.
    """
    files = sorted(map(Path, source.list(IMAGE_SUFFIXES)), key=natural_key)
    if not files:
        raise UserError(f"'{source.root}' contains no image ({', '.join(IMAGE_SUFFIXES)}).")
    for folder, members in groupby(files, key=lambda file: file.parent):
        for group, stem in Source("frames", tuple(members), folder).groups(needed, names):
            yield InferenceRequest(tuple, " ".join(map(str, group)), stem, group)


def predict_in_parts(
    options: PartOptions, config: InferenceConfig, needed: int | None, names: Sequence[str], per: int, actors: int
) -> bool:
    """Predict all images of the source on Ray, and report; returns whether any failed.

    Args:
        options: what the actors need.
        config: model and options.
        needed: images of a request, see `Source.groups`.
        names: of those images.
        per: requests of a part.
        actors: processes that predict at the same time.
    """
    if f"{options.target.root}/".startswith(f"{options.source.root}/"):
        raise UserError(f"--out is '{options.target.root}', in '{options.source.root}': give another place.")
    ray = connect()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        # Without records, it gives each output a name of its own.
        manifest = Manifest(Path(empty), config.predictor.task.name, config.digest())
        requests = [
            (request.stem.as_posix(), [file.as_posix() for file in request.files])
            for request in manifest.with_own_outputs(list_requests(options.source, needed, names))
        ]
    parts = [requests[start : start + per] for start in range(0, len(requests), per)]
    rows = [{"part": number, "requests": json_text(part)} for number, part in enumerate(parts)]
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    actors = min(actors, len(parts))
    # Its bars are pages of text where the output is no terminal.
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    resources = {"num_gpus": 1} if has_gpus else {"num_cpus": max(1, ray.cluster_resources()["CPU"] // (actors + 1))}
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        PartPredictor,
        fn_constructor_args=(options,),
        compute=ray.data.ActorPoolStrategy(size=actors),
        **resources,
    )
    results = []
    for result in data.iter_rows():
        results.append(result)
        done = sum(each["done"] for each in results)
        print(f"part {result['part']}: {done} of {len(requests)} ({time.perf_counter() - started:.0f} s)", flush=True)
    results.sort(key=lambda result: result["part"])
    lines = [json_text({"part": part_name(result["part"]), "predictions": result["done"]}) for result in results]
    options.target.write("manifest.jsonl", ("\n".join(lines) + "\n").encode())
    skipped = [message for result in results for message in json.loads(result["skipped"])]
    for message in skipped:
        print(f"skipped: {printable(message)}", file=sys.stderr)
    existing = sum(result["existing"] for result in results)
    earlier = f" ({existing} in an earlier run)" if existing else ""
    print(
        f"{sum(result['done'] for result in results)} of {len(requests)} image(s) predicted{earlier}; results in "
        f"{printable(options.target.root)}.",
        file=sys.stderr,
    )
    return bool(skipped)
