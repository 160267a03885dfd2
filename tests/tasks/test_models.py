"""Models for code of one's own: built, trained in another loop, scored, saved, and loaded as any other."""

from __future__ import annotations

import copy
import csv
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn

import densevision
from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.field_types import ClassLabel, FieldType, Image
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.network import Network
from densevision.tasks.training.data import AugmentedDataset

from .training.toys import BACKBONE, Reliefs

SMALL: dict[str, Any] = {**BACKBONE, "image_size": (16, 16)}
FIELDS: dict[str, FieldType] = {"image": Image(), "category": ClassLabel(("cat", "dog", "cow"))}


@pytest.fixture(scope="module")
def model() -> Network:
    torch.manual_seed(0)
    return densevision.create_model("depth", **SMALL)


@pytest.mark.parametrize("task", densevision.list_tasks())
def test_every_task_has_a_model_that_learns_in_a_plain_loop(task):
    task = densevision.create_task(task)
    model = densevision.create_model(task)
    size = model.origin.size
    dataset = densevision.open_dataset(task.defaults.data, split="train").with_size(size)
    samples = AugmentedDataset(dataset, task, size, Augmentation(), 0.0, 0)
    batch: Any = samples.__getitems__([(0, 0), (0, 1)])
    batch = samples.preprocessor.to_device(batch, torch.device("cpu"))
    output: Any = model(*(batch[name] for name in task.inputs(dataset.fields)))
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    sum(each.float().mean() for each in outputs if isinstance(each, Tensor)).backward()  # type: ignore[union-attr]
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_a_model_has_the_classes_of_its_fields_and_the_seed_of_its_caller():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(densevision.create_model("classification", backbone="resnet20_cifar", fields=FIELDS))
    assert models[0](torch.rand(1, 3, 32, 32)).shape == (1, 3)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet81"}, "no backbone named 'resnet81'; did you mean"),
        ({"head": "unett"}, "head of the task depth named 'unett'"),
        ({"model": "fcnr"}, "model of the task depth named 'fcnr'"),
        ({"image_size": 64}, "'image_size' .*2 integers"),
        ({"fields": {"image": Image()}}, "needs a field 'depth' of type Depth"),
        ({"fields": {"image": "rgb"}}, r"fields\['image'\] is a str; it must be a field type"),
    ],
)
def test_what_no_model_can_be_built_from_is_one_sentence(options, message):
    with pytest.raises(UserError, match=message) as caught:
        densevision.create_model("depth", **options)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_loop_becomes_a_checkpoint_with_its_scores(tmp_path):
    torch.manual_seed(0)
    model = densevision.create_model("depth", **SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    sample = Reliefs().read(0)
    image = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None, :, :16, :16] / 255
    for _ in range(2):
        optimizer.zero_grad()
        model(image).mean().backward()
        optimizer.step()
    evaluation = densevision.evaluate(model, Reliefs(3, "test"), amp="off")
    densevision.save_checkpoint(model, tmp_path / "own.safetensors", data=Reliefs(), evaluation=evaluation, step=2)
    loaded = densevision.load(tmp_path / "own.safetensors", device="cpu", amp="off")
    assert loaded.header["data"] == {"name": "Reliefs", "title": "Reliefs", "terms": "no terms"}
    assert loaded.header["metrics"]["abs_rel"] == evaluation.metrics["abs_rel"] and loaded.header["step"] == 2
    direct = densevision.load(model, amp="off").predict(sample["image"])
    np.testing.assert_array_equal(loaded.predict(sample["image"]).numpy(), direct.numpy())
    # A loaded model is one of this kind, too; its own origin stays in the header.
    densevision.save_checkpoint(nn.DataParallel(loaded.model), tmp_path / "again.safetensors")
    assert densevision.load(tmp_path / "again.safetensors").header["init_from"]["file"] == "own.safetensors"


@pytest.mark.parametrize("foreign", [nn.Linear(1, 1), Depth().build({}, None, None, "fcrn")])
def test_a_module_that_this_package_has_not_made_is_refused(tmp_path, foreign):
    for call in (
        lambda: densevision.save_checkpoint(foreign, tmp_path / "a.safetensors"),
        lambda: densevision.evaluate(foreign, Reliefs()),
        lambda: densevision.load(foreign),
    ):
        with pytest.raises(UserError, match=r"is no model of a task: make it with densevision\.create_model"):
            call()


def test_an_evaluation_has_a_row_for_every_sample_and_writes_it(model, tmp_path):
    evaluation = densevision.evaluate(model, Reliefs(4, "test"), samples=3, amp="off")
    assert [row["sample"] for row in evaluation.per_sample] == ["test/0", "test/1", "test/2"]
    path, ranges = evaluation.to_csv(tmp_path / "scores.csv")
    assert ranges.name == "scores-ranges.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["abs_rel"]) for row in rows] == [row["abs_rel"] for row in evaluation.per_sample]
    assert repr(evaluation).startswith("Evaluation(3 samples, all-pixels: abs_rel ")


@pytest.mark.parametrize(
    ("data", "protocol", "message"),
    [
        (Reliefs(2), "all-pixel", "no protocol of the task depth named 'all-pixel'; did you mean 'all-pixels'"),
        ([{"image": np.zeros((8, 8, 3), np.uint8)}], None, "field 'depth': expected a numpy array, found missing"),
        ("nyu-depth", None, "'nyu-depth' is stored in a folder"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(model, data, protocol, message):
    with pytest.raises(UserError, match=message):
        densevision.evaluate(model, data, protocol)


# The predictor


def images(count: int) -> list[np.ndarray]:
    return [Reliefs(size=(20, 24 + 2 * (number % 2))).read(number)["image"] for number in range(count)]


def test_a_predictor_takes_lists_generators_and_batches(model):
    predictor, inputs = densevision.load(model, amp="off"), images(3)
    single = [predictor.predict(image).numpy() for image in inputs]
    for many in (inputs, (image for image in inputs), tuple(inputs)):
        for one, other in zip(predictor.predict_batch(many), single, strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-4)
    batch = torch.stack([torch.from_numpy(inputs[0]).permute(2, 0, 1)] * 2)
    for one in predictor.predict_batch(batch):
        np.testing.assert_allclose(one.numpy(), single[0], rtol=1e-4)
    with pytest.raises(UserError, match=r"'a\.jpg' is one input: predict_batch takes a list"):
        predictor.predict_batch("a.jpg")
    single_images: tuple[Any, ...] = (inputs[0], PILImage.fromarray(inputs[0]), batch[0])
    for one in single_images:
        with pytest.raises(UserError, match=r"A single \w+ is one input: predict_batch takes a list"):
            predictor.predict_batch(one)
    with pytest.raises(UserError, match="batch_size is 0; it must be at least 1"):
        predictor.predict_batch(inputs, batch_size=0)


def test_copies_of_a_predictor_predict_the_same(model):
    predictor, (image,) = densevision.load(model, amp="off"), images(1)
    for other in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert other.model is not predictor.model
        np.testing.assert_array_equal(other.predict(image).numpy(), predictor.predict(image).numpy())


def test_a_stream_predicts_before_its_generator_ends(model):
    taken: list[int] = []

    def endless():
        while True:
            taken.append(len(taken))
            yield images(1)[0]

    stream = densevision.load(model, amp="off").predict_stream(endless(), batch_size=2)
    assert isinstance(next(stream), DepthMap) and len(taken) == 2


def test_threads_that_share_a_predictor_get_their_own_predictions(model):
    predictor, inputs = densevision.load(model, amp="off"), images(8)
    expected = [predictor.predict(image).numpy() for image in inputs]
    model.train()
    found: dict[int, np.ndarray] = {}

    def predict(number: int) -> None:
        found[number] = predictor.predict(inputs[number]).numpy()

    threads = [threading.Thread(target=predict, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.training
    model.eval()
    for number, values in enumerate(expected):
        np.testing.assert_array_equal(found[number], values)


def test_a_predictor_moves_to_a_device_and_names_itself(model):
    predictor = densevision.load(model, amp="off")
    assert predictor.to("cpu") is predictor
    assert repr(predictor) == "Predictor(depth, DepthNetwork, 16x16, cpu, fp32)"
    with pytest.raises(UserError, match="no device 'gpu'"):
        predictor.to("gpu")


def test_the_public_face_is_what_dir_lists():
    public = [name for name in dir(densevision) if not name.startswith("_")]
    assert public == [name for name in densevision.__all__ if not name.startswith("_")]
    for name in public:
        assert (getattr(densevision, name).__doc__ or "").strip(), name


def test_a_short_path_of_a_prediction_to_files(model, tmp_path):
    prediction = densevision.load(model, amp="off").predict(images(1)[0])
    assert prediction._repr_png_().startswith(b"\x89PNG")
    assert {path.suffix for path in prediction.save(tmp_path, "a")} == {".npy", ".png"}
    assert all(isinstance(path, Path) for path in prediction.save(tmp_path, "a"))
