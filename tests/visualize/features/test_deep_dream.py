"""DeepDream: octaves, steps, guides and videos."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from PIL import Image

from densevision.datasets.formats.video import write_video
from densevision.errors import UserError
from densevision.visualize.core.model import ForwardResult, inspect_backbone
from densevision.visualize.core.objectives import Channel, GuidedSimilarity, L2Activation, gradients
from densevision.visualize.features.deep_dream import (
    DreamOptions,
    amplify,
    octave_sizes,
    resize,
    resolve_dream_target,
    zoom,
    zoom_in,
)

from ..core.test_model import state_of
from ..toys import Toy, random_image, toy

QUICK = DreamOptions(octaves=2, steps=3, jitter=4)


def test_octave_sizes_are_those_of_the_notebook():
    # Facts 4: 4 octaves with a factor of 1.4, the last of which is the image.
    assert octave_sizes((224, 320), DreamOptions()) == [(82, 117), (114, 163), (160, 229), (224, 320)]
    with pytest.raises(UserError, match="The smallest of 4 octaves is 12 wide and 12 high; use fewer --octaves"):
        octave_sizes((32, 32), DreamOptions())


def test_the_mean_change_per_step_is_the_learning_rate():
    # Facts 4: x += 1.5 g / mean(abs g), the mean over all pixels and channels.
    model, pixels = toy(), tuple(0.4 + 0.2 * each for each in random_image(20, 18))
    (result,) = amplify(model, pixels, L2Activation("a"), DreamOptions(octaves=1, steps=1, jitter=0))
    (grad,) = gradients(model, pixels, L2Activation("a"))
    torch.testing.assert_close(result, pixels[0] + 1.5 / 255 * grad / grad.abs().mean())


def test_the_gradient_of_l2_activation_is_the_level():
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    score = L2Activation("a")(ForwardResult((torch.zeros(2, 3, 8, 8),), None, {"a": maps}))
    (grad,) = torch.autograd.grad(score.sum(), maps)
    torch.testing.assert_close(grad, maps.detach())


def test_guided_similarity_uses_the_maximum_dot_product():
    maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2).requires_grad_()
    guide = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    score = GuidedSimilarity("a", guide)(ForwardResult((torch.zeros(1, 3, 8, 8),), None, {"a": maps}))
    assert score.tolist() == [3 + 2]
    (grad,) = torch.autograd.grad(score.sum(), maps)
    torch.testing.assert_close(grad.view(2, 2), guide)


def test_deep_dream_raises_the_objective_and_keeps_the_size():
    model, pixels = toy(), random_image(40, 33)
    for text in ("b", "b:3", "class:class 2"):
        objective = resolve_dream_target(text, model)
        before, after = (
            float(objective(model.forward(each, objective.levels)))
            for each in (pixels, amplify(model, pixels, objective, QUICK))
        )
        assert after > before, text
    (result,) = amplify(model, pixels, L2Activation("b"), QUICK)
    assert result.shape == pixels[0].shape and result.min() >= 0 and result.max() <= 1


def test_only_the_details_are_upsampled():
    # Facts 4: the details, not the image, are upsampled. With a step size of 0, the image stays as sharp as it was.
    model, pixels = toy(), random_image(40, 33)
    (result,) = amplify(model, pixels, L2Activation("b"), DreamOptions(octaves=3, steps=2, lr=0.0))
    torch.testing.assert_close(result, pixels[0])


def test_shifts_are_undone():
    model, pixels = toy(), random_image(40, 33)
    # Level a has stride 1: away from the border, the same pixels change in the same way for every shift.
    unshifted, shifted = (
        (
            amplify(model, pixels, L2Activation("a"), DreamOptions(octaves=1, steps=1, jitter=jitter))[0] - pixels[0]
        ).flatten()
        for jitter in (0, 32)
    )
    assert torch.nn.functional.cosine_similarity(unshifted, shifted, dim=0) > 0.9


def test_the_seed_determines_the_image():
    model, pixels = toy(), random_image(40, 33)
    first, second = (amplify(model, pixels, L2Activation("b"), QUICK)[0] for _ in range(2))
    other = amplify(model, pixels, L2Activation("b"), DreamOptions(octaves=2, steps=3, jitter=4, seed=1))[0]
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_model_and_input_are_unchanged():
    model, pixels = toy("re-used in place"), random_image(40, 33)
    before, original = state_of(model.module), pixels[0].clone()
    amplify(model, pixels, resolve_dream_target("b", model, random_image(20, 20)), QUICK)
    assert state_of(model.module) == before and torch.equal(pixels[0], original)


def test_a_dead_channel_is_an_error():
    backbone = Toy(norm=False)
    assert backbone.conv1.bias is not None
    with torch.no_grad():
        backbone.conv1.bias[2] = -1e4
    with pytest.raises(UserError, match="it is not active; nearest active ones: a:"):
        amplify(inspect_backbone(backbone), random_image(40, 33), Channel("a", 2), QUICK)


def test_a_guide_needs_a_level():
    model = toy()
    assert isinstance(resolve_dream_target("b", model, random_image()), GuidedSimilarity)
    with pytest.raises(UserError, match="--guide needs a level as target, and 'b:3' is not one"):
        resolve_dream_target("b:3", model, random_image())
    with pytest.raises(UserError, match="'fc' of toy has no spatial positions"):
        resolve_dream_target("fc", model, random_image())
    with pytest.raises(UserError, match="nearest"):
        resolve_dream_target("class:nothing", model)


def test_zoom_in_keeps_the_center():
    x = random_image(21, 21)[0]
    zoomed = zoom_in(x, 0.5)
    assert zoomed.shape == x.shape
    torch.testing.assert_close(zoomed[..., 10, 10], x[..., 10, 10])
    torch.testing.assert_close(zoomed[..., 14, 6], x[..., 12, 8])


def test_the_video_starts_with_the_output_image():
    model, pixels = toy(), random_image(40, 33)
    frames = [each[0] for each in zoom(model, pixels, L2Activation("b"), QUICK, 3)]
    assert torch.equal(frames[0], amplify(model, pixels, L2Activation("b"), QUICK)[0])
    assert len(frames) == 3 and not torch.equal(frames[1], frames[2])


def test_a_video_has_all_frames_at_an_even_size(tmp_path):
    frames = [np.full((21, 32, 3), 40 * number, np.uint8) for number in range(5)]
    path = write_video(tmp_path / "video.mp4", iter(frames), 24)
    with av.open(str(path)) as container:
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [each.shape for each in read] == [(20, 32, 3)] * 5
    assert [int(each.mean()) for each in read] == pytest.approx([0, 40, 80, 120, 160], abs=4)
    with pytest.raises(UserError, match="has no frames"):
        write_video(tmp_path / "none.mp4", [], 24)
    with pytest.raises(UserError, match=r"video.mp4/video.mp4' cannot be written"):
        write_video(path / "video.mp4", frames, 24)


def test_downscaling_is_antialiased():
    stripes = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 1, 32, 32)
    assert resize(stripes, (8, 8))[..., 2:6].std() < 0.1


def test_the_command_writes_image_array_and_video(run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    words = ("visualize", "deepdream", "--model", "lenet5_mnist", "--image", "noise.png", "--target", "c3")
    words += ("--octaves", "2", "--steps", "2", "--out", "dream.png")
    result = run(*words, "--size", "96", "--video", "dream.mp4", "--frames", "2")
    assert result.out.splitlines()[-2:] == ["Wrote dream.mp4.", "Wrote dream.png and dream.npy."], result
    assert np.load(tmp_path / "dream.npy").shape == (1, 1, 64, 96)
    assert "octave 2 of 2, 96x64: c3 " in result.out
    assert "does not accept an octave of 23x34; use fewer --octaves" in run(*words, "--size", "48").error
    assert "give a .mp4 file" in run(*words, "--video", "dream.gif").error
