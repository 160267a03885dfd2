"""The task: which fields it takes, when it makes dirt, and that scoring always sees the same."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.augmentation import Augmentation
from densevision.datasets.conformance import check_samples
from densevision.datasets.dataset import World
from densevision.datasets.fields import Image, collate
from densevision.datasets.geometry import Size
from densevision.datasets.paired import PairedFolders
from densevision.datasets.worlds.weather import DEGRADATIONS
from densevision.errors import UserError
from densevision.tasks import create_task
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.conformance import check_task
from densevision.tasks.inference import Predictor
from densevision.tasks.restoration import Restoration, names_of
from densevision.tasks.restoration.examined import Examined
from densevision.tasks.restoration.restored import Restored
from densevision.tasks.training.stream import TrainingView

SIZE: Size = (48, 64)
WEATHER = open_dataset("weather").at(SIZE)
UNSEEN = open_dataset("weather", split="test").at(SIZE)


def view(dataset, size: Size = SIZE, task: Restoration | None = None, **options) -> TrainingView:
    return TrainingView(dataset, task or Restoration(), size, Augmentation(**options), 0.0, 0)


def test_the_task_keeps_its_promises_on_pairs(tmp_path):
    PairedFolders.write_miniature(tmp_path)

    class AtSize(PairedFolders):
        """Stored pictures are of one size; the checks cut theirs out of pictures of another."""

        def read(self, index):
            return {name: np.resize(value, (64, 96, 3)) for name, value in super().read(index).items()}

    check_task(Restoration(), AtSize(tmp_path), AtSize(tmp_path, "test"))


def test_degradations_are_named_with_commas_and_a_mistyped_one_gets_the_nearest():
    assert names_of("jpeg, rain") == ("rain", "jpeg")
    assert names_of("all") == tuple(DEGRADATIONS)
    with pytest.raises(UserError, match="did you mean 'rain'"):
        create_task("restoration", degrade="dirt,rian")
    with pytest.raises(UserError, match="--degrade is empty"):
        Restoration(degrade=" , ")


def test_a_set_without_pictures_in_colour_is_refused():
    with pytest.raises(UserError, match="needs a field 'image'"):
        Restoration().inputs({})
    with pytest.raises(UserError, match="needs a field 'image'"):
        Restoration().targets({"degraded": Image()})
    with pytest.raises(UserError, match="in colour"):
        Restoration().inputs({"image": Image(1)})


def test_training_dirties_a_clean_picture_anew_in_every_epoch():
    training = view(WEATHER)
    first, again, later = training.sample((0, 3)), training.sample((0, 3)), training.sample((1, 3))
    for name in ("degraded", "image"):
        assert np.array_equal(first[name], again[name])
    assert not np.array_equal(first["degraded"], later["degraded"])
    assert not np.array_equal(first["degraded"], first["image"])
    batch = collate([first, later], Restoration().prepared(WEATHER.fields))
    assert list(batch) == ["degraded", "image"] and batch["degraded"].shape == (2, 3, *SIZE)


def test_the_option_says_what_dirties():
    for name in ("noise", "holes"):
        sample = view(WEATHER, task=Restoration(degrade=name)).sample((0, 0))
        changed = (sample["degraded"] != sample["image"]).any(-1).mean()
        assert changed > 0.9 if name == "noise" else changed < 0.4


def test_scoring_dirties_a_clean_set_always_alike_and_leaves_pairs_alone(tmp_path):
    task = Restoration()
    first, again = task.examined(UNSEEN), task.examined(open_dataset("weather", split="test").at(SIZE))
    check_samples(first, [0, 1])
    assert np.array_equal(first.read(5)["degraded"], again.read(5)["degraded"])
    assert np.array_equal(first.read(5)["image"], UNSEEN.read(5)["image"])
    assert not np.array_equal(first.read(5)["degraded"], first.read(6)["degraded"])
    assert task.examined(first) is first
    dataset_class("gopro").write_miniature(tmp_path)
    pairs = open_dataset("gopro", tmp_path, "test")
    assert task.examined(pairs) is pairs


def test_other_options_are_scored_on_other_dirt():
    one, other = (Restoration(degrade=name).examined(UNSEEN).read(0)["degraded"] for name in ("rain", "jpeg"))
    assert not np.array_equal(one, other)


def test_what_is_scored_was_never_seen_in_training():
    class Grey(World):
        """The same picture everywhere: what differs is the dirt."""

        title = "Grey"

        def __init__(self, root=None, split="train", size=None, seed=0):
            super().__init__(root, split, size, seed)
            self.fields = {"image": Image()}

        def draw(self, rng, size):
            return {"image": np.full((*size, 3), 128, np.uint8)}

    task = Restoration(degrade="dirt")
    training = view(Grey(size=SIZE))
    seen = [training.sample((0, index))["degraded"] for index in range(40)]
    scored = task.examined(Grey(split="test", size=SIZE))
    for index in range(40):
        assert not any(np.array_equal(scored.read(index)["degraded"], one) for one in seen)


def test_a_clean_set_of_another_task_can_be_dirtied_and_keeps_its_fields():
    rooms = Restoration().examined(open_dataset("rooms", split="test").at(SIZE))
    assert isinstance(rooms, Examined) and {"degraded", "image", "depth"} <= set(rooms.fields)
    assert len(rooms) == 200 and rooms.label(3) == "test/3"
    assert rooms.at((64, 64)).read(0)["degraded"].shape == (64, 64, 3)


def test_pairs_are_cut_out_of_their_own_pixels_at_the_same_place(tmp_path):
    dataset_class("gopro").write_miniature(tmp_path)
    pairs = open_dataset("gopro", tmp_path)
    whole, cut = pairs.read(0), view(pairs, (24, 32), flip=0.0).sample((0, 0))
    places = [
        (row, column)
        for row in range(48 - 24 + 1)
        for column in range(64 - 32 + 1)
        if np.array_equal(whole["image"][row : row + 24, column : column + 32], cut["image"])
    ]
    # Resizing would change the size of drops, grain and blocks.
    assert len(places) == 1
    row, column = places[0]
    assert np.array_equal(whole["degraded"][row : row + 24, column : column + 32], cut["degraded"])
    # Who asks for a size gets it.
    assert Restoration().augmentation(Augmentation(scale=(30, 40)), pairs.fields, SIZE).scale == (30, 40)
    assert Restoration().augmentation(Augmentation(), WEATHER.fields, SIZE).scale is None


def test_the_trivial_answer_is_the_picture_as_it_came():
    examined = Restoration().examined(UNSEEN)
    sample = examined.read(0)
    answer = Restoration().baseline(WEATHER)(sample)
    assert isinstance(answer, Restored) and np.array_equal(answer.pixels, sample["degraded"])


def test_an_untrained_network_gives_back_any_picture_at_its_own_size(tmp_path):
    blueprint = Blueprint(Restoration(), WEATHER.fields, "resnet20_cifar", {"levels": 2}, "unet")
    predictor = Predictor(Restoration(), blueprint.build(), WEATHER.fields, SIZE)
    photograph = np.random.default_rng(0).integers(0, 256, (61, 83, 3)).astype(np.uint8)
    restored = predictor.predict(photograph)
    # The last layer starts at 0 and restoration looks at a picture's own pixels first.
    assert isinstance(restored, Restored) and np.array_equal(restored.pixels, photograph)
    (file,) = restored.save(tmp_path, "a")
    assert file.name == "a_restored.png" and "83x61" in restored.brief()
    assert predictor.predict(photograph, view="fit").picture().shape == photograph.shape


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        ("weather", "rgb"),
        ("rain100", "y-studio"),
        ("raindrop", "y-full"),
        ("gopro", "rgb"),
        ("div2k-x3", "y-studio-crop3"),
        ("my set", "rgb"),
    ],
)
def test_each_set_is_scored_as_people_score_it(data, protocol):
    assert Restoration().default_protocol(data, {}) == protocol
