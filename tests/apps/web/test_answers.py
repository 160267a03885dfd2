"""What a visitor gets, without a server: an answer for every task, and a sentence for everything else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from densevision.datasets.fields import Image as Picture
from densevision.datasets.fields import Labels
from densevision.errors import UserError
from densevision.tasks import list_tasks
from densevision.tasks.inference import load

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')

from densevision.apps.web.answering import Answer, answered, at_most, filmed, in_sentences, said
from densevision.apps.web.networks import offers_of
from densevision.apps.web.probing import METHODS, probed, probes_for
from densevision.apps.web.uploads import FRAME_BYTES, Limits, bytes_of_data_url, opened

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

ODD = {
    "one-pixel.png", "20000x10.png", "10x20000.jpg", "animated.gif", "animated.webp", "animated.png", "cmyk.jpg",
    "sixteen-bits.png", "palette-and-alpha.png", "turned.jpg", "floats.tiff", "..%2f..%2fetc%2fpasswd.png",
}  # fmt: skip
"""Uploads that are pictures all the same."""


def frame_of(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.parametrize("task", list_tasks())
def test_every_task_answers_its_example_as_the_library_does_and_writes_the_same_files(
    task, offers, examples, limits, tmp_path
):
    offer, row = offers[task][0], examples[task][0]
    answer = answered(offer, row, limits, tmp_path / "answers")
    direct = load(task, "cpu", "off").predict(*row)
    expected = {file.name: file.read_bytes() for file in direct.save(tmp_path / "direct", "answer")}
    assert {file.name: file.read_bytes() for file in answer.files} == expected
    assert answer.picture is not None
    np.testing.assert_array_equal(answer.picture, direct.picture())
    assert answer.sentence == said(direct)
    assert len({file.parent for file in answer.files}) == 1, "every answer has a folder of its own"


def test_the_unit_is_said_once():
    predictor = load("depth", "cpu", "off")
    sentence = said(predictor.predict(np.zeros((30, 40, 3), np.uint8)))
    assert sentence.endswith(" (unit: metres).") and sentence[0] != " "


def test_hostile_uploads_are_refused_and_odd_pictures_are_not(script, limits):
    uploads = script.hostile_uploads()
    assert len(uploads) >= 30
    for name, body in uploads.items():
        if name in ODD:
            assert opened(body, Picture(), limits).image.size[0] >= 1
            continue
        with pytest.raises(UserError) as refused:
            opened(body, Picture(), limits)
        assert str(refused.value).endswith("."), name


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bomb-50000.png", "claims to be enormous, and at most 4 megapixels"),
        ("bomb-4000.png", "4000 wide and 4000 high, 16.0 megapixels"),
        ("too-many-bytes.png", "The file has 3.0 MB; at most 2 MB are taken"),
        ("script.eps", "EPS is not read here: send one of JPEG, PNG"),
        ("half.jpg", "damaged"),
        ("text.png", "no picture that can be read here"),
    ],
)
def test_a_refusal_says_why(script, limits, name, sentence):
    with pytest.raises(UserError, match=sentence):
        opened(script.hostile_uploads()[name], Picture(), limits)


@pytest.mark.parametrize(
    ("name", "remark"),
    [("animated.gif", "its first picture is answered"), ("animated.png", "animated"), ("cmyk.jpg", "CMYK")],
)
def test_what_a_sender_may_not_expect_is_remarked(script, limits, name, remark):
    (said_of_it,) = opened(script.hostile_uploads()[name], Picture(), limits).remarks
    assert remark in said_of_it


def test_a_bomb_is_refused_by_its_header_before_a_pixel_is_decoded(script, limits, monkeypatch):
    bomb = script.hostile_uploads()["bomb-4000.png"]
    monkeypatch.setattr("PIL.Image.Image.load", lambda *_: pytest.fail("pixels were decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(UserError, match=r"16\.0 megapixels"):
        opened(bomb, Picture(), limits)


def test_a_picture_in_colour_is_no_label_map(script, limits, offers, tmp_path):
    (kind,) = offers["translation"][0].kinds.values()
    assert isinstance(kind, Labels)
    with pytest.raises(UserError, match=r"a PNG of one channel or of a palette, whose values are classes 0 to 10"):
        opened(script.hostile_uploads()["one-pixel.png"], kind, limits)


def test_a_missing_second_picture_is_named(offers, examples, limits, tmp_path):
    with pytest.raises(UserError, match=r"^Second: No picture yet"):
        answered(offers["flow"][0], [examples["flow"][0][0], None], limits, tmp_path)


def test_an_answer_that_fails_leaves_no_folder(offers, examples, limits, tmp_path):
    with pytest.raises(UserError, match="is no probe"):
        probed(offers["depth"][0], "saliency", "nonsense", examples["depth"][0], limits, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_of_ours_is_a_sentence_for_the_visitor_and_a_stack_for_the_owner():
    told = []
    answer = in_sentences(lambda: 1 / 0, lambda: told.append("stack"))  # type: ignore[arg-type, return-value]
    assert told == ["stack"] and "no fault of the picture" in answer.sentence and answer.picture is None

    def mistaken() -> Answer:
        raise UserError("Too large.\n")

    assert in_sentences(mistaken, lambda: told.append("again")).sentence == "Too large."
    assert told == ["stack"]


def test_what_is_shown_is_bounded_and_small_pictures_stay_as_they_are():
    assert at_most(np.zeros((10, 3000, 3), np.uint8), 1600).shape == (5, 1600, 3)
    small = np.zeros((10, 30, 3), np.uint8)
    assert at_most(small, 1600) is small


# The camera


def test_a_camera_is_answered_picture_by_picture(offers, limits, script):
    answer, held = filmed(offers["depth"][0], frame_of(script.blobs(0, 0)), (), limits)
    assert answer.picture is not None and answer.picture.shape == (120, 160, 3)
    assert held == () and answer.sentence.endswith(" ms.")


def test_flow_takes_the_cameras_consecutive_pictures_and_starts_anew_when_their_size_changes(offers, limits, script):
    offer, held = offers["flow"][0], ()
    answer, held = filmed(offer, frame_of(script.blobs(0, 0)), held, limits)
    assert answer.picture is None and "Waiting for 1 more picture" in answer.sentence and len(held) == 1
    answer, held = filmed(offer, frame_of(script.blobs(0, 1)), held, limits)
    assert answer.picture is not None and len(held) == 1
    answer, held = filmed(offer, frame_of(script.blobs(1, 0)), held, limits)
    assert answer.picture is None and len(held) == 1


def test_no_camera_gives_a_label_map(offers, limits):
    assert not offers["translation"][0].filmed
    with pytest.raises(UserError, match="which no camera gives"):
        filmed(offers["translation"][0], b"", (), limits)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://localhost/a.jpg",
        "data:image/jpeg;base64,###",
        "data:image/jpeg,abc",
        pytest.param("data:;base64," + "A" * 2 * FRAME_BYTES, id="long"),
    ],
)
def test_what_is_no_picture_of_a_camera_is_refused(url):
    with pytest.raises(UserError, match="something that is no picture"):
        bytes_of_data_url(url)


# Looking into networks


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_and_writes_its_array(method, offers, examples, limits, tmp_path):
    (offer,) = offers["classification"]
    answer = probed(offer, method, "class:0", examples["classification"][0], limits, tmp_path)
    assert answer.picture is not None and answer.picture.std() > 0
    assert sorted(file.suffix for file in answer.files) == [".npy", ".png"]
    assert answer.sentence.startswith(f"{method} of class:0.")


def test_every_networks_first_probe_can_be_asked_of_its_first_example(offers, examples, limits, tmp_path):
    for task, held in offers.items():
        probe = probes_for(held[0])[0]
        assert probed(held[0], "saliency", probe, examples[task][0], limits, tmp_path).picture is not None, task


@pytest.mark.parametrize(
    ("probe", "sentence"),
    [
        ("", "empty"),
        ("clas:0", "nearest"),
        ("class:11", "classes 0 to 9"),
        ("c1:99999999999", "channel"),
        ("a" * 201, "200 are read here"),
        ("../../etc/passwd", "is no probe"),
        ("{0.__class__}", "is no probe"),
    ],
)
def test_a_bad_probe_is_answered_with_a_sentence(probe, sentence, offers, examples, limits, tmp_path):
    (offer,) = offers["classification"]
    with pytest.raises(UserError, match=sentence):
        probed(offer, "saliency", probe, examples["classification"][0], limits, tmp_path)


def test_an_unknown_method_is_answered_with_the_nearest(offers, limits, tmp_path):
    with pytest.raises(UserError, match="did you mean 'saliency'"):
        probed(offers["depth"][0], "salency", "depth@1,1", [None], limits, tmp_path)


# Checkpoints


def test_named_checkpoints_stand_beside_those_that_ship_under_names_of_their_own(checkpoint):
    offers = offers_of((str(checkpoint), str(checkpoint)), "cpu", "off")
    shipped, *named = (offer.name for offer in offers["depth"])
    assert shipped == "resnet18_unet_rooms" and named == ["best", "best (2)"]
    assert list(offers) == list_tasks()


def test_a_named_checkpoint_that_is_missing_is_a_mistake_at_once():
    with pytest.raises(UserError, match=r"no checkpoint 'missing\.safetensors'"):
        offers_of(("missing.safetensors",), "cpu", "off")


def test_shipped_networks_are_loaded_when_they_are_asked_and_once(monkeypatch):
    loaded = []
    monkeypatch.setattr("densevision.apps.web.networks.load", lambda *given: loaded.append(given) or object())
    (offer,) = offers_of((), "cpu", "off")["depth"]
    assert loaded == []
    assert offer.predictor() is offer.predictor() and len(loaded) == 1


def test_the_limits_of_the_command_are_bytes_and_pixels():
    assert Limits().file_bytes == 25 * 2**20 and Limits().pixels == 24_000_000
