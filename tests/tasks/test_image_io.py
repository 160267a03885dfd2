from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from densevision.errors import UserError
from densevision.limits import LIMITS
from densevision.tasks.image_io import load_image, load_image_as

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


def repeated(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=-1)


def require_same(actual: np.ndarray, expected: np.ndarray, within: int = 0) -> None:
    assert actual.dtype == np.uint8 and actual.shape == expected.shape and actual.flags.c_contiguous
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= within


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (RGB, RGB),
        (GRAY, repeated(GRAY)),
        (GRAY[..., None], repeated(GRAY)),
        (RGB.astype(np.uint16) * 257, RGB),
        (GRAY.astype(np.uint16) * 256 + 255, repeated(GRAY)),
        (RGB.astype(">u2") * 257, RGB),
        (RGB.astype(np.float32) / 255, RGB),
        (RGB / 255, RGB),
        (RGB > 99, np.where(RGB > 99, 255, 0).astype(np.uint8)),
        (GRAY > 99, repeated(np.where(GRAY > 99, 255, 0).astype(np.uint8))),
        (RGB[::-1, ::-1], RGB[::-1, ::-1]),
    ],
    ids=[
        "rgb",
        "gray",
        "gray 1",
        "uint16",
        "gray uint16",
        "big-endian",
        "float32",
        "float64",
        "bool",
        "gray bool",
        "strided",
    ],
)
def test_an_array_of_any_type_becomes_rgb(source, expected):
    require_same(load_image(source), expected)


def test_half_precision_keeps_every_value():
    require_same(load_image((RGB / 255).astype(np.float16)), RGB)


@pytest.mark.parametrize("scale", [1, 257])
def test_transparent_pixels_are_blended_with_white(scale):
    alpha = np.zeros((5, 7, 1), np.uint8)
    alpha[1], alpha[2] = 255, 51
    image = load_image(np.concatenate((RGB, alpha), -1).astype(np.uint16 if scale > 1 else np.uint8) * scale)
    assert (image[0] == 255).all()
    require_same(image[1], RGB[1])
    # 51 / 255 = one fifth of the image, four fifths of white.
    require_same(image[2], np.round(RGB[2] / 5 + 204).astype(np.uint8))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.bool])
def test_a_tensor_of_any_type_becomes_rgb(dtype, batched):
    pixels = torch.from_numpy(RGB).movedim(-1, 0)
    tensor = pixels > 99 if dtype == torch.bool else pixels if dtype == torch.uint8 else (pixels / 255).to(dtype)
    expected = np.where(RGB > 99, 255, 0).astype(np.uint8) if dtype == torch.bool else RGB
    # bfloat16 keeps eight bits, so values near white change by one.
    require_same(load_image(tensor[None] if batched else tensor), expected, within=1 if dtype == torch.bfloat16 else 0)


def test_a_gray_tensor_with_gradient_is_not_modified():
    tensor = (torch.from_numpy(GRAY)[None] / 255).requires_grad_()
    before = tensor.detach().clone()
    require_same(load_image(tensor), repeated(GRAY))
    assert torch.equal(tensor.detach(), before)


def test_an_array_is_not_modified():
    source = RGB.copy()
    load_image(source)
    np.testing.assert_array_equal(source, RGB)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I"])
def test_a_pil_image_of_any_mode_becomes_rgb(mode):
    if mode in ("I;16", "I"):
        levels = (GRAY.astype(np.uint16) * 257) if mode == "I;16" else (GRAY.astype(np.int32) * 257)
        image, expected = Image.fromarray(levels), repeated(GRAY)
        assert image.mode == mode
    else:
        image = Image.fromarray(RGB).convert({"LA": "L", "PA": "P"}.get(mode, "RGB"))
        image = Image.new("LAB", (7, 5), (120, 30, 200)) if mode == "LAB" else image.convert(mode)
        expected = np.asarray(image.convert("RGBA").convert("RGB") if mode == "PA" else image.convert("RGB"))
    require_same(load_image(image), expected)


def test_a_pil_float_image_is_treated_like_a_float_array():
    require_same(load_image(Image.fromarray((GRAY / 255).astype(np.float32))), repeated(GRAY))
    with pytest.raises(UserError, match=r"must be in \[0, 1\]"):
        load_image(Image.fromarray(GRAY.astype(np.float32)))


def test_a_transparent_palette_color_is_blended_with_white(tmp_path):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([255, 0, 0, 0, 128, 0])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=0)
    pixels = load_image(tmp_path / "palette.png")
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[1, 2].tolist() == [0, 128, 0]


def test_a_dark_16_bit_image_stays_dark(tmp_path):
    # All values are below 256 of 65535: guessing the bit depth from the maximum would give a bright image.
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "dark.png")
    assert load_image(tmp_path / "dark.png").max() == 0
    assert load_image(np.full((4, 4), 200, np.uint16)).max() == 0


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_a_16_bit_file_equals_the_16_bit_array(tmp_path, name):
    levels = np.linspace(0, 65535, 35).reshape(5, 7).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    np.testing.assert_array_equal(load_image(tmp_path / name), load_image(levels))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_lossless_formats_give_the_written_pixels(tmp_path, ending):
    options: dict[str, Any] = {"lossless": True} if ending == ".webp" else {}
    Image.fromarray(RGB).save(tmp_path / f"a{ending}", **options)
    require_same(load_image(tmp_path / f"a{ending}"), RGB)
    require_same(load_image(str(tmp_path / f"a{ending}")), RGB)


def test_a_cmyk_jpeg_is_read_in_its_colors(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=100)
    red, green, blue = load_image(tmp_path / "cyan.jpg")[8, 8].astype(int)
    assert red < 5 and green > 250 and blue > 250


# EXIF 2.32, tag 0x0112: arrangement of the stored rows and columns in the upright image.
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
def test_every_exif_orientation_is_loaded_upright(tmp_path, orientation, ending):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](upright))
    options: dict[str, Any] = {"quality": 100} if ending == ".jpg" else {}
    Image.fromarray(stored).save(tmp_path / f"a{ending}", exif=exif, **options)
    image = load_image(tmp_path / f"a{ending}")
    assert image.shape == upright.shape
    for row, column in ((8, 12), (8, 36), (24, 12), (24, 36)):
        assert np.abs(image[row, column].astype(int) - upright[row, column]).max() < 10
    turned = ImageOps.exif_transpose(Image.open(tmp_path / f"a{ending}"))
    require_same(load_image(Image.open(tmp_path / f"a{ending}")), np.asarray(turned))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((5, 7, 2), np.uint8), r"shape \(5, 7, 2\) is not an image"),
        (np.zeros((2, 5, 7, 3), np.uint8), r"shape \(2, 5, 7, 3\) is not an image"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \(0, 7, 3\) is not an image"),
        (np.zeros(7, np.uint8), r"shape \(7,\) is not an image"),
        (np.zeros((5, 7), np.int64), "int64 is ambiguous: give uint8, uint16 or floats"),
        (np.full((5, 7, 3), 200.0), r"must be in \[0, 1\], without nan; divide by 255"),
        (np.full((5, 7, 3), -0.1), r"must be in \[0, 1\]"),
        (np.full((5, 7, 3), np.nan), "without nan"),
        (torch.zeros(5, 7), r"tensor of shape \(5, 7\) is not an image: give \(C, H, W\)"),
        (torch.zeros(5, 7, 3), r"tensor of shape \(5, 7, 3\) is not an image"),
        (torch.zeros(2, 3, 5, 7), r"tensor of shape \(2, 3, 5, 7\)"),
        ([[1, 2], [3, 4]], "A list is not an image: give a path, an array, a PIL image or a tensor"),
        (None, "A NoneType is not an image"),
        (io.BytesIO(b"photo"), "A BytesIO is not an image"),
    ],
)
def test_invalid_sources_are_refused(source, message):
    with pytest.raises(UserError, match=message):
        load_image(source)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(UserError, match=f"There is no image file '{path}'"):
            load_image(path)


def encoded(ending: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format={"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM"}.get(ending, ending.upper()))
    return stream.getvalue()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp", "ppm", "gif"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_truncated_file_is_named_in_one_line(tmp_path, ending, share):
    content = encoded(ending)
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf"cut\.{ending} cannot be read as an image") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_a_corrupted_file_is_read_or_named(tmp_path, ending):
    content, rng = encoded(ending), np.random.default_rng(0)
    path: Path = tmp_path / f"broken.{ending}"
    for _ in range(60):
        broken = bytearray(content)
        for position in rng.integers(0, len(content), 3):
            broken[position] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            assert load_image(path).ndim == 3
        except UserError as error:
            assert f"broken.{ending}" in str(error)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(LIMITS, "max_megapixels", 1e-5)
    Image.fromarray(RGB).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png cannot be read as an image"):
        load_image(tmp_path / "bomb.png")


def test_gray_networks_get_luminance_and_gray_images_stay_unchanged():
    # Rec. 601: 0.299 red, 0.587 green, 0.114 blue of 255.
    primaries = 255 * np.eye(3, dtype=np.uint8)[None]
    assert load_image_as(primaries, 1)[0, :, 0].tolist() == [76, 150, 29]
    require_same(load_image_as(GRAY, 1), GRAY[..., None])
    require_same(load_image_as(RGB, 3), RGB)


def test_a_network_of_four_channels_is_refused():
    with pytest.raises(UserError, match="4 channels"):
        load_image_as(RGB, 4)


@pytest.mark.parametrize(
    "source",
    [
        torch.zeros(3, 8, 8).to_sparse(),
        torch.zeros(3, 8, 8, device="meta"),
        Image.new("RGB", (0, 0)),
        Image.new("La", (8, 8)),
    ],
    ids=["sparse", "without data", "no pixel", "premultiplied gray"],
)
def test_a_tensor_or_image_without_readable_pixels_is_refused(source):
    with pytest.raises(UserError, match="cannot be read"):
        load_image(source)
