from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from densevision.errors import UserError
from densevision.tasks.pictures import any_picture, picture_of

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


def require_same(found: np.ndarray, expected: np.ndarray, within: int = 0) -> None:
    assert found.dtype == np.uint8 and found.shape == expected.shape and found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= within


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RGB, RGB),
        (GREY, repeated(GREY)),
        (GREY[..., None], repeated(GREY)),
        (RGB.astype(np.uint16) * 257, RGB),
        (GREY.astype(np.uint16) * 256 + 255, repeated(GREY)),
        (RGB.astype(np.float32) / 255, RGB),
        (RGB / 255, RGB),
        (RGB > 99, np.where(RGB > 99, 255, 0).astype(np.uint8)),
        (GREY > 99, repeated(np.where(GREY > 99, 255, 0).astype(np.uint8))),
        (RGB[::-1, ::-1], RGB[::-1, ::-1]),
    ],
    ids=["rgb", "grey", "grey 1", "uint16", "grey uint16", "float32", "float64", "bool", "grey bool", "strided"],
)
def test_an_array_of_any_kind_becomes_rgb(given, expected):
    require_same(any_picture(given), expected)


def test_half_precision_keeps_every_level():
    require_same(any_picture((RGB / 255).astype(np.float16)), RGB)


@pytest.mark.parametrize("scale", [1, 257])
def test_transparency_is_laid_over_white(scale):
    alpha = np.zeros((5, 7, 1), np.uint8)
    alpha[1], alpha[2] = 255, 51
    picture = any_picture(np.concatenate((RGB, alpha), -1).astype(np.uint16 if scale > 1 else np.uint8) * scale)
    assert (picture[0] == 255).all()
    require_same(picture[1], RGB[1])
    # 51 / 255 = one fifth of the picture, four fifths of white.
    require_same(picture[2], np.round(RGB[2] / 5 + 204).astype(np.uint8))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.bool])
def test_a_tensor_of_any_kind_becomes_rgb(dtype, batched):
    whole = torch.from_numpy(RGB).movedim(-1, 0)
    tensor = whole > 99 if dtype == torch.bool else whole if dtype == torch.uint8 else (whole / 255).to(dtype)
    expected = np.where(RGB > 99, 255, 0).astype(np.uint8) if dtype == torch.bool else RGB
    # bfloat16 keeps eight bits, so that levels near white move by one.
    require_same(any_picture(tensor[None] if batched else tensor), expected, within=1 if dtype == torch.bfloat16 else 0)


def test_a_tensor_may_be_grey_need_a_gradient_and_is_not_changed():
    tensor = (torch.from_numpy(GREY)[None] / 255).requires_grad_()
    before = tensor.detach().clone()
    require_same(any_picture(tensor), repeated(GREY))
    assert torch.equal(tensor.detach(), before)


def test_an_array_is_copied_only_where_it_must_be_and_never_changed():
    given = RGB.copy()
    any_picture(given)
    np.testing.assert_array_equal(given, RGB)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I"])
def test_a_pil_image_of_any_mode_becomes_what_pil_shows(mode):
    if mode in ("I;16", "I"):
        levels = (GREY.astype(np.uint16) * 257) if mode == "I;16" else (GREY.astype(np.int32) * 257)
        image, expected = Image.fromarray(levels), repeated(GREY)
        assert image.mode == mode
    else:
        image = Image.fromarray(RGB).convert({"LA": "L", "PA": "P"}.get(mode, "RGB"))
        image = Image.new("LAB", (7, 5), (120, 30, 200)) if mode == "LAB" else image.convert(mode)
        expected = np.asarray(image.convert("RGBA").convert("RGB") if mode == "PA" else image.convert("RGB"))
    require_same(any_picture(image), expected)


def test_a_float_image_of_pil_follows_the_rule_of_float_arrays():
    require_same(any_picture(Image.fromarray((GREY / 255).astype(np.float32))), repeated(GREY))
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        any_picture(Image.fromarray(GREY.astype(np.float32)))


def test_a_palette_with_a_transparent_colour_is_laid_over_white(tmp_path):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([255, 0, 0, 0, 128, 0])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=0)
    picture = any_picture(tmp_path / "palette.png")
    assert picture[0, 0].tolist() == [255, 255, 255] and picture[1, 2].tolist() == [0, 128, 0]


def test_a_dark_16_bit_picture_stays_dark(tmp_path):
    # All levels below 256 of 65535: whoever guesses the depth from the largest value sees a bright picture.
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "dark.png")
    assert any_picture(tmp_path / "dark.png").max() == 0
    assert any_picture(np.full((4, 4), 200, np.uint16)).max() == 0


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_a_file_of_16_bits_is_what_the_array_of_16_bits_is(tmp_path, name):
    levels = np.linspace(0, 65535, 35).reshape(5, 7).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    np.testing.assert_array_equal(any_picture(tmp_path / name), any_picture(levels))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_every_lossless_format_gives_the_pixels_that_were_written(tmp_path, ending):
    options: dict[str, Any] = {"lossless": True} if ending == ".webp" else {}
    Image.fromarray(RGB).save(tmp_path / f"a{ending}", **options)
    require_same(any_picture(tmp_path / f"a{ending}"), RGB)
    require_same(any_picture(str(tmp_path / f"a{ending}")), RGB)


def test_a_cmyk_jpeg_is_read_in_its_colours(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=100)
    red, green, blue = any_picture(tmp_path / "cyan.jpg")[8, 8].astype(int)
    assert red < 5 and green > 250 and blue > 250


# EXIF 2.32, tag 0x0112: how the stored rows and columns lie in the upright picture.
TURNS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_every_orientation_of_a_camera_comes_upright(tmp_path, orientation, ending):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](upright))
    options: dict[str, Any] = {"quality": 100} if ending == ".jpg" else {}
    Image.fromarray(stored).save(tmp_path / f"a{ending}", exif=exif, **options)
    picture = any_picture(tmp_path / f"a{ending}")
    assert picture.shape == upright.shape
    for row, column in ((8, 12), (8, 36), (24, 12), (24, 36)):
        assert np.abs(picture[row, column].astype(int) - upright[row, column]).max() < 10
    turned = ImageOps.exif_transpose(Image.open(tmp_path / f"a{ending}"))
    require_same(any_picture(Image.open(tmp_path / f"a{ending}")), np.asarray(turned))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((5, 7, 2), np.uint8), r"shape \(5, 7, 2\) is no picture"),
        (np.zeros((2, 5, 7, 3), np.uint8), r"shape \(2, 5, 7, 3\) is no picture"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \(0, 7, 3\) is no picture"),
        (np.zeros(7, np.uint8), r"shape \(7,\) is no picture"),
        (np.zeros((5, 7), np.int64), "int64 is ambiguous: give uint8, uint16 or floats"),
        (np.full((5, 7, 3), 200.0), r"must lie in \[0, 1\], without nan; divide by 255"),
        (np.full((5, 7, 3), -0.1), r"must lie in \[0, 1\]"),
        (np.full((5, 7, 3), np.nan), "without nan"),
        (torch.zeros(5, 7), r"tensor of shape \(5, 7\) is no picture: give \(C, H, W\)"),
        (torch.zeros(5, 7, 3), r"tensor of shape \(5, 7, 3\) is no picture"),
        (torch.zeros(2, 3, 5, 7), r"tensor of shape \(2, 3, 5, 7\)"),
        ([[1, 2], [3, 4]], "A list is no picture: give a path, an array, a PIL image or a tensor"),
        (None, "A NoneType is no picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_would_be_one(given, sentence):
    with pytest.raises(UserError, match=sentence):
        any_picture(given)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(UserError, match=f"There is no picture '{path}'"):
            any_picture(path)


def encoded(ending: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format={"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM"}.get(ending, ending.upper()))
    return stream.getvalue()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp", "ppm", "gif"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_file_cut_short_is_named_in_one_line(tmp_path, ending, share):
    whole = encoded(ending)
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=rf"cut\.{ending} cannot be read as a picture") as caught:
        any_picture(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_a_file_with_broken_bytes_is_read_or_named_and_raises_nothing_else(tmp_path, ending):
    whole, rng = encoded(ending), np.random.default_rng(0)
    path: Path = tmp_path / f"broken.{ending}"
    for _ in range(60):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            broken[place] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            assert any_picture(path).ndim == 3
        except UserError as error:
            assert f"broken.{ending}" in str(error)


def test_a_picture_too_large_to_be_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(RGB).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png cannot be read as a picture"):
        any_picture(tmp_path / "bomb.png")


def test_a_grey_network_gets_luminance_and_a_grey_picture_stays_what_it_was():
    # Rec. 601: 0.299 red, 0.587 green, 0.114 blue of 255.
    primaries = 255 * np.eye(3, dtype=np.uint8)[None]
    assert picture_of(primaries, 1)[0, :, 0].tolist() == [76, 150, 29]
    require_same(picture_of(GREY, 1), GREY[..., None])
    require_same(picture_of(RGB, 3), RGB)


def test_a_network_of_four_channels_says_that_no_photograph_can_feed_it():
    with pytest.raises(UserError, match="4 channels"):
        picture_of(RGB, 4)
