"""`densevision predict`: batch inference on images, folders and videos, saved as visualizations and raw data."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError, unknown_name
from ..version import VERSION
from .distributed import ProcessGroup
from .inputs import InferenceRequest, collect_inputs, iter_requests
from .manifest import Manifest
from .pipeline import PipelineSteps, pipelined_map

if TYPE_CHECKING:
    from torch import Tensor

    from ..tasks.inference import ModelInput, Predictor

Box = tuple[float, float, float, float]


def predict(
    checkpoint: str,
    /,
    *inputs: Path,
    out: Path = Path("predictions"),
    input_mode: str | None = None,
    tta_flip: bool = False,
    box: str | None = None,
    seed: int = 0,
    device: str = "auto",
    amp: Literal["auto", "bf16", "off"] = "auto",
) -> None:
    """Run a model on images, folders of images and videos.

    Tasks with two input images (flow) take them in pairs: two at a time in the order of the command line, and all
    pairs of consecutive frames of a folder or a video. Unreadable inputs are skipped and listed at the end, and the
    exit code is then 1.

    Inputs whose results are already in the output folder, made with the same checkpoint and options, are not run
    again, so an interrupted run can be resumed. To use several processes: torchrun -m densevision predict ...

    Args:
        checkpoint: Checkpoint file, or a task's name for its packaged checkpoint.
        inputs: Images, folders of images, videos (.mp4, .avi, .mov, .mkv, .webm), or patterns ("photos/*.jpg").
        out: Output folder for the results and for predictions.jsonl, which lists the files written for each input.
        input_mode: How images are fed to the model: fit (resized to the training size, the output resized back), native
            (at their own size, tiled if large), or a task's own modes; the task's first one if not stated.
        tta_flip: Test-time augmentation: average the predictions for the image and its mirror image.
        box: Region of each image to predict, as X,Y,WIDTH,HEIGHT in pixels; if not stated, the largest person found by
            a detector (pose, if the detector's weights are available), else the complete image.
        seed: Random seed of stochastic models (the dropout of translation); another seed gives another image.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the device supports it in hardware.
    """
    from ..tasks.inference import load

    region = None if box is None else parse_box(box)
    group = ProcessGroup.current()
    sources = collect_inputs(inputs, out)
    predictor = load(checkpoint, device, amp)
    predictor.seed = seed
    task, fields = predictor.task, predictor.fields
    if input_mode is not None and input_mode not in task.input_modes:
        raise unknown_name(f"input mode of the task {task.name}", input_mode, task.input_modes)
    config = InferenceConfig(predictor, out, input_mode, tta_flip, region)
    input_names = tuple(task.inputs(fields))
    noun = {1: "image", 2: "pair"}.get(len(input_names), "group")
    requests = group.share(iter_requests(sources, input_names))
    for line in license_notes(predictor.header) if group.rank == 0 else ():
        print(line, file=sys.stderr)
    manifest = Manifest(out, task.name, config.digest(), group.rank, group.num_processes)
    summary = run_all(config, requests, manifest, f"{noun}s")
    summaries = group.all_gather(summary)
    if group.rank == 0 or not group.distributed:
        report(summaries, noun, out)
    if any(each.skipped for each in summaries):
        sys.exit(1)


@dataclass
class RunSummary:
    """Counts of a run.

    Attributes:
        requests: requests so far.
        existing: requests whose results were already in the output folder.
        skipped: one error message per failed request.
        outdated: results of another checkpoint or of other options, which were replaced.
    """

    requests: int = 0
    existing: int = 0
    skipped: list[str] = field(default_factory=list)
    outdated: int = 0


@dataclass(frozen=True)
class InferenceConfig:
    """Model and options of a run, with the steps of the inference pipeline.

    Attributes:
        predictor: the model.
        out: output folder.
        mode, tta_flip, box: see `Predictor.predict`.
    """

    predictor: Predictor
    out: Path
    mode: str | None
    tta_flip: bool
    box: Box | None

    def digest(self) -> dict[str, Any]:
        """Everything that a prediction depends on besides its images, JSON-serializable."""
        predictor = self.predictor
        return {
            "densevision": VERSION,
            "task": repr(predictor.task),
            "weights": predictor.weights_hash,
            "size": list(predictor.size),
            "input_mode": self.mode or predictor.task.input_modes[0],
            "tta_flip": self.tta_flip,
            "box": self.box,
            "seed": predictor.seed,
            "bf16": predictor.bf16,
        }

    def prepare(self, request: InferenceRequest) -> ModelInput:
        """Read and preprocess the images of a request."""
        return self.predictor.load_inputs(*request.images(), mode=self.mode, flip=self.tta_flip, box=self.box)

    def finish(self, request: InferenceRequest, model_input: ModelInput, output: Tensor) -> tuple[list[Path], str]:
        """Decode and save a prediction; returns the files written and a summary for the log."""
        prediction = self.predictor.decode(model_input, output)
        files = prediction.save(self.out / request.stem.parent, request.stem.name)
        return files, ", of ".join(filter(None, (prediction.summary(), model_input.remark)))

    @staticmethod
    def pixels(request: InferenceRequest) -> int:
        """Number of pixels in a request, by the headers of its files; 0 if they cannot be read."""
        from ..tasks.image_io import count_pixels

        try:
            return sum(map(count_pixels, request.images()))
        except UserError:
            return 0


def run_all(config: InferenceConfig, requests: Iterator[InferenceRequest], manifest: Manifest, noun: str) -> RunSummary:
    """Process the requests whose results do not exist yet, and print a line for each.

    After Ctrl-C the finished ones are in the manifest.

    Args:
        config: model and options.
        requests: requests of this process.
        manifest: record of the output folder.
        noun: "images" or "pairs", for the log.
    """
    # Pillow warns above its size limit and raises above twice the limit, which becomes an error message: the warning
    # adds nothing.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit", append=False)
    summary, started = RunSummary(), time.perf_counter()

    def pending() -> Iterator[InferenceRequest]:
        for request in requests:
            summary.requests += 1
            if manifest.is_done(request):
                summary.existing += 1
            else:
                yield request

    def finish(request: InferenceRequest, model_input: ModelInput, output: Tensor) -> str:
        files, description = config.finish(request, model_input, output)
        manifest.add(request, files)
        return f"{request.name}: {', '.join(file.name for file in files)} {description}"

    steps = PipelineSteps(config.prepare, config.predictor.forward, finish, config.pixels)
    results = pipelined_map(pending(), steps)
    try:
        with closing(results):
            for number, (request, result) in enumerate(results, 1):
                if isinstance(result, UserError):
                    message = " ".join(str(result).split())
                    summary.skipped.append(message if request.name in message else f"{request.name}: {message}")
                else:
                    print(f"{result} ({number / (time.perf_counter() - started):.1f} {noun}/s)", flush=True)
    except KeyboardInterrupt:
        done = summary.existing + manifest.added
        print(f"{done} {noun} are done; run the same command again to resume.", file=sys.stderr)
        raise
    summary.outdated = manifest.outdated
    return summary


def report(summaries: list[RunSummary], noun: str, out: Path) -> None:
    """Print what was skipped and how many predictions were made, over all processes.

    Args:
        summaries: one per process.
        noun: "image" or "pair", for the log.
        out: output folder.
    """
    total, existing, outdated = (
        sum(getattr(each, name) for each in summaries) for name in ("requests", "existing", "outdated")
    )
    skipped = [message for each in summaries for message in each.skipped]
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    if outdated:
        print(f"{outdated} prediction(s) of another checkpoint or other options were replaced.", file=sys.stderr)
    earlier = f" ({existing} in an earlier run)" if existing else ""
    print(f"{total - len(skipped)} of {total} {noun}(s) predicted{earlier}; results in {out}.", file=sys.stderr)


def parse_box(box: str) -> Box:
    """Parse the four numbers of `--box`.

    Raises:
        UserError: the text is not four numbers.
    """
    try:
        x, y, width, height = map(float, box.split(","))
    except ValueError:
        raise UserError(f"--box is '{box}'; give four comma-separated numbers: X,Y,WIDTH,HEIGHT in pixels.") from None
    return x, y, width, height


def license_notes(header: dict) -> list[str]:
    """Training data of a model, and the license terms of that data and of the backbone's weights; one line each.

    The training data is named because a model has only its own classes: one trained on MNIST calls a cup a nine.

    Args:
        header: the checkpoint's.
    """
    lines, ancestor, backbone = [], header, header.get("backbone_weights") or {}
    if data := header.get("data"):
        name = header.get("model") or " + ".join(filter(None, (header.get("backbone"), header.get("head"))))
        lines.append(f"{name}, trained on {data['title']}.")
    while ancestor:
        data = ancestor.get("data") or {}
        if "research" in data.get("terms", "") or "commercial" in data.get("terms", ""):
            lines.append(f"These weights were trained on {data['title']}: {data['terms']}.")
        ancestor = ancestor.get("init_from")
    if backbone.get("license"):
        lines.append(f"The backbone was initialized from {backbone['weights']} ({backbone['license']}).")
    return list(dict.fromkeys(lines))
