from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from densevision import create_task, load
from densevision.errors import UserError
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.flow.raft import RAFT, raft_large, raft_small
from densevision.tasks.training.checkpoint import adopt


def pictures(*size: int) -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(0))
    return first, second


# Facts 3.3.
@pytest.mark.parametrize(("make", "parameters"), [(raft_small, 990_162), (raft_large, 5_257_536)])
def test_both_forms_have_the_known_number_of_parameters(make, parameters):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in make().parameters()) == parameters


@pytest.mark.parametrize("make", [raft_small, raft_large])
def test_every_correction_is_an_answer_at_full_size(make):
    with torch.device("meta"):
        network, frame = make(), torch.empty(2, 3, 436, 1024)
    flows = network.pyramid(frame, frame)
    # Facts 3.3: 12 iterations.
    assert [tuple(flow.shape) for flow in flows] == [(2, 2, 436, 1024)] * 12


@pytest.mark.parametrize("size", [(128, 136), (50, 133), (8, 9), (131, 1)])
def test_any_size_is_answered_with_finite_numbers(size):
    torch.manual_seed(0)
    network = RAFT(small=True, iterations=2).eval()
    with torch.no_grad():
        answer = network(*pictures(*size))
    assert answer.shape == (1, 2, *size)
    # torchvision answers nan where its coarsest level has one cell.
    assert answer.isfinite().all()


def test_it_answers_as_torchvision_does_and_pads_by_the_border():
    torch.manual_seed(0)
    network = RAFT(small=True, iterations=3).eval()
    first, second = pictures(130, 136)
    continued = [torch.cat([one, one[..., -1:, :].expand(-1, -1, 6, -1)], dim=-2) for one in (first, second)]
    with torch.no_grad():
        # torchvision's own presets bring pictures to -1 to 1.
        expected = network.network(2 * continued[0] - 1, 2 * continued[1] - 1, num_flow_updates=3)
        found = network.pyramid(first, second)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs[..., :130, :])


def test_every_parameter_learns_also_in_bf16():
    torch.manual_seed(0)
    network = RAFT(small=True, iterations=2)
    with torch.autocast("cpu", torch.bfloat16):
        flows = network.pyramid(*pictures(128, 128))
    assert all(flow.dtype == torch.float32 for flow in flows)
    torch.stack([flow.abs().mean() for flow in flows]).sum().backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert silent == []


def test_no_correlation_is_kept_after_an_answer():
    network = RAFT(small=True, iterations=1)
    network(*pictures(128, 128))
    # A tensor with a history inside a module would forbid the copy that a moving average starts from.
    copy.deepcopy(network)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_torchvisions_file_becomes_a_checkpoint_that_answers_as_torchvisions_network(tmp_path, ending):
    torch.manual_seed(0)
    theirs = RAFT(small=True).eval()
    path, made = tmp_path / f"raft_small{ending}", tmp_path / "raft.safetensors"
    (save_file if ending == ".safetensors" else torch.save)(theirs.network.state_dict(), path)
    adopt(create_task("flow"), "raft_small", path, made, "their authors' terms")
    predictor = load(made, "cpu", "off")
    assert predictor.header["data"]["terms"] == "their authors' terms"
    # Eight bits, as a photograph has them.
    first, second = (torch.round(255 * picture) / 255 for picture in pictures(128, 136))
    with torch.inference_mode():
        expected = theirs(first[:1], second[:1])[0].movedim(0, -1).numpy()
    answer = predictor.predict(first[0], second[0])
    assert isinstance(answer, FlowField)
    np.testing.assert_allclose(answer.vectors, expected, atol=1e-3)


def test_a_file_that_does_not_fit_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"There is no weights file .*nowhere\.pth\."):
        adopt(create_task("flow"), "raft_small", tmp_path / "nowhere.pth", tmp_path / "made.safetensors", "")
    path = tmp_path / "other.pth"
    torch.save(nn.Conv2d(3, 4, 1).state_dict(), path)
    with pytest.raises(UserError, match=r"other\.pth is no file of raft_small: 'bias' is \(4,\) there and None here"):
        adopt(create_task("flow"), "raft_small", path, tmp_path / "made.safetensors", "")
    assert not (tmp_path / "made.safetensors").exists()
