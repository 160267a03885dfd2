"""The Fréchet distance against its formula, and what is said where the network that sees cannot be had."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg

from densevision.errors import UserError
from densevision.tasks.translation import frechet
from densevision.tasks.translation.frechet import frechet_distance, inception


def features(count: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)).astype(np.float32)


def by_the_formula(first: np.ndarray, second: np.ndarray) -> float:
    """With scipy's root of a matrix, of which the real part is taken (facts 3.6)."""
    (m1, s1), (m2, s2) = ((rows.mean(0), np.cov(rows, rowvar=False)) for rows in (first, second))
    root = np.real(np.asarray(scipy.linalg.sqrtm(s1 @ s2)))
    return float((m1 - m2) @ (m1 - m2) + np.trace(s1 + s2 - 2 * root))


@pytest.mark.parametrize("counts", [(60, 40), (9, 14), (200, 5)])
def test_the_distance_is_that_of_the_formula_with_full_rank_and_without(counts):
    first, second = (features(count, 12, seed).astype(np.float64) for seed, count in enumerate(counts))
    assert frechet_distance(first, second) == pytest.approx(by_the_formula(first, second), rel=1e-5)


def test_the_distance_is_that_of_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    import torch

    first, second = features(50, 8, 0), features(70, 8, 1)
    moments = [torch.from_numpy(m) for rows in (first, second) for m in (rows.mean(0), np.cov(rows, rowvar=False))]
    theirs = fid._compute_fid(*[moment.double() for moment in moments]).item()
    assert frechet_distance(first, second) == pytest.approx(theirs, rel=1e-5)


def test_a_set_is_no_distance_from_itself_and_a_shift_is_its_square():
    rows = features(30, 6, 0)
    # Facts 3.6: FID(X, X) = 0 up to 1e-3.
    assert frechet_distance(rows, rows[::-1]) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(rows, rows + np.float32(2)) == pytest.approx(6 * 2**2, rel=1e-4)


def test_fewer_than_two_pictures_have_no_distance():
    rows = features(3, 6, 0)
    assert math.isnan(frechet_distance(rows, rows[:1]))
    assert math.isnan(frechet_distance(np.array([]), np.array([])))


@pytest.mark.parametrize("failure", [OSError("<urlopen error timed out>"), RuntimeError("invalid hash value")])
def test_without_weights_one_sentence_says_which_and_where_they_go(monkeypatch, tmp_path, failure):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def refuse(**options):
        raise failure

    monkeypatch.setattr(fid, "FrechetInceptionDistance", refuse)
    monkeypatch.setattr(frechet.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as said:
        inception.__wrapped__()
    assert str(failure) in str(said.value) and f"into {tmp_path}/checkpoints" in str(said.value)
    assert "weights-inception-2015-12-05-6726825d.pth" in str(said.value)


def test_without_the_libraries_one_sentence_says_how_to_install_them(monkeypatch):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def refuse(**options):
        raise ModuleNotFoundError("requires that `Torch-fidelity` is installed")

    monkeypatch.setattr(fid, "FrechetInceptionDistance", refuse)
    with pytest.raises(UserError, match=r'pip install "torchmetrics\[image\]"'):
        inception.__wrapped__()


def test_the_network_sees_pictures_of_any_size_as_the_public_one_does(monkeypatch, tmp_path):
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
    torch.save(public.state_dict(), tmp_path / "checkpoints" / frechet.WEIGHTS)
    previous = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    try:
        see = inception.__wrapped__()
    finally:
        torch.hub.set_dir(previous)
    picture = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    with torch.inference_mode():
        (theirs,) = public(torch.from_numpy(picture).movedim(-1, 0)[None])
    assert see(picture).shape == (2048,) and np.allclose(see(picture), theirs[0].numpy(), atol=1e-5)
