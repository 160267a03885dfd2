"""`densevision evaluate`: scores of a checkpoint on a dataset under a protocol, beside those of a baseline."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError, printable

if TYPE_CHECKING:
    from ..datasets.dataset import Dataset
    from ..tasks.evaluation import Evaluation
    from ..tasks.inference import Predictor


def evaluate(
    checkpoint: str,
    /,
    *,
    data: str | None = None,
    root: str | None = None,
    cache: Path | None = None,
    split: str | None = None,
    protocol: str | None = None,
    samples: int | None = None,
    tta_flip: bool = False,
    fade: bool | None = None,
    degradations: str | None = None,
    batch_size: int = 8,
    save_worst: int = 0,
    csv: Path | None = None,
    exported: Path | None = None,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
    out: Path | None = None,
) -> None:
    """Evaluate a checkpoint on a dataset.

    Args:
        checkpoint: Run folder, checkpoint file, or the name of a packaged checkpoint or its task.
        data: Name of the dataset (`densevision list datasets`); that of the run's evaluations, else the training
            dataset, if not stated.
        root: Dataset folder, not needed for synthetic datasets; that of the run if not stated. Shards may be at an
            address (s3://bucket/data).
        cache: Folder for copies of shards; without it, they are read from --root each time.
        split: Split to evaluate; that of the run's evaluations, else the last split of the dataset, if not stated.
        protocol: Evaluation protocol: the pixels or samples that count, and how they are averaged; the usual protocol
            of the dataset if not stated.
        samples: Evaluate the first N samples only; all of them if not stated.
        tta_flip: Test-time augmentation: average the predictions for the image and its mirror image.
        fade: Colorization: fade to gray where the model is unsure; as the checkpoint states if not stated.
        degradations: Restoration: comma-separated degradations of clean images; as the checkpoint states if not stated.
        batch_size: Samples that are read together; those of one size run through the model together.
        save_worst: Save the N worst samples (input, ground truth, prediction) to worst.png.
        csv: File for the scores of every sample; without it, they are not written. Tables of the metrics (classes,
            confusion, joints, ranges) are written beside it, as FILE-NAME.csv.
        exported: File that `densevision export` wrote of the checkpoint (.onnx, .xml, .pt2): its own runtime predicts;
            without it, PyTorch does.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
        out: Output folder for result.json and worst.png; if not stated, the result is only printed, and worst.png is
            saved in the working directory.
    """
    from ..atomic_io import json_text, write_text
    from ..tasks.comparison_grid import draw_comparison, write_comparison
    from ..tasks.evaluation import prepare_split, score, worst_samples
    from ..tasks.inference import load

    for option, value, minimum in (
        ("samples", samples, 1),
        ("batch-size", batch_size, 1),
        ("save-worst", save_worst, 0),
    ):
        if value is not None and value < minimum:
            raise UserError(f"--{option} is {value}; it must be at least {minimum}.")
    predictor = load(checkpoint, device, amp)
    stated = {"fade": fade, "degradations": degradations}
    predictor = predictor.with_options(**{name: value for name, value in stated.items() if value is not None})
    if exported is not None:
        from ..tasks.export.exported_predictor import ExportedPredictor

        predictor = ExportedPredictor(predictor.to("cpu"), exported)
    task = predictor.task
    dataset, name, root = open_split(checkpoint, predictor, data, root, split)
    dataset = dataset if cache is None else dataset.with_cache(cache)
    test, protocol = prepare_split(predictor, dataset, protocol, samples)
    baseline = baseline_scores(predictor, name, root, test, protocol, samples)
    started = time.perf_counter()
    evaluation = score(
        task,
        predictor,
        test,
        protocol,
        samples,
        per_sample=bool(save_worst or csv),
        flip=tta_flip,
        batch_size=batch_size,
        progress=_progress,
    )
    seconds = time.perf_counter() - started
    if math.isnan(evaluation.metrics[task.monitor.name]):
        raise UserError(
            f"{checkpoint} has no {task.monitor.name} on '{name}', since its predictions are not finite: train again "
            "with a lower --lr, --clip-grad-norm 1 or --amp off."
        )
    result: dict[str, Any] = {
        "task": task.name,
        "options": dataclasses.asdict(task),  # type: ignore[call-overload]
        "checkpoint": Path(checkpoint).name,
        **model_info(predictor.header),
        "data": name,
        "split": test.split,
        "protocol": protocol,
        "tta_flip": tta_flip,
        "samples": evaluation.samples,
        "seconds": round(seconds, 1),
        "exported": None if exported is None else exported.name,
        "device": f"{predictor.device.type}, {predictor.precision}",
        "metrics": evaluation.metrics,
        **evaluation.undefined(),
        "baseline": None if baseline is None else baseline.metrics,
        "monitor": {
            "name": task.monitor.name,
            "higher_is_better": task.monitor.higher_is_better,
            "value": evaluation.metrics[task.monitor.name],
            "baseline": None if baseline is None else baseline.metrics[task.monitor.name],
        },
    }
    text = json_text(result, indent=2)
    print(text)
    if out is not None:
        write_text(out / "result.json", text + "\n")
    if csv is not None:
        print(f"Wrote {', '.join(printable(str(path)) for path in evaluation.to_csv(csv))}.", file=sys.stderr)
    if save_worst:
        indices = worst_samples(evaluation, task.monitor, save_worst)
        if not indices:
            raise UserError(f"No sample of '{name}' counts under the protocol {protocol}; there is none to save.")
        worst = [test.read(index) for index in indices]
        predictions = predictor.predict_samples(worst, task.evaluation.mode(protocol), tta_flip)
        path = (out or Path()) / "worst.png"
        write_comparison(
            path, draw_comparison(task, test.fields, list(zip(worst, predictions, strict=True))), min_width=1000
        )
        scores = {row["index"]: row[task.monitor.name] for row in evaluation.per_sample}
        for index in indices:
            print(f"{printable(test.sample_name(index))}: {task.monitor.name} {scores[index]:.4f}", file=sys.stderr)
        print(f"Wrote the {len(indices)} worst samples, worst first, to {printable(str(path))}.", file=sys.stderr)


def compare(
    first: str,
    second: str,
    /,
    *,
    data: str | None = None,
    root: str | None = None,
    cache: Path | None = None,
    split: str | None = None,
    protocol: str | None = None,
    samples: int | None = None,
    resamples: int = 1000,
    batch_size: int = 8,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
) -> None:
    """Compare two checkpoints of a task on the same samples: the difference of the monitored metric, with its paired
    bootstrap interval.

    Args:
        first: Run folder, checkpoint file, or the name of a packaged checkpoint or its task.
        second: The one that is compared with it.
        data: Name of the dataset (`densevision list datasets`); that of the first one's evaluations, if not stated.
        root: Dataset folder, not needed for synthetic datasets; that of the first run if not stated.
        cache: Folder for copies of shards; without it, they are read from --root each time.
        split: Split to evaluate; that of the first one's evaluations, else the last one of the dataset, if not stated.
        protocol: Evaluation protocol; the usual protocol of the dataset if not stated.
        samples: Evaluate the first N samples only; all of them if not stated.
        resamples: Resamplings of the bootstrap.
        batch_size: Samples that are read together; those of one size run through the models together.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
    """
    from ..tasks.evaluation import compare as compare_evaluations
    from ..tasks.evaluation import prepare_split, score
    from ..tasks.inference import load

    for option, value in (("samples", samples), ("resamples", resamples), ("batch-size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")
    predictors = [load(checkpoint, device, amp) for checkpoint in (first, second)]
    task = predictors[0].task
    if predictors[1].task.name != task.name:
        raise UserError(f"{first} is a model of '{task.name}', {second} of '{predictors[1].task.name}': give one task.")
    dataset, name, _ = open_split(first, predictors[0], data, root, split)
    dataset = dataset if cache is None else dataset.with_cache(cache)
    evaluations = []
    for predictor in predictors:
        test, protocol = prepare_split(predictor, dataset, protocol, samples)
        evaluations.append(
            score(task, predictor, test, protocol, samples, per_sample=True, batch_size=batch_size, progress=_progress)
        )
    found = compare_evaluations(task, evaluations[0], evaluations[1], resamples)
    direction = "higher" if task.monitor.higher_is_better else "lower"
    wins = f"the second is better in {100 * found.better:.1f} % of {found.resamples} resamplings"
    low, high = found.interval
    verdict = "the interval contains 0" if low <= 0 <= high else "the interval does not contain 0"
    print(
        f"{found.metric} ({direction} is better) on {found.samples} samples of {name} ({dataset.split}), {protocol}:\n"
        f"  {printable(first)}: {found.first:.4f}\n"
        f"  {printable(second)}: {found.second:.4f}\n"
        f"  difference {found.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} ({verdict}); {wins}"
    )


def open_split(
    checkpoint: str, predictor: Predictor, data: str | None, root: str | None, split: str | None
) -> tuple[Dataset, str, str | None]:
    """The split to evaluate a checkpoint on, with name and root of its dataset: as stated, else as in its run.

    Of a mixture, it is the first dataset that is registered.
    """
    from ..datasets import DATASETS, dataset_class, open_dataset
    from ..datasets.mixture import evaluated_name

    run = {} if data else run_data(Path(checkpoint))
    name, root = data or run.get("data") or predictor.header["data"]["name"], root or run.get("root")
    if not data:
        name = evaluated_name(name)
    if not data and name not in DATASETS:
        raise UserError(
            f"The data of {checkpoint} are not a registered dataset ({name}): name one with --data, or evaluate in "
            f"Python on data of your own: densevision.evaluate({str(checkpoint)!r}, data)."
        )
    split = split or run.get("split")
    return open_dataset(name, root, split or dataset_class(name).splits_in(root)[-1]), name, root


def run_data(checkpoint: Path) -> dict[str, Any]:
    """Name (`data`), `root` and `split` of the evaluations of a run, given its folder or a checkpoint in it.

    Empty for a checkpoint that is not in a run folder.
    """
    from ..tasks.training.options import Options

    folders = [folder for folder in (checkpoint, *checkpoint.parents[:2]) if (folder / "task.json").is_file()]
    if not checkpoint.exists() or not folders:
        return {}
    options = Options.read(folders[0] / "config.yaml")
    own = options.eval_data is not None
    return {
        "data": options.eval_data if own else options.data,
        "root": options.eval_root if own else options.eval_root or options.root,
        "split": options.eval_split,
    }


def model_info(header: dict[str, Any]) -> dict[str, Any]:
    """Architecture and training of a model, from its checkpoint header, for result.json."""
    return {
        **{name: header.get(name) for name in ("backbone", "head", "model")},
        "weights": (header.get("backbone_weights") or {}).get("weights"),
        "trained_on": (header.get("data") or {}).get("name"),
        "steps": header.get("step"),
    }


def baseline_scores(
    predictor: Predictor, name: str, root: str | None, test: Any, protocol: str, samples: int | None
) -> Evaluation | None:
    """Scores of the task's baseline on the same samples; None, with a log line, if there are no training samples."""
    from ..datasets import dataset_class, open_dataset
    from ..tasks.evaluation import score

    task = predictor.task
    try:
        training = open_dataset(name, root, dataset_class(name).splits_in(root)[0]).with_size(predictor.size)
        baseline = task.baseline(training)
    except UserError as error:
        print(f"No baseline, since it is computed from training samples: {error}", file=sys.stderr)
        return None
    return score(task, baseline, test, protocol, samples)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)
