"""Who may judge: the world's own decoder, and checkpoints that were trained the other way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.fields import Image, Kind, Labels
from densevision.errors import UserError
from densevision.tasks.translation import judges
from densevision.tasks.translation.judges import facades_judge, trained_judge
from densevision.tasks.translation.made import LabelMap

KIND = Labels(("dark", "bright"), ignore=2)


@dataclass
class Backwards:
    """What a judge needs of a task and of a predictor: a direction, and an answer that goes by the brightness."""

    source: str = "image"
    goal: str = "labels"
    kind: Kind = KIND
    name: str = "translation"
    fields: Any = None

    @property
    def task(self) -> Backwards:
        return self

    def inputs(self, fields: Any) -> dict[str, Kind]:
        return {self.source: Image()}

    def targets(self, fields: Any) -> dict[str, Kind]:
        return {self.goal: self.kind}

    def predict(self, picture: np.ndarray) -> LabelMap:
        return LabelMap((picture[..., 0] > 127).astype(np.int64), KIND, self.goal)


@pytest.fixture
def loads(monkeypatch) -> Iterator[dict[str, Any]]:
    """Checkpoints by path, and how often one was read."""
    found: dict[str, Any] = {"read": 0}

    def load(path: str) -> Backwards:
        found["read"] += 1
        return found[path]

    monkeypatch.setattr(judges, "load", load)
    judges._loaded.cache_clear()
    yield found
    judges._loaded.cache_clear()


def test_a_trained_judge_reads_labels_and_its_file_is_read_once(loads):
    loads["street.safetensors"] = Backwards()
    judge, *_ = [trained_judge("street.safetensors", "image") for _ in range(3)]
    assert (judge.field, judge.kind, loads["read"]) == ("labels", KIND, 1)
    assert judge.read(np.array([[[0] * 3, [255] * 3]], np.uint8)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        (Backwards(name="depth"), "is a checkpoint of the task depth"),
        (Backwards("labels", "image", Image()), r"translates 'labels' into 'image' \(Image\)"),
        (Backwards("image", "grey", Image(1)), r"translates 'image' into 'grey' \(Image\)"),
        (Backwards("edges"), "translates 'edges' into 'labels'.*to judge 'image' it must be trained with --from image"),
    ],
)
def test_a_checkpoint_of_another_task_or_direction_is_no_judge(loads, checkpoint, said):
    loads["a"] = checkpoint
    with pytest.raises(UserError, match=said):
        trained_judge("a", "image")


def test_the_world_of_facades_is_read_back_from_its_pictures():
    world = open_dataset("facades", split="test")
    judge = facades_judge("image")
    assert judge.kind == world.fields["labels"] and judge.field in world.fields
    sample = world.read(0)
    read = judge.read(sample["image"])
    assert read.shape == sample["labels"].shape
    assert (read == sample["labels"]).mean() > (judge.read(world.read(1)["image"]) == sample["labels"]).mean() + 0.2
