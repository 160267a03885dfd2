"""Mixup, CutMix, TrivialAugment and random erasing of the training of classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.datasets.field_types import ClassLabel, FieldType, Image
from densevision.datasets.samples import Samples
from densevision.errors import UserError
from densevision.tasks.classification import Classification
from densevision.tasks.classification.policies import batch_mixing
from densevision.tasks.training.setup import train

from ..training.toys import TINY, require_same_runs, stop_after

FIELDS: dict[str, FieldType] = {"image": Image(), "category": ClassLabel(("a", "b"))}
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
DATA = Samples([{"image": image, "category": number % 2} for number, image in enumerate(PIXELS)], FIELDS)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixed_classes_are_shares_of_the_batch(mixup, cutmix):
    mix = batch_mixing(mixup, cutmix, 3)
    assert mix is not None
    torch.manual_seed(0)
    images, category = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    mixed, shares = mix(images, category)
    assert mixed.shape == images.shape and not torch.equal(mixed, images)
    assert shares.shape == (4, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    # Each label loses what the label of the image before it in the batch gains.
    own = torch.nn.functional.one_hot(category, 3).float()
    weight = (own * shares).sum(1).min()
    torch.testing.assert_close(shares, weight * own + (1 - weight) * own.roll(1, 0))


def test_without_either_nothing_is_mixed():
    assert batch_mixing(0.0, 0.0, 3) is None


def test_augmentation_follows_from_the_random_stream_of_the_sample_alone():
    augment = Classification(trivial_augment=True, random_erase=1.0).augmentation.augment
    sample = {"image": PIXELS[0], "category": np.array(1)}
    before = torch.random.get_rng_state()
    first, second = (augment(sample, np.random.default_rng(5), 0.0)["image"] for _ in range(2))
    torch.rand(3)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8 and not np.array_equal(first, PIXELS[0])
    assert (first == 0).all(axis=-1).sum() > 10 and PIXELS[0].min(axis=-1).min() >= 0
    torch.random.set_rng_state(before)
    assert augment(sample, None, 0.0) is sample


def test_a_run_with_all_of_them_resumes_bit_for_bit(tmp_path):
    task = Classification(mixup=0.4, cutmix=1.0, trivial_augment=True, random_erase=0.5)
    options: dict[str, Any] = {**TINY, "loss": "cross-entropy", "backbone": "resnet20_cifar", "image_size": (32, 32)}
    options |= {"data": DATA, "eval_data": DATA, "max_zoom": 1.0, "log_every": 3, "eval_every": 3}
    train(task, **options, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(task, **options, out=tmp_path / "stopped", on_step=stop_after(4))
    train(Classification(), data=DATA, eval_data=DATA, resume=True, out=tmp_path / "stopped")
    require_same_runs(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -1.0}, "--mixup is -1.0; it must be between 0 and 100"),
        ({"random_erase": 1.5}, "--random-erase is 1.5; it must be between 0 and 1"),
    ],
)
def test_an_invalid_strength_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Classification(**options)


def test_a_loss_of_ones_own_gets_the_mixed_batch(tmp_path):
    found = []

    def loss(output, batch):
        found.append(batch["category"])
        return torch.nn.functional.cross_entropy(output, batch["category"])

    options: dict[str, Any] = {
        **TINY,
        "backbone": "resnet20_cifar",
        "image_size": (32, 32),
        "max_zoom": 1.0,
        "steps": 1,
    }
    options = {**options, "data": DATA, "eval_data": DATA}
    for number, own in enumerate((loss, torch.nn.CrossEntropyLoss())):
        train(Classification(mixup=1.0), **{**options, "loss": own}, out=tmp_path / f"{number}")
    # The check before the first step, and the step.
    assert [each.shape for each in found] == [(2, 2), (2, 2)]
    torch.testing.assert_close(found[0].sum(1), torch.ones(2))

    def of_numbers(output, batch):
        return -output.log_softmax(1)[torch.arange(2), batch["category"]].mean()

    with pytest.raises(UserError, match=r"the batch has .*category \(2, 2\)"):
        train(Classification(mixup=1.0), **{**options, "loss": of_numbers}, out=tmp_path / "refused")


def test_the_loss_of_lenet_takes_no_mixed_classes(tmp_path):
    with pytest.raises(UserError, match="--mixup and --cutmix mix classes, and the loss 'map' takes one"):
        options = {**TINY, "loss": "map", "backbone": "resnet20_cifar", "max_zoom": 1.0}
        train(Classification(mixup=1.0), data=DATA, eval_data=DATA, **options, out=tmp_path / "run")
