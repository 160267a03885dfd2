"""Dreams: their sizes, their steps, their guides and their films."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from PIL import Image

from densevision.apps.visualize.deep_dream import Dream, closer, deep_dream, octave_sizes, resized, zoom
from densevision.apps.visualize.dreams import Activity, Alike, parse_dream
from densevision.apps.visualize.film import write_film
from densevision.apps.visualize.measures import Channel
from densevision.apps.visualize.sensitivity import gradients
from densevision.apps.visualize.subject import Seen, subject_of_trunk
from densevision.errors import UserError

from .test_subject import state_of
from .toys import Toy, picture, toy

QUICK = Dream(octaves=2, steps=3, jitter=4)


def test_octaves_are_the_notebooks_sizes():
    # Facts 4: 4 octaves, factor 1.4, of which the last is the photograph.
    assert octave_sizes((224, 320), Dream()) == [(82, 117), (114, 163), (160, 229), (224, 320)]
    with pytest.raises(UserError, match="The smallest of 4 octaves is 12 wide and 12 high; take fewer --octaves"):
        octave_sizes((32, 32), Dream())


def test_a_step_moves_the_mean_pixel_by_the_rate():
    # Facts 4: x += 1.5 g / mean(abs g), the mean over the whole picture and all its channels.
    subject, pixels = toy(), tuple(0.4 + 0.2 * each for each in picture(20, 18))
    (made,) = deep_dream(subject, pixels, Activity("a"), Dream(octaves=1, steps=1, jitter=0))
    (slope,) = gradients(subject, pixels, Activity("a"))
    torch.testing.assert_close(made, pixels[0] + 1.5 / 255 * slope / slope.abs().mean())


def test_the_gradient_of_a_levels_activity_is_the_level():
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    measured = Activity("a").measure(Seen((torch.zeros(2, 3, 8, 8),), None, {"a": maps}))
    (slope,) = torch.autograd.grad(measured.sum(), maps)
    torch.testing.assert_close(slope, maps.detach())


def test_a_guide_leads_every_place_to_its_largest_product():
    maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2).requires_grad_()
    guide = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    measured = Alike("a", guide).measure(Seen((torch.zeros(1, 3, 8, 8),), None, {"a": maps}))
    assert measured.tolist() == [3 + 2]
    (slope,) = torch.autograd.grad(measured.sum(), maps)
    torch.testing.assert_close(slope.view(2, 2), guide)


def test_a_dream_raises_what_it_is_asked_to_and_keeps_the_size():
    subject, pixels = toy(), picture(40, 33)
    for text in ("b", "b:3", "class:class 2"):
        probe = parse_dream(text, subject)
        before, after = (
            float(probe.measure(subject.look(each, probe.levels)))
            for each in (pixels, deep_dream(subject, pixels, probe, QUICK))
        )
        assert after > before, text
    (made,) = deep_dream(subject, pixels, Activity("b"), QUICK)
    assert made.shape == pixels[0].shape and made.min() >= 0 and made.max() <= 1


def test_only_what_was_dreamt_is_enlarged():
    # Facts 4: detail, not the picture, is upsampled. Steps of 0 leave every pixel of the photograph as sharp as it was.
    subject, pixels = toy(), picture(40, 33)
    (made,) = deep_dream(subject, pixels, Activity("b"), Dream(octaves=3, steps=2, rate=0.0))
    torch.testing.assert_close(made, pixels[0])


def test_shifts_are_taken_back():
    subject, pixels = toy(), picture(40, 33)
    # Level a knows no grid: away from its border the same places change in the same way, wherever the picture lies.
    still, shifted = (
        (deep_dream(subject, pixels, Activity("a"), Dream(octaves=1, steps=1, jitter=jitter))[0] - pixels[0]).flatten()
        for jitter in (0, 32)
    )
    assert torch.nn.functional.cosine_similarity(still, shifted, dim=0) > 0.9


def test_the_same_seed_dreams_the_same():
    subject, pixels = toy(), picture(40, 33)
    one, two = (deep_dream(subject, pixels, Activity("b"), QUICK)[0] for _ in range(2))
    other = deep_dream(subject, pixels, Activity("b"), Dream(octaves=2, steps=3, jitter=4, seed=1))[0]
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_nothing_is_left_on_the_network_and_the_photograph_is_as_it_was():
    subject, pixels = toy("re-used in place"), picture(40, 33)
    before, kept = state_of(subject.model), pixels[0].clone()
    deep_dream(subject, pixels, parse_dream("b", subject, picture(20, 20)), QUICK)
    assert state_of(subject.model) == before and torch.equal(pixels[0], kept)


def test_a_dead_channel_is_said_to_be_dead():
    trunk = Toy(norm=False)
    assert trunk.conv1.bias is not None
    with torch.no_grad():
        trunk.conv1.bias[2] = -1e4
    with pytest.raises(UserError, match="it is dead; active ones nearby: a:"):
        deep_dream(subject_of_trunk(trunk), picture(40, 33), Channel("a", 2), QUICK)


def test_a_guide_needs_a_whole_level():
    subject = toy()
    assert isinstance(parse_dream("b", subject, picture()), Alike)
    with pytest.raises(UserError, match="A guide is for a whole level, and 'b:3' is none; name one, like a"):
        parse_dream("b:3", subject, picture())
    with pytest.raises(UserError, match="'fc' of toy has no places"):
        parse_dream("fc", subject, picture())
    with pytest.raises(UserError, match="nearest"):
        parse_dream("class:nothing", subject)


def test_going_closer_keeps_the_middle():
    x = picture(21, 21)[0]
    near = closer(x, 0.5)
    assert near.shape == x.shape
    torch.testing.assert_close(near[..., 10, 10], x[..., 10, 10])
    torch.testing.assert_close(near[..., 14, 6], x[..., 12, 8])


def test_a_film_starts_with_the_dream_and_goes_on():
    subject, pixels = toy(), picture(40, 33)
    frames = [each[0] for each in zoom(subject, pixels, Activity("b"), QUICK, 3)]
    assert torch.equal(frames[0], deep_dream(subject, pixels, Activity("b"), QUICK)[0])
    assert len(frames) == 3 and not torch.equal(frames[1], frames[2])


def test_a_film_has_all_its_frames_and_even_sides(tmp_path):
    frames = [np.full((21, 32, 3), 40 * number, np.uint8) for number in range(5)]
    path = write_film(tmp_path / "film.mp4", iter(frames), 24)
    with av.open(str(path)) as container:
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [each.shape for each in read] == [(20, 32, 3)] * 5
    assert [int(each.mean()) for each in read] == pytest.approx([0, 40, 80, 120, 160], abs=4)
    with pytest.raises(UserError, match="has no frame"):
        write_film(tmp_path / "none.mp4", [], 24)
    with pytest.raises(UserError, match=r"film.mp4/film.mp4' cannot be written"):
        write_film(path / "film.mp4", frames, 24)


def test_smaller_pictures_are_made_without_aliasing():
    stripes = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 1, 32, 32)
    assert resized(stripes, (8, 8))[..., 2:6].std() < 0.1


def test_the_verb_writes_a_picture_its_array_and_a_film(run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    words = ("visualize", "dream", "--network", "classification", "--image", "noise.png", "--probe", "c3")
    words += ("--octaves", "2", "--steps", "2", "--out", "dream.png")
    said = run(*words, "--size", "96", "--film", "dream.mp4", "--frames", "2")
    assert said.out.splitlines()[-2:] == ["Wrote dream.png and dream.npy.", "Wrote dream.mp4."], said
    assert np.load(tmp_path / "dream.npy").shape == (1, 1, 64, 96)
    assert "octave 2 of 2, 96x64: c3 " in said.out
    assert "sees nothing in an octave of 23x34; take fewer --octaves" in run(*words, "--size", "48").mistake
    assert "a .mp4" in run(*words, "--film", "dream.gif").mistake
