from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from densevision import load
from densevision.errors import UserError
from densevision.tasks.conversion import import_weights
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.flow.networks import RAFT, raft_large, raft_small


def images(*size: int) -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(0))
    return first, second


# Facts 3.3.
@pytest.mark.parametrize(("build", "parameters"), [(raft_small, 990_162), (raft_large, 5_257_536)])
def test_both_models_have_the_known_number_of_parameters(build, parameters):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == parameters


@pytest.mark.parametrize("build", [raft_small, raft_large])
def test_every_update_is_a_prediction_at_full_size(build):
    with torch.device("meta"):
        model, frame = build(), torch.empty(2, 3, 436, 1024)
    flows = model.pyramid(frame, frame)
    # Facts 3.3: 12 iterations.
    assert [tuple(flow.shape) for flow in flows] == [(2, 2, 436, 1024)] * 12


@pytest.mark.parametrize("size", [(128, 136), (50, 133), (8, 9), (131, 1)])
def test_predictions_are_finite_at_any_size(size):
    torch.manual_seed(0)
    model = RAFT(small=True, iterations=2).eval()
    with torch.no_grad():
        flow = model(*images(*size))
    assert flow.shape == (1, 2, *size)
    # torchvision returns nan if its coarsest level has one row or column.
    assert flow.isfinite().all()


def test_predictions_equal_torchvisions_on_replicate_padded_images():
    torch.manual_seed(0)
    model = RAFT(small=True, iterations=3).eval()
    first, second = images(130, 136)
    padded = [torch.cat([image, image[..., -1:, :].expand(-1, -1, 6, -1)], dim=-2) for image in (first, second)]
    with torch.no_grad():
        # torchvision's presets scale images to -1 to 1.
        expected = model.network(2 * padded[0] - 1, 2 * padded[1] - 1, num_flow_updates=3)
        flows = model.pyramid(first, second)
    for flow, reference in zip(flows, expected, strict=True):
        assert torch.equal(flow, reference[..., :130, :])


def test_every_parameter_has_a_gradient_in_bf16():
    torch.manual_seed(0)
    model = RAFT(small=True, iterations=2)
    with torch.autocast("cpu", torch.bfloat16):
        flows = model.pyramid(*images(128, 128))
    assert all(flow.dtype == torch.float32 for flow in flows)
    torch.stack([flow.abs().mean() for flow in flows]).sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_correlations_are_released_after_a_prediction():
    model = RAFT(small=True, iterations=1)
    model(*images(128, 128))
    # A tensor with a graph inside a module would prevent the copy from which a moving average starts.
    copy.deepcopy(model)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_imported_torchvision_weights_predict_as_torchvisions_model(tmp_path, ending):
    torch.manual_seed(0)
    reference = RAFT(small=True).eval()
    path, checkpoint = tmp_path / f"raft_small{ending}", tmp_path / "raft.safetensors"
    (save_file if ending == ".safetensors" else torch.save)(reference.network.state_dict(), path)
    import_weights(path, checkpoint, None, "their authors' terms")
    predictor = load(checkpoint, "cpu", "off")
    assert predictor.header["data"]["terms"] == "their authors' terms"
    # Eight bits, as in a photo.
    first, second = (torch.round(255 * image) / 255 for image in images(128, 136))
    with torch.inference_mode():
        expected = reference(first[:1], second[:1])[0].movedim(0, -1).numpy()
    prediction = predictor.predict(first[0], second[0])
    assert isinstance(prediction, FlowField)
    np.testing.assert_allclose(prediction.vectors, expected, atol=1e-3)


def test_a_weights_file_that_does_not_fit_is_refused(tmp_path):
    out = tmp_path / "converted.safetensors"
    with pytest.raises(UserError, match=r"There is no weights file .*nowhere\.pth\."):
        import_weights(tmp_path / "nowhere.pth", out, "raft_small", "")
    path = tmp_path / "other.pth"
    torch.save(nn.Conv2d(3, 4, 1).state_dict(), path)
    message = (
        r"other\.pth has no layout that is known for raft_small \(its tensors: 'weight' 4x3x1x1, 'bias' 4, \.\.\.\)"
    )
    with pytest.raises(UserError, match=message):
        import_weights(path, out, "raft_small", "")
    assert not out.exists()
