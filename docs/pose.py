"""The pictures and the scores of docs/pose.md that no other command prints.

python docs/pose.py mistakes CHECKPOINT ROOT   what LSP-Extended's mistakes are: sides exchanged, far off, near
python docs/pose.py stages CHECKPOINT [N]      the mean error of every stage of a cascade on N unseen figures
python docs/pose.py figures CHECKPOINT OUT     unseen figures and the answer for each, to OUT
python docs/pose.py astronaut CHECKPOINT OUT   scikit-image's astronaut, with a box around her, to OUT.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from densevision import load
from densevision.datasets import open_dataset
from densevision.datasets.fields import collate, move_sample
from densevision.datasets.formats.picture import write_picture
from densevision.datasets.skeletons import LSP
from densevision.tasks.pose.networks import CoordinateNetwork, from_fractions
from densevision.tasks.pose.people import Pose
from densevision.tasks.sheet import tile

PERSONS = 200
"""Of a split, to see what its mistakes are."""

FIGURES = 8
"""How many are shown, in two rows."""

BOX = (90.0, 0.0, 290.0, 512.0)
"""The astronaut, x, y, width and height."""


def stages(checkpoint: str, count: str = "200") -> None:
    """Print the mean distance of every stage's joints to the true ones, in pixels of the network's input."""
    predictor = load(checkpoint)
    model, world = predictor.model, open_dataset("figures", None, "test").at(predictor.size)
    assert isinstance(model, CoordinateNetwork)
    errors: list[list[float]] = []
    for index in range(int(count)):
        sample = world.read(index)
        height, width = sample["image"].shape[:2]
        (geometry,) = predictor.task.shown("fit", (height, width), predictor.size, model)
        moved = move_sample(sample, {name: world.fields[name] for name in ("image", "joints")}, geometry)
        batch = collate([moved], {"image": world.fields["image"]})
        with torch.inference_mode():
            made = model.eval().coordinates(world.fields["image"].arrive(batch["image"]))
        labelled = moved["joints"][:, 2] > 0
        true = torch.from_numpy(moved["joints"][labelled, :2])
        places = [from_fractions(stage[0], predictor.size)[torch.from_numpy(labelled)] for stage in made]
        errors.append([float((place - true).norm(dim=1).mean()) for place in places])
    for number, error in enumerate(np.mean(errors, axis=0), 1):
        print(f"stage {number}: {error:.2f} px of {predictor.size[1]} x {predictor.size[0]}, {count} unseen figures")


def mistakes(checkpoint: str, root: str) -> None:
    """Print PCK@0.2 as it is and as if somebody put every answer's sides right, on seen and on unseen pictures."""
    predictor = load(checkpoint)
    for split in ("train", "test"):
        dataset = open_dataset("lsp-extended", root, split)
        partner = np.arange(len(LSP.names))
        for one, other in LSP.pairs:
            partner[[one, other]] = other, one
        ends = [LSP.names.index(name) for name in ("left shoulder", "right hip")]
        tally = []
        for index in range(min(len(dataset), PERSONS)):
            sample = dataset.read(index)
            true = sample["joints"]
            torso = np.linalg.norm(true[ends[0], :2] - true[ends[1], :2])
            if torso == 0 or not (true[ends, 2] > 0).all():
                continue
            pose = predictor.answer(sample, flip=True)
            assert isinstance(pose, Pose)
            answer = pose.joints[:, :2]
            own, other = (np.linalg.norm(one - true[:, :2], axis=1) / torso for one in (answer, answer[partner]))
            # A pair is exchanged as a whole, where that brings its two joints nearer.
            exchanged = np.maximum(other, other[partner]) < np.maximum(own, own[partner])
            best = np.where(exchanged, other, own)
            known = true[:, 2] > 0
            tally.append(np.stack([own < 0.2, best < 0.2, best < 0.5], 1)[known])
        found, sided, near = np.concatenate(tally).mean(0)
        print(
            f"{split}, {len(tally)} people: PCK@0.2 {found:.3f}; with the sides put right {sided:.3f}; "
            f"then {1 - near:.3f} of the joints are still farther off than half a torso"
        )


def figures(checkpoint: str, out: str) -> None:
    """Write the first unseen figures, each with its answer."""
    predictor, world = load(checkpoint), open_dataset("figures", None, "test").at((160, 160))
    samples = [world.read(index) for index in range(FIGURES)]
    pictures = [side for sample in samples for side in (sample["image"], predictor.answer(sample).picture())]
    write_picture(Path(out), np.concatenate([tile(pictures[:FIGURES]), tile(pictures[FIGURES:])]))


def astronaut(checkpoint: str, out: str) -> None:
    """Write the answer for scikit-image's photograph."""
    from skimage import data

    answer = load(checkpoint).predict(np.ascontiguousarray(data.astronaut()), box=BOX, flip=True)
    print(answer.brief())
    write_picture(Path(out), answer.picture())


if __name__ == "__main__":
    {"mistakes": mistakes, "stages": stages, "figures": figures, "astronaut": astronaut}[sys.argv[1]](*sys.argv[2:])
