"""Objects of the caller's own in `train`: every accepted form of data, losses, callbacks, mixtures; and one sentence,
before the first step, for each that is wrong."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import densevision
from densevision.apps.evaluate import open_split
from densevision.datasets import open_dataset
from densevision.datasets.dataset import Dataset
from densevision.datasets.depth.depth_folders import DepthFolders
from densevision.datasets.field_types import ClassLabel, Image, Keypoints, SegmentationMask, Skeleton
from densevision.datasets.field_types import Depth as DepthKind
from densevision.datasets.samples import Samples
from densevision.datasets.synthetic import SyntheticRooms
from densevision.errors import UserError
from densevision.tasks import create_task
from densevision.tasks.checkpoint import read_header
from densevision.tasks.inference import Predictor
from densevision.tasks.own_data import as_dataset
from densevision.tasks.training.callbacks import Callback, MLflow, WandB
from densevision.tasks.training.data import InfiniteBatchSampler
from densevision.tasks.training.setup import train
from densevision.tasks.training.state import load_state

from .toys import BACKBONE, TINY, Relief, Reliefs, log_lines, require_same_runs, stop_after

SAMPLES = [Reliefs().read(number) for number in range(7)]
TEST = [Reliefs(5, "test").read(number) for number in range(5)]


def run(tmp_path, **changes: Any) -> dict[str, Any]:
    """A tiny run of a task of two convolutions."""
    arguments = {"data": SAMPLES, "eval_data": TEST, **TINY, "model": "plain", "out": tmp_path / "run", **changes}
    return train(Relief(), **arguments)


class Tensors(TorchDataset):
    """A dataset of PyTorch: tensors (C, H, W) and (1, H, W)."""

    def __init__(self, samples=SAMPLES, as_tuple: bool = False) -> None:
        self.samples, self.as_tuple = samples, as_tuple

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        sample = self.samples[index]
        image, depth = torch.from_numpy(sample["image"]).permute(2, 0, 1), torch.from_numpy(sample["depth"])[None]
        return (image, depth) if self.as_tuple else {"image": image, "depth": depth}


class Bare(Dataset):
    """Nothing but what a dataset needs."""

    fields = {"image": Image(), "depth": DepthKind()}  # noqa: RUF012

    def __len__(self) -> int:
        return len(SAMPLES)

    def read(self, index: int):
        return SAMPLES[index]


class Duck:
    """No subclass of anything."""

    def __len__(self) -> int:
        return len(SAMPLES)

    def read(self, index: int):
        return SAMPLES[index]


FORMS = {
    "list": SAMPLES,
    "tuples": [(sample["image"], sample["depth"]) for sample in SAMPLES],
    "float64": [{**sample, "depth": sample["depth"].astype(np.float64)} for sample in SAMPLES],
    "PIL": [{**sample, "image": PILImage.fromarray(sample["image"])} for sample in SAMPLES],
    "torch": Tensors(),
    "torch tuples": Tensors(as_tuple=True),
    "subset": Subset(Tensors(), range(7)),
    "Dataset": Bare(),
    "object with read": Duck(),
    "Samples": Samples(SAMPLES, {"image": Image(), "depth": DepthKind()}),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Weights after a run of the same samples as a dataset of the package."""
    folder = tmp_path_factory.mktemp("runs")
    train(Relief(), data=Reliefs(), eval_data=Reliefs(5, "test"), **TINY, model="plain", out=folder / "run")
    return load_state(folder / "run" / "last" / "state.pt")["model"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_samples_trains_the_same_weights(tmp_path, expected, form):
    run(tmp_path, data=FORMS[form])
    found = load_state(tmp_path / "run" / "last" / "state.pt")["model"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_floats_of_a_transform_are_an_image():
    (image,) = Samples([{"image": torch.rand(3, 5, 6)}], {"image": Image()}).read(0).values()
    assert image.shape == (5, 6, 3) and image.dtype == np.float32 and Image().check(image) is None


def test_a_pair_of_folders_is_split_as_the_layout_says(tmp_path):
    DepthFolders.write_example(tmp_path / "data")
    (tmp_path / "data" / "images").rename(tmp_path / "data" / "photos")
    pair = (tmp_path / "data" / "photos", str(tmp_path / "data" / "depths"))
    task = create_task("depth")
    assert [len(as_dataset(task, pair, split=split)) for split in ("train", "test")] == [2, 2]
    result = train("depth", data=pair, **{**TINY, **BACKBONE, "steps": 1}, out=tmp_path / "run")
    assert result["split"] == "test" and result["samples"] == 2


def test_a_dataset_of_three_members_works_in_a_data_loader():
    dataset = Bare()
    assert (dataset.title, dataset.terms, dataset.split) == ("Bare", "not stated", "train")
    batch = next(iter(DataLoader(dataset, batch_size=2)))  # type: ignore[arg-type]
    assert batch["image"].shape == (2, 20, 24, 3) and batch["depth"].dtype == torch.float32
    assert len(list(dataset)) == 7 and dataset[-1] is SAMPLES[6]  # type: ignore[call-overload]
    with pytest.raises(IndexError, match="Bare has 7 samples; there is no 7"):
        dataset[7]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ([{"image": SAMPLES[0]["image"], "category": name} for name in ("dog", "cat")], ("cat", "dog")),
        ([(SAMPLES[0]["image"], label) for label in (1, 0, 2)], ("class 0", "class 1", "class 2")),
    ],
)
def test_the_classes_of_a_list_are_those_that_it_contains(data, names):
    dataset = as_dataset(create_task("classification"), data)
    assert dataset.fields["category"] == ClassLabel(names)
    assert [int(dataset.read(index)["category"]) for index in (0, 1)] == [1, 0]


def test_classes_of_a_dataset_are_named_as_in_torchvision():
    class Photos(Tensors):
        classes = ("ant", "bee")

        def __getitem__(self, index):
            return PILImage.fromarray(SAMPLES[index]["image"]), index % 2

    dataset = as_dataset(create_task("classification"), Subset(Photos(), range(4)))
    assert dataset.fields["category"] == ClassLabel(("ant", "bee")) and int(dataset.read(1)["category"]) == 1


# What is wrong is one sentence


class Endless(IterableDataset):
    def __iter__(self):
        return iter(SAMPLES)


class Failing(Tensors):
    def __getitem__(self, index):
        raise FileNotFoundError("photo-7.jpg")


def changed(**values: Any) -> list[dict[str, Any]]:
    """The samples with other values; None leaves a field out."""
    return [{name: value for name, value in {**sample, **values}.items() if value is not None} for sample in SAMPLES]


IMAGE, DEPTH = SAMPLES[0]["image"], np.nan_to_num(SAMPLES[0]["depth"], nan=1.0)
POSE = {"image": IMAGE, "joints": np.zeros((5, 3), np.float32)}
WRONG: dict[str, tuple[Any, str]] = {
    "a class": ({"data": Tensors}, r"data is the class Tensors; give an instance of it: Tensors\(...\)"),
    "a dictionary": ({"data": SAMPLES[0]}, "data is a dict, which has no list of samples"),
    "a loader": ({"data": DataLoader(Tensors())}, "data is a DataLoader, which has batches; give its dataset"),
    "an iterable": ({"data": Endless()}, "data is a Endless.*no `__len__`|without a length"),
    "a generator": ({"data": iter(SAMPLES)}, r"data is a list_iterator, which has no `read\(index\)` or"),
    "a number": ({"data": 3}, "data is a int, which has no"),
    "no samples": ({"data": []}, "data is a list without a sample"),
    "numbers": ({"eval_data": [1, 2]}, "test/0 of list is a int; it must be a dictionary with image, depth"),
    "a tensor": ({"data": torch.zeros(4, 3, 8, 8)}, r"data\[0\] is a Tensor; it must be a dictionary: the task"),
    "a tuple of one": ({"data": TensorDataset(torch.zeros(2, 3))}, r"data\[0\] is a tuple of 1; the task relief needs"),
    "no such dataset": ({"data": "nyu-dept"}, "no dataset named 'nyu-dept'; did you mean 'nyu-depth'"),
    "a pair of folders": (
        {"data": ("photos", "depths")},
        r"relief does not read a pair of folders \(depth",
    ),
    "no evaluation data": ({"eval_data": None}, "got data of your own: pass the data to evaluate on as eval_data"),
    "a field missing": ({"data": changed(depth=None)}, r"data\[0\] has 'image', and no 'depth': the task relief needs"),
    "a field misnamed": ({"data": [{"img": IMAGE, "depth": DEPTH}]}, r"data\[0\] has 'img', 'depth', and no 'image'"),
    "channels first": (
        {"data": changed(image=IMAGE.transpose(2, 0, 1))},
        "field 'image': expected an image of shape HxWx3, found 3x20x24 uint8",
    ),
    "floats to 255": ({"data": changed(image=IMAGE.astype(np.float32))}, r"expected floats in \[0, 1\], found values"),
    "normalized": (
        {"data": changed(image=torch.randn(3, 20, 24))},
        r"floats in \[0, 1\], found values from -",
    ),
    "int64 image": ({"data": changed(image=IMAGE.astype(np.int64))}, "expected uint8, uint16 or float32, found int64"),
    "nan image": ({"data": changed(image=np.full((20, 24, 3), np.nan))}, r"floats in \[0, 1\], found nan or inf"),
    "millimeters": (
        {"data": changed(depth=(1000 * DEPTH).astype(np.uint16))},
        "depth of shape HxW float32, found 20x2",
    ),
    "depth of 0": (
        {"data": changed(depth=np.zeros((20, 24)))},
        "depths above 0 m, nan where unknown, found 0 m",
    ),
    "no known depth": (
        {"data": changed(depth=np.full((20, 24), np.nan))},
        "at least one known depth, found none",
    ),
    "a trailing axis": ({"data": changed(depth=DEPTH[..., None])}, r"field 'depth': expected 2 axes, found 20x24x1"),
    "another size": ({"data": changed(depth=DEPTH[:10])}, "maps of several sizes .'image' 20x24, 'depth' 10x24"),
    "text": ({"data": changed(image="a.jpg")}, "field 'image': expected an image of shape HxWx3, found  <U5"),
    "a sample that fails": ({"data": Failing()}, r"Reading data\[0\] failed with FileNotFoundError: photo-7.jpg"),
    "gray evaluation data": (
        {"eval_data": Samples([{**TEST[0], "image": IMAGE[..., :1]}], {"image": Image(1), "depth": DepthKind()})},
        r"The field 'image' of the evaluation data is Image of 1 channel\(s\), and that of the training data",
    ),
    "a loss that is no function": ({"loss": 3.0}, "loss is a float; it must be the name of a loss, or a function of"),
    "a loss class": ({"loss": nn.L1Loss}, r"loss is the class L1Loss; give an instance of it: L1Loss\(...\)"),
    "an unknown loss": ({"loss": "l11"}, "no loss of the task relief named 'l11'"),
    "a loss of one argument": (
        {"loss": lambda output: 0},
        r"fails on the first batch with TypeError.*called as loss",
    ),
    "a loss that is a map": ({"loss": lambda output, batch: output}, r"returns a tensor of shape \(2, 1, 16, 16\)"),
    "a loss that is a number": ({"loss": lambda output, batch: output.mean().item()}, "returns a float as"),
    "a loss without a gradient": ({"loss": lambda output, batch: output.mean().detach()}, "has no gradient"),
    "a loss that is nan": ({"loss": lambda output, batch: (output[:, 0] / 0 * 0).mean()}, "is nan on the first batch"),
    "a loss without terms": ({"loss": lambda output, batch: {}}, "returns no term"),
    "a loss of triplets": (
        {"loss": nn.TripletMarginLoss()},
        r"TripletMarginLoss fails on the first .*\(output, target\)",
    ),
    "a single callback": ({"callbacks": Callback()}, "callbacks is a Callback; it must be a list of callbacks"),
    "a callback class": ({"callbacks": [Callback]}, r"A callback is the class Callback; give an instance"),
    "no callback": ({"callbacks": [print]}, "without any of the methods on_step, on_evaluate"),
}


def test_torchs_global_settings_do_not_matter(tmp_path, expected):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    try:
        run(tmp_path)
        assert not torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
    found = load_state(tmp_path / "run" / "last" / "state.pt")["model"]
    assert all(found[name].dtype == one.dtype for name, one in expected.items())


def test_numbers_of_classes_without_end_are_refused():
    data = [{"image": SAMPLES[0]["image"], "category": number} for number in (0, 10**9)]
    with pytest.raises(UserError, match=r"numbers up to 1000000000: number them from 0 on"):
        train("classification", data=data, eval_data=data)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_object_is_one_sentence_before_the_first_step(tmp_path, case):
    changes, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("depth", ("no/images", "no/depths"), "There is no folder '.*no/images' to read the pairs from"),
        ("pose", [POSE], r"The skeleton of 'joints' cannot be seen in a sample: give .*Keypoints\(skeleton=...\)"),
        (
            "translation",
            [{"labels": DEPTH.astype(int), "image": IMAGE}],
            r"names of 'labels' .*SegmentationMask\(names",
        ),
        (
            "classification",
            Tensors(as_tuple=True),
            "Tensors that does not name its classes: set its attribute",
        ),
        (
            "classification",
            Samples([{"image": IMAGE, "category": "cow"}], {"image": Image(), "category": ClassLabel(("cat", "dog"))}),
            r"The class 'cow' is none of 2 classes \(cat, dog\)",
        ),
        (
            "classification",
            Samples([{"image": IMAGE, "category": 2}], {"image": Image(), "category": ClassLabel(("cat", "dog"))}),
            "expected a class from 0 to 1, found 2",
        ),
        ("flow", [{"first": IMAGE, "second": IMAGE, "flow": np.zeros((20, 24))}], "flow of shape HxWx2 float32"),
        (
            "pose",
            Samples([POSE], {"image": Image(), "joints": Keypoints(Skeleton(("a", "b"), (), ()))}),
            "keypoints of shape 2x3 float32, found 5x3 float32",
        ),
        (
            "translation",
            Samples(
                [{"labels": np.full((20, 24), 7), "image": IMAGE}],
                {"labels": SegmentationMask(("a", "b")), "image": Image()},
            ),
            "labels below 2 or 255, found label 7",
        ),
    ],
)
def test_wrong_objects_of_other_tasks_are_one_sentence(task, data, message):
    with pytest.raises(UserError, match=message) as caught:
        as_dataset(create_task(task), data)
    assert "\n" not in str(caught.value)


# Losses


def masked_l1(output, batch):
    return {"l1": (output[:, 0] - batch["depth"]).abs()[batch["depth_mask"]].mean()}


def test_the_loss_of_torch_sees_the_valid_pixels_alone(tmp_path):
    run(tmp_path / "a", loss=nn.L1Loss(), log_every=1)
    run(tmp_path / "b", loss=masked_l1, log_every=1)
    first, second = (
        [line[name] for line in log_lines(tmp_path / each / "run") if line["kind"] == "train"]
        for each, name in (("a", "L1Loss"), ("b", "l1"))
    )
    assert first == pytest.approx(second) and len(first) == 6


def test_class_weights_are_a_loss_of_torch(tmp_path):
    data = [{"image": sample["image"], "category": ("a", "b")[n % 2]} for n, sample in enumerate(SAMPLES)]
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
    options = {**TINY, "steps": 2, "loss": loss, "backbone": "resnet20_cifar", "image_size": (32, 32)}
    result = train("classification", data=data, eval_data=data, **options, out=tmp_path / "run")
    assert result["steps"] == 2 and "CrossEntropyLoss" in log_lines(tmp_path / "run")[0]


def test_a_run_with_a_loss_of_ones_own_resumes_bit_for_bit_given_the_loss(tmp_path):
    options = {"loss": masked_l1, "model": "dropout", "log_every": 3, "eval_every": 3}
    run(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", **options, on_step=stop_after(4))
    folder = tmp_path / "stopped" / "run"
    again = {"data": SAMPLES, "eval_data": TEST, "resume": True, "out": folder}
    with pytest.raises(UserError, match=r"has a loss of your own, masked_l1 \(own\): pass it again"):
        train(Relief(), **again)
    train(Relief(), **again, loss=masked_l1)
    require_same_runs(tmp_path / "whole" / "run", folder)


# Mixtures


def test_a_mixture_follows_its_weights_and_a_finite_one_has_every_sample():
    few, many = Samples(SAMPLES[:2], Bare.fields), Samples(SAMPLES[2:], Bare.fields)
    plain = densevision.mix([few, many])
    assert len(plain) == 7 and plain.sample_weights is None
    assert all(plain.read(index)["image"] is SAMPLES[index]["image"] for index in range(7))
    mixed = densevision.mix([few, many], [3, 1])
    sampler = InfiniteBatchSampler(7, 4, range(500), 0, weights=mixed.sample_weights)
    drawn = [index for keys in sampler for _, index in keys]
    assert np.mean(np.array(drawn) < 2) == pytest.approx(0.75, abs=0.03)
    assert [keys for keys in sampler] == list(InfiniteBatchSampler(7, 4, range(500), 0, weights=mixed.sample_weights))


def test_an_endless_mixture_draws_from_the_number_of_the_sample_alone():
    rooms, own = open_dataset("synthetic-rooms").with_size((16, 16)), Samples(SAMPLES, Bare.fields)
    mixed = densevision.mix([rooms, own], [1, 3])
    assert mixed.infinite and list(mixed.fields) == ["image", "depth"]
    names = [mixed._find(index)[0] is own for index in range(400)]
    assert np.mean(names) == pytest.approx(0.75, abs=0.06)
    index = names.index(True)
    np.testing.assert_array_equal(mixed.read(index)["image"], mixed.read(index)["image"])


def test_a_mixture_is_named_by_its_parts_and_evaluated_on_the_first_registered_one(tmp_path):
    rooms = open_dataset("synthetic-rooms").with_size((16, 16))
    data = densevision.mix([Samples(SAMPLES, Bare.fields), rooms], [1, 3])
    result = run(tmp_path, data=data)
    header = read_header(tmp_path / "run" / "best.safetensors")
    assert result["trained_on"] == header["data"]["name"] == "Samples + synthetic-rooms"
    dataset, name, _ = open_split("elsewhere", cast(Predictor, SimpleNamespace(header=header)), None, None, None)
    assert (type(dataset), name) == (SyntheticRooms, "synthetic-rooms")


def test_a_run_on_a_mixture_resumes_bit_for_bit(tmp_path):
    def data():
        return densevision.mix([Reliefs(3), Reliefs(5)], [2, 1])

    options = {"log_every": 3, "eval_every": 3}
    run(tmp_path / "whole", data=data(), **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", data=data(), **options, on_step=stop_after(4))
    folder = tmp_path / "stopped" / "run"
    train(Relief(), data=data(), eval_data=TEST, resume=True, out=folder)
    require_same_runs(tmp_path / "whole" / "run", folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "there is no dataset to mix"),
        (([SAMPLES],), r"dataset 0 is a list; give a Dataset, a name, or densevision.datasets.samples.Samples"),
        (([Reliefs(), Reliefs()], [1]), "weights must be 2 numbers, one for each of the 2 datasets"),
        (([Reliefs(), Reliefs()], [1, -1]), "weights must be finite, at least 0, and not all 0"),
        (([Reliefs(), Reliefs()], [0, 0]), "not all 0"),
        (([Reliefs(), Reliefs()], "ab"), "weights must be 2 numbers"),
        ((["synthetic-rooms", Reliefs()],), "has an infinite dataset, so the shares must be stated"),
        (([Reliefs(), open_dataset("synthetic-shapes")], [1, 1]), None),
        (
            ([Reliefs(), Samples(SAMPLES, {"image": Image(1), "depth": DepthKind()})],),
            "the field 'image' is Image in Reliefs and Image in list",
        ),
    ],
)
def test_a_mixture_that_is_none_is_one_sentence(arguments, message):
    if message is None:
        assert list(densevision.mix(*arguments).fields) == ["image"]
        return
    with pytest.raises(UserError, match=message):
        densevision.mix(*arguments)


def test_sample_weights_of_another_length_are_refused(tmp_path):
    with pytest.raises(UserError, match="sample_weights must be 7 numbers, one for each of the 7 samples"):
        densevision.mix([Reliefs()], sample_weights=[1, 2])
    dataset = Reliefs()
    dataset.sample_weights = np.ones(3)
    with pytest.raises(UserError, match=r"sample_weights of Reliefs has the shape \(3,\); .* each of the 7 samples"):
        run(tmp_path, data=dataset)


# Callbacks


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_step(self, run, terms):
        self.events.append(("step", run.step, tuple(terms)))

    def on_evaluate(self, run, metrics):
        self.events.append(("evaluate", run.step, "abs_rel" in metrics))

    def on_save(self, run, path):
        assert path.is_file()
        self.events.append(("save", run.step, path.name))

    def on_exception(self, run, error):
        self.events.append(("exception", run.step, type(error).__name__))

    def on_finish(self, run, result):
        self.events.append(("finish", run.step, result["steps"]))


def test_callbacks_are_called_at_their_events_in_order(tmp_path):
    recorder = Recorder()
    run(tmp_path, callbacks=[recorder], steps=2)
    assert recorder.events == [
        ("step", 1, ("l1",)), ("step", 2, ("l1",)), ("save", 2, "best.safetensors"), ("evaluate", 2, True),
        ("save", 2, "checkpoint.safetensors"), ("finish", 2, 2),
    ]  # fmt: skip


def test_a_callback_learns_of_an_interruption_after_the_state_is_saved(tmp_path):
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[recorder], on_step=stop_after(1))
    assert recorder.events[-2:] == [("save", 1, "checkpoint.safetensors"), ("exception", 1, "KeyboardInterrupt")]


def test_a_callback_may_be_any_object_and_ends_a_run_that_can_be_resumed(tmp_path):
    def on_step(run, terms):
        if run.step == 2:
            run.stop("good enough")

    result = run(tmp_path, callbacks=[SimpleNamespace(on_step=on_step)])
    assert result["steps"] == 2 and (tmp_path / "run" / "result.json").is_file()
    again = train(Relief(), data=SAMPLES, eval_data=TEST, resume=True, out=tmp_path / "run")
    assert again["steps"] == 6


def test_callbacks_change_no_bit_of_a_run(tmp_path):
    run(tmp_path / "with", callbacks=[Recorder()], log_every=2)
    run(tmp_path / "without", log_every=2)
    require_same_runs(tmp_path / "with" / "run", tmp_path / "without" / "run")


def test_weights_and_biases_gets_options_losses_and_scores(tmp_path, monkeypatch):
    lines: list[tuple[dict, int]] = []
    ended: list[Any] = []
    logged = SimpleNamespace(
        log=lambda values, step: lines.append((values, step)), finish=lambda **how: ended.append(how), summary={}
    )
    started: list[dict] = []
    stub = SimpleNamespace(init=lambda **options: started.append(options) or logged)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    run(tmp_path, callbacks=[WandB("mine", tags=["a"])], log_every=3)
    assert started[0]["project"] == "mine" and started[0]["tags"] == ["a"] and started[0]["config"]["batch_size"] == 2
    assert [(sorted(values)[0], step) for values, step in lines] == [
        ("train/l1", 3), ("train/l1", 6), ("eval/abs_rel", 6)
    ]  # fmt: skip
    assert ended == [{}] and logged.summary["best/step"] == 6


def test_mlflow_gets_options_losses_and_scores_and_the_end_of_a_failed_run(tmp_path, monkeypatch):
    calls: list[tuple[str, Any]] = []

    class Stub:
        def __getattr__(self, name):
            return lambda *arguments, **options: calls.append((name, options or arguments))

    monkeypatch.setitem(sys.modules, "mlflow", Stub())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[MLflow("mine")], log_every=3, on_step=stop_after(4))
    assert [name for name, _ in calls] == ["set_experiment", "start_run", "log_params", "log_metrics", "end_run"]
    assert calls[-1] == ("end_run", {"status": "FAILED"})


@pytest.mark.parametrize(("callback", "name"), [(WandB, "wandb"), (MLflow, "mlflow")])
def test_a_logger_that_is_not_installed_says_how_to_install_it(monkeypatch, callback, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name} is not installed; .* pip install 'densevision\[{name}\]'"):
        callback()


def test_a_run_is_not_resumed_with_other_classes(tmp_path):
    data = [{"image": SAMPLES[0]["image"], "category": name} for name in "ab"]
    changes = {"steps": 1, "loss": "cross-entropy", "backbone": "resnet20_cifar", "image_size": (32, 32)}
    options = {**TINY, **changes, "out": tmp_path / "run"}
    train("classification", data=data, eval_data=data, **options)
    renamed = [{**sample, "category": {"a": "z"}.get(sample["category"], "b")} for sample in data]
    with pytest.raises(UserError, match=r"'category' as 2 classes \(a, b\), and the data have 2 classes \(b, z\)"):
        train("classification", data=renamed, eval_data=renamed, resume=True, steps=2, out=tmp_path / "run")
