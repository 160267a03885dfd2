"""Restoration task: fields, random degradations in training, reproducible ones in evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_samples
from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.core.geometry import Size
from densevision.datasets.core.problems import Problem
from densevision.datasets.dataset import SyntheticDataset
from densevision.datasets.field_types import Image, collate
from densevision.datasets.paired_folders import PairedFolders
from densevision.datasets.rendering.weather import DEGRADATIONS
from densevision.errors import UserError
from densevision.tasks import create_task
from densevision.tasks.conformance import check_task
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.restoration import Restoration, parse_degradations
from densevision.tasks.restoration.metrics import RestoredImage
from densevision.tasks.restoration.policies import DegradedDataset
from densevision.tasks.training.data import AugmentedDataset

SIZE: Size = (48, 64)
WEATHER = open_dataset("synthetic-weather").with_size(SIZE)
UNSEEN = open_dataset("synthetic-weather", split="test").with_size(SIZE)


def augmented(dataset, size: Size = SIZE, task: Restoration | None = None, **options) -> AugmentedDataset:
    return AugmentedDataset(dataset, task or Restoration(), size, Augmentation(**options), 0.0, 0)


def test_task_conforms_on_pairs(tmp_path):
    PairedFolders.write_example(tmp_path)

    class AtSize(PairedFolders):
        """Stored images have one size; the checks need another."""

        def read(self, index):
            return {name: np.resize(value, (64, 96, 3)) for name, value in super().read(index).items()}

    check_task(Restoration(), AtSize(tmp_path), AtSize(tmp_path, "test"))


def test_degradations_are_comma_separated_and_typos_are_explained():
    assert parse_degradations("jpeg, rain") == ("rain", "jpeg")
    assert parse_degradations("all") == tuple(DEGRADATIONS)
    assert parse_degradations("none,jpeg,rain,rain") == ("rain", "jpeg", "none")
    with pytest.raises(UserError, match="did you mean 'rain'"):
        create_task("restoration", degradations="dirt,rian")
    with pytest.raises(UserError, match="--degradations is empty"):
        Restoration(degradations=" , ")


def test_dataset_without_rgb_images_is_refused():
    with pytest.raises(UserError, match="needs a field 'image'"):
        Restoration().inputs({})
    with pytest.raises(UserError, match="needs a field 'image'"):
        Restoration().targets({"degraded": Image()})
    with pytest.raises(UserError, match="needs RGB images"):
        Restoration().inputs({"image": Image(1)})


def test_training_degrades_a_clean_image_differently_in_every_epoch():
    training = augmented(WEATHER)
    first, again, later = training.sample((0, 3)), training.sample((0, 3)), training.sample((1, 3))
    for name in ("degraded", "image"):
        assert np.array_equal(first[name], again[name])
    assert not np.array_equal(first["degraded"], later["degraded"])
    assert not np.array_equal(first["degraded"], first["image"])
    batch = collate([first, later], training.fields)
    assert list(batch) == ["degraded", "image"] and batch["degraded"].shape == (2, 3, *SIZE)


def test_option_selects_the_degradations():
    for name in ("noise", "masks"):
        sample = augmented(WEATHER, task=Restoration(degradations=name)).sample((0, 0))
        changed = (sample["degraded"] != sample["image"]).any(-1).mean()
        assert changed > 0.9 if name == "noise" else changed < 0.4


def test_evaluation_degrades_clean_images_reproducibly(tmp_path):
    task = Restoration()
    first, again = (
        task.evaluation.dataset(UNSEEN),
        task.evaluation.dataset(open_dataset("synthetic-weather", split="test").with_size(SIZE)),
    )
    check_samples(first, [0, 1])
    assert np.array_equal(first.read(5)["degraded"], again.read(5)["degraded"])
    assert np.array_equal(first.read(5)["image"], UNSEEN.read(5)["image"])
    assert not np.array_equal(first.read(5)["degraded"], first.read(6)["degraded"])
    assert task.evaluation.dataset(first) is first
    dataset_class("gopro").write_example(tmp_path)
    pairs = open_dataset("gopro", tmp_path, "test")
    assert task.evaluation.dataset(pairs) is pairs


def test_other_options_give_other_evaluation_images():
    one, other = (
        Restoration(degradations=name).evaluation.dataset(UNSEEN).read(0)["degraded"] for name in ("rain", "jpeg")
    )
    assert not np.array_equal(one, other)


def test_evaluation_images_do_not_occur_in_training():
    class Gray(SyntheticDataset):
        """The same image everywhere: only the degradations differ."""

        title = "Gray"

        def __init__(self, root=None, split="train", size=None, seed=0):
            super().__init__(root, split, size, seed)
            self.fields = {"image": Image()}

        def generate(self, rng, size):
            return {"image": np.full((*size, 3), 128, np.uint8)}

    task = Restoration(degradations="dirt")
    training = augmented(Gray(size=SIZE))
    training_images = [training.sample((0, index))["degraded"] for index in range(40)]
    evaluation = task.evaluation.dataset(Gray(split="test", size=SIZE))
    for index in range(40):
        assert not any(np.array_equal(evaluation.read(index)["degraded"], image) for image in training_images)


def test_clean_dataset_of_another_task_can_be_degraded():
    rooms = Restoration().evaluation.dataset(open_dataset("synthetic-rooms", split="test").with_size(SIZE))
    assert isinstance(rooms, DegradedDataset) and {"degraded", "image", "depth"} <= set(rooms.fields)
    assert len(rooms) == 200 and rooms.sample_name(3) == "test/3"
    assert rooms.with_size((64, 64)).read(0)["degraded"].shape == (64, 64, 3)


def test_pairs_are_cropped_at_the_same_position_without_resize(tmp_path):
    dataset_class("gopro").write_example(tmp_path)
    pairs = open_dataset("gopro", tmp_path)
    full, crop = pairs.read(0), augmented(pairs, (24, 32), hflip=0.0).sample((0, 0))
    positions = [
        (row, column)
        for row in range(48 - 24 + 1)
        for column in range(64 - 32 + 1)
        if np.array_equal(full["image"][row : row + 24, column : column + 32], crop["image"])
    ]
    # A resize would change the size of drops, noise and JPEG blocks.
    assert len(positions) == 1
    row, column = positions[0]
    assert np.array_equal(full["degraded"][row : row + 24, column : column + 32], crop["degraded"])
    # An explicit size is used.
    assert Restoration().augmentation.limits(
        Augmentation(resize_short_side=(30, 40)), pairs.fields, SIZE
    ).resize_short_side == (30, 40)
    assert Restoration().augmentation.limits(Augmentation(), WEATHER.fields, SIZE).resize_short_side is None


def test_baseline_is_the_degraded_input():
    dataset = Restoration().evaluation.dataset(UNSEEN)
    sample = dataset.read(0)
    prediction = Restoration().baseline(WEATHER)(sample)
    assert isinstance(prediction, RestoredImage) and np.array_equal(prediction.pixels, sample["degraded"])


def test_untrained_model_returns_its_input_at_any_size(tmp_path):
    spec = ModelSpec(Restoration(), WEATHER.fields, "resnet20_cifar", {"levels": 2}, "unet")
    predictor = Predictor(Restoration(), spec.build(), WEATHER.fields, SIZE)
    photo = np.random.default_rng(0).integers(0, 256, (61, 83, 3)).astype(np.uint8)
    restored = predictor.predict(photo)
    # The last layer is initialized to 0, and the default input mode is native.
    assert isinstance(restored, RestoredImage) and np.array_equal(restored.pixels, photo)
    (file,) = restored.save(tmp_path, "a")
    assert file.name == "a_restored.png" and "83x61" in restored.summary()
    assert predictor.predict(photo, mode="fit").to_image().shape == photo.shape


def test_a_degraded_dataset_reports_what_the_clean_one_skipped():
    clean = open_dataset("synthetic-weather").with_size(SIZE)
    clean.skipped.append(Problem("a.png", "an image", "nothing"))
    assert DegradedDataset(clean, ("noise",)).skipped == clean.skipped
