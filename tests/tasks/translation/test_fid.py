"""The Fréchet distance against its formula, and the errors without Inception weights or libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg

from densevision.errors import UserError
from densevision.tasks.translation import fid
from densevision.tasks.translation.fid import frechet_distance, inception


def features(count: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)).astype(np.float32)


def reference_distance(first: np.ndarray, second: np.ndarray) -> float:
    """With the real part of scipy's matrix square root (facts 3.6)."""
    (m1, s1), (m2, s2) = ((rows.mean(0), np.cov(rows, rowvar=False)) for rows in (first, second))
    root = np.real(np.asarray(scipy.linalg.sqrtm(s1 @ s2)))
    return float((m1 - m2) @ (m1 - m2) + np.trace(s1 + s2 - 2 * root))


@pytest.mark.parametrize("counts", [(60, 40), (9, 14), (200, 5)])
def test_distance_equals_the_formula_with_and_without_full_rank(counts):
    first, second = (features(count, 12, seed).astype(np.float64) for seed, count in enumerate(counts))
    assert frechet_distance(first, second) == pytest.approx(reference_distance(first, second), rel=1e-5)


def test_distance_equals_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    import torch

    first, second = features(50, 8, 0), features(70, 8, 1)
    moments = [torch.from_numpy(m) for rows in (first, second) for m in (rows.mean(0), np.cov(rows, rowvar=False))]
    expected = fid._compute_fid(*[moment.double() for moment in moments]).item()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)


def test_distance_is_0_to_itself_and_the_squared_length_of_a_shift():
    rows = features(30, 6, 0)
    # Facts 3.6: FID(X, X) = 0 up to 1e-3.
    assert frechet_distance(rows, rows[::-1]) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(rows, rows + np.float32(2)) == pytest.approx(6 * 2**2, rel=1e-4)


def test_fewer_than_two_images_have_no_distance():
    rows = features(3, 6, 0)
    assert math.isnan(frechet_distance(rows, rows[:1]))
    assert math.isnan(frechet_distance(np.array([]), np.array([])))


@pytest.mark.parametrize("failure", [OSError("<urlopen error timed out>"), RuntimeError("invalid hash value")])
def test_without_weights_the_error_has_file_and_folder(monkeypatch, tmp_path, failure):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def fail(**options):
        raise failure

    monkeypatch.setattr(fid, "FrechetInceptionDistance", fail)
    monkeypatch.setattr(fid.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as error:
        inception.__wrapped__()
    assert str(failure) in str(error.value) and f"into {tmp_path}/checkpoints" in str(error.value)
    assert "weights-inception-2015-12-05-6726825d.pth" in str(error.value)


def test_without_the_libraries_the_error_has_the_install_command(monkeypatch):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def fail(**options):
        raise ModuleNotFoundError("requires that `Torch-fidelity` is installed")

    monkeypatch.setattr(fid, "FrechetInceptionDistance", fail)
    with pytest.raises(UserError, match=r'pip install "torchmetrics\[image\]"'):
        inception.__wrapped__()


def test_features_of_any_image_size_equal_torch_fidelitys(monkeypatch, tmp_path):
    pytest.importorskip("torchmetrics.image.fid")
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    import torch

    def without_weights(network, *rest, **options):
        return None

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(extractor, "load_state_dict_from_url", lambda *rest, **options: {})
        patch.setattr(torch.nn.Module, "load_state_dict", without_weights)
        public = extractor.FeatureExtractorInceptionV3("public", ["2048"])
    (tmp_path / "checkpoints").mkdir()
    torch.save(public.state_dict(), tmp_path / "checkpoints" / fid.WEIGHTS)
    previous = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    try:
        extract = inception.__wrapped__()
    finally:
        torch.hub.set_dir(previous)
    image = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    with torch.inference_mode():
        (expected,) = public(torch.from_numpy(image).movedim(-1, 0)[None])
    assert extract(image).shape == (2048,) and np.allclose(extract(image), expected[0].numpy(), atol=1e-5)
