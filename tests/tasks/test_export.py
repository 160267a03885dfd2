"""Export below the command: what a network can be asked, how far two answers lie apart, what a file says of itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision import list_tasks
from densevision.datasets.fields import Image, Kind, Labels, OneHot
from densevision.errors import UserError
from densevision.tasks.export import TOLERANCE, Freedom, translating
from densevision.tasks.export.asking import Asked, drawn, odd_multiple
from densevision.tasks.export.comparing import difference, freedom_of
from densevision.tasks.export.metadata import facts_of
from densevision.tasks.export.translating import traced, translate
from densevision.tasks.inference import load
from densevision.tasks.task import Network
from densevision.tasks.translation.normalization import BatchStatistics, settle_normalization

PICTURE: dict[str, Kind] = {"image": Image()}


class Small(Network):
    """One convolution, and a layer behind it."""

    takes = "tiled"
    stride = 4

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), layer)

    def forward(self, image):
        return self.layers(image)


class Summed(nn.Module):
    """The sum of every four units, as LeNet-5 has it."""

    def forward(self, maps):
        return functional.avg_pool2d(maps, 2, divisor_override=1)


class Halved(nn.Module):
    """The left half, rounded up, as pose's heat maps are cut."""

    def forward(self, maps):
        return maps[..., : math.ceil(maps.shape[-1] / 8)]


def asked(layer: nn.Module) -> Asked:
    return Asked(Small(layer), (30, 40))


@pytest.mark.parametrize(("side", "of", "found"), [(84, 16, 80), (100, 16, 112), (3, 8, 8), (90, 2, 90)])
def test_the_second_size_is_an_odd_multiple_of_the_stride(side, of, found):
    assert odd_multiple(side, of) == found
    assert found / of % 2 == 1


def test_sizes_are_the_trainings_in_whole_strides_and_another():
    network = asked(nn.Identity())
    assert network.usual == (32, 40)
    assert network.other != network.usual
    assert all(side % 4 == 0 and side // 4 % 2 == 1 for side in network.other)


def test_a_network_that_takes_pictures_exactly_keeps_the_size_of_its_training():
    exact = Small(nn.Identity())
    exact.takes = "exact"
    assert Asked(exact, (30, 40)).usual == (30, 40)
    assert Asked(exact, (30, 40)).multiple == 1


def test_a_network_that_draws_when_it_is_asked_is_refused():
    with pytest.raises(UserError, match=r"draws random numbers .* --norm frozen"):
        noisy = settle_normalization(nn.Dropout(0.5), "batch-stats")
        freedom_of(asked(noisy), PICTURE, TOLERANCE)


def test_a_network_that_looks_at_its_whole_batch_is_asked_one_at_a_time():
    freedom, (reason,) = freedom_of(asked(BatchStatistics(2)), PICTURE, TOLERANCE)
    assert freedom == Freedom(batch=False, sides=True)
    assert "depends on the others of its batch" in reason


def test_a_network_of_one_size_is_asked_at_it():
    class OneSize(nn.Module):
        def forward(self, maps):
            if maps.shape[-1] != 40:
                raise UserError("It takes pictures of 40 pixels.")
            return maps

    freedom, reasons = freedom_of(asked(OneSize()), PICTURE, TOLERANCE)
    assert freedom == Freedom(batch=True, sides=False)
    assert reasons == ("Height and width are fixed: It takes pictures of 40 pixels.",)


def test_an_average_with_a_divisor_of_its_own_is_a_plain_one_times_a_factor():
    # torch 2.15 loses the divisor on the way to ONNX: LeNet-5 answered with quarters of its sums.
    network = asked(Summed())
    program = traced(network, PICTURE, Freedom(True, True))
    (pool,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.avg_pool2d.default)
    assert len(pool.args) < 7
    inputs = drawn(PICTURE, 3, network.other)
    assert torch.allclose(program.module()(*inputs), network(*inputs), rtol=1e-6)


def test_a_side_that_is_rounded_up_can_be_written_and_read():
    # torch 2.15 traces math.ceil and refuses to write it: pose could not be stored as a program.
    exact = Small(Halved())
    exact.takes = "exact"
    network = Asked(exact, (32, 40))
    made = translate(network, PICTURE, "torch-export", Freedom(True, True))
    assert (made.freedom, made.reasons) == (Freedom(True, True), ())
    inputs = drawn(PICTURE, 3, network.other)
    assert torch.equal(made.program.module()(*inputs), network(*inputs))


def test_what_cannot_be_translated_freely_is_fixed_and_the_reason_given(monkeypatch):
    honest = translating.traced

    def clumsy(network, kinds, freedom):
        if freedom.sides:
            raise RuntimeError("Constraints violated (h)! For more information, run with a log")
        return honest(network, kinds, freedom)

    monkeypatch.setattr(translating, "traced", clumsy)
    made = translate(asked(nn.Identity()), PICTURE, "torch-export", Freedom(True, True))
    assert made.freedom == Freedom(batch=True, sides=False)
    assert made.reasons == (
        "Height and width are fixed: torch cannot translate it otherwise (Constraints violated (h)!).",
    )


def test_an_answer_at_a_fraction_of_the_size_is_brought_to_it():
    assert asked(nn.AvgPool2d(2))(torch.rand(1, 3, 32, 40)).shape == (1, 2, 32, 40)


def test_a_difference_is_of_the_range_of_its_own_channel():
    wide, narrow = torch.linspace(-100, 100, 50), torch.linspace(0, 10, 50)
    wanted = torch.stack([wide, narrow])[None]
    assert difference(wanted, wanted) == 0
    assert difference(wanted, wanted + torch.tensor([0.0, 1.0])[:, None]) == pytest.approx(0.1)
    assert difference(wanted, wanted + torch.tensor([1.0, 0.0])[:, None]) == pytest.approx(0.005)
    assert difference(wanted, wanted[..., 1:]) == math.inf
    assert difference(wanted, wanted * math.nan) == math.inf


def test_a_channel_that_hardly_changes_is_not_measured_by_its_own_noise():
    wanted = torch.stack([torch.linspace(0, 1, 50), torch.full((50,), 0.5)])[None]
    assert difference(wanted, wanted + torch.tensor([0.0, 1e-6])[:, None]) == pytest.approx(1e-4, rel=0.05)


def test_inputs_are_always_the_same_and_labels_have_one_channel_on():
    kinds: dict[str, Kind] = {"image": Image(1), "labels": OneHot(("sky", "road"), 11)}
    picture, labels = drawn(kinds, 2, (8, 12), 5)
    assert picture.shape == (2, 1, 8, 12) and 0 <= picture.min() < picture.max() <= 1
    assert labels.shape == (2, 3, 8, 12) and torch.equal(labels.sum(1), torch.ones(2, 8, 12))
    assert all(torch.equal(*pair) for pair in zip((picture, labels), drawn(kinds, 2, (8, 12), 5), strict=True))
    assert not torch.equal(picture, drawn(kinds, 2, (8, 12), 6)[0])


@pytest.mark.parametrize("name", list_tasks())
def test_every_task_names_the_channels_of_its_answer_and_their_unit(name):
    predictor = load(name, "cpu", "off")
    task = predictor.task
    network = Asked(task.asked(predictor.model, task.views[0]), predictor.size)
    kinds = {key: task.prepared(predictor.fields)[key] for key in task.inputs(predictor.fields)}
    facts = facts_of(predictor, network, kinds, Freedom(True, True), [])
    answer = facts["answer"]
    assert len(answer["channels"]) == answer["shape"][1]
    assert answer["unit"]
    for entry, kind in zip(facts["inputs"], kinds.values(), strict=True):
        assert len(entry["channels"]) == drawn({"one": kind}, 1, (4, 4))[0].shape[1]
    assert facts["task"] == name
    assert facts["data"]["terms"]
    assert "labels" not in facts["fields"] or isinstance(predictor.fields["labels"], Labels)
