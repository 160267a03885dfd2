"""Figures and measurements of docs/pose.md that no command of densevision produces.

python tools/figures/pose.py mistakes CHECKPOINT ROOT   share of LSP-Extended's mistakes that are swapped sides
python tools/figures/pose.py stages CHECKPOINT [N]      mean error of every stage of a cascade on N test figures
python tools/figures/pose.py figures CHECKPOINT OUT     test figures and the predictions for them, to OUT
python tools/figures/pose.py astronaut CHECKPOINT OUT   pose of scikit-image's astronaut in a given box, to OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from densevision import load
from densevision.datasets import open_dataset
from densevision.datasets.core.drawing import hstack_images
from densevision.datasets.field_types import collate, transform_sample
from densevision.datasets.formats.image import write_image
from densevision.datasets.pose.skeletons import LSP
from densevision.tasks.pose.networks import CoordinateNetwork, fractions_to_pixels
from densevision.tasks.pose.pose_prediction import PosePrediction

PEOPLE = 200
"""Number of people of a split in which mistakes are counted."""

FIGURES = 8
"""Number of figures that are drawn, in two rows."""

BOX = (90.0, 0.0, 290.0, 512.0)
"""Box of the astronaut: x, y, width and height in pixels."""


def stages(checkpoint: str, count: str = "200") -> None:
    """Print the mean distance of every stage's joints to the ground truth, in pixels of the network's input."""
    predictor = load(checkpoint)
    model, dataset = predictor.model, open_dataset("synthetic-figures", None, "test").with_size(predictor.size)
    assert isinstance(model, CoordinateNetwork)
    errors: list[list[float]] = []
    for index in range(int(count)):
        sample = dataset.read(index)
        height, width = sample["image"].shape[:2]
        (geometry,) = predictor.task.inference.geometries("fit", (height, width), predictor.size, model)
        resized = transform_sample(sample, {name: dataset.fields[name] for name in ("image", "joints")}, geometry)
        batch = collate([resized], {"image": dataset.fields["image"]})
        with torch.inference_mode():
            outputs = model.eval().coordinates(dataset.fields["image"].to_input(batch["image"]))
        labeled = resized["joints"][:, 2] > 0
        ground_truth = torch.from_numpy(resized["joints"][labeled, :2])
        positions = [fractions_to_pixels(stage[0], predictor.size)[torch.from_numpy(labeled)] for stage in outputs]
        errors.append([float((position - ground_truth).norm(dim=1).mean()) for position in positions])
    for number, error in enumerate(np.mean(errors, axis=0), 1):
        print(f"stage {number}: {error:.2f} px of {predictor.size[1]} x {predictor.size[0]}, {count} test figures")


def mistakes(checkpoint: str, root: str) -> None:
    """Print PCK@0.2 of LSP-Extended, as predicted and with swapped sides corrected, on training and test images."""
    predictor = load(checkpoint)
    for split in ("train", "test"):
        dataset = open_dataset("lsp-extended", root, split)
        partner = np.arange(len(LSP.names))
        for one, other in LSP.pairs:
            partner[[one, other]] = other, one
        torso_ends = [LSP.names.index(name) for name in ("left shoulder", "right hip")]
        people = []
        for index in range(min(len(dataset), PEOPLE)):
            sample = dataset.read(index)
            ground_truth = sample["joints"]
            torso = np.linalg.norm(ground_truth[torso_ends[0], :2] - ground_truth[torso_ends[1], :2])
            if torso == 0 or not (ground_truth[torso_ends, 2] > 0).all():
                continue
            pose = predictor.predict_sample(sample, flip=True)
            assert isinstance(pose, PosePrediction)
            joints = pose.joints[:, :2]
            own, swapped = (
                np.linalg.norm(one - ground_truth[:, :2], axis=1) / torso for one in (joints, joints[partner])
            )
            # A pair is swapped as a whole, where that brings the farther of its two joints nearer.
            is_swapped = np.maximum(swapped, swapped[partner]) < np.maximum(own, own[partner])
            best = np.where(is_swapped, swapped, own)
            labeled = ground_truth[:, 2] > 0
            people.append(np.stack([own < 0.2, best < 0.2, best < 0.5], 1)[labeled])
        correct, corrected, near = np.concatenate(people).mean(0)
        print(
            f"{split}, {len(people)} people: PCK@0.2 {correct:.3f}; {corrected:.3f} with swapped sides corrected; "
            f"then {1 - near:.3f} of the joints are farther off than half a torso"
        )


def figures(checkpoint: str, out: str) -> None:
    """Write the first test figures, each beside its prediction."""
    predictor = load(checkpoint)
    dataset = open_dataset("synthetic-figures", None, "test").with_size((160, 160))
    samples = [dataset.read(index) for index in range(FIGURES)]
    images = [part for sample in samples for part in (sample["image"], predictor.predict_sample(sample).to_image())]
    write_image(Path(out), np.concatenate([hstack_images(images[:FIGURES]), hstack_images(images[FIGURES:])]))


def astronaut(checkpoint: str, out: str) -> None:
    """Write the predicted pose, drawn over scikit-image's photo."""
    from skimage import data

    pose = load(checkpoint).predict(np.ascontiguousarray(data.astronaut()), box=BOX, flip=True)
    print(pose.summary())
    write_image(Path(out), pose.to_image())


if __name__ == "__main__":
    commands = {"mistakes": mistakes, "stages": stages, "figures": figures, "astronaut": astronaut}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
