"""MatConvNet's files: parameters by the names of their layers, wherever the network is in the file."""

from __future__ import annotations

import pytest
import torch
from scipy.io import savemat

from densevision.errors import UserError
from densevision.tasks.conversion import open_published
from densevision.tasks.matconvnet_files import read_matconvnet
from densevision.tests.matconvnet import dagnn

STATE = {
    "conv1.weight": torch.rand(4, 3, 2, 3),
    "bn1.running_mean": torch.rand(4),
    "bn1.running_var": torch.rand(4),
    "bn1.weight": torch.rand(4),
    "bn1.bias": torch.rand(4),
    "predict.weight": torch.rand(1, 4, 3, 3),
    "predict.bias": torch.rand(1),
}


@pytest.mark.parametrize("whole", [True, False])
def test_parameters_have_the_names_of_their_layers(tmp_path, whole):
    parts = dagnn(STATE)
    savemat(tmp_path / "net.mat", {"net": parts} if whole else parts)
    read = read_matconvnet(tmp_path / "net.mat")
    kept = {
        "conv1.filters": "conv1.weight", "bn1.multipliers": "bn1.weight", "bn1.biases": "bn1.bias",
        "predict.filters": "predict.weight", "predict.biases": "predict.bias",
    }  # fmt: skip
    assert read.keys() == {*kept, "bn1.moments"}
    assert all(torch.equal(read[theirs], STATE[ours]) for theirs, ours in kept.items())
    mean, deviation = read["bn1.moments"].unbind(1)
    torch.testing.assert_close(mean, STATE["bn1.running_mean"])
    torch.testing.assert_close(deviation.square() - 1e-4, STATE["bn1.running_var"])


def test_a_layer_whose_parameter_is_missing_is_refused(tmp_path):
    parts = dagnn(STATE)
    savemat(tmp_path / "net.mat", parts | {"params": parts["params"][:, 1:]})
    with pytest.raises(UserError, match="a layer 'conv1' with the parameters conv1_filter"):
        open_published(tmp_path / "net.mat")
