"""What an image file states about its pixels (orientation, color profile, transparency, bit depth), in every reader."""

from __future__ import annotations

import io
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from densevision.datasets.core.problems import DatasetError
from densevision.datasets.formats import image as image_format
from densevision.datasets.formats.arrays import read_pfm
from densevision.datasets.formats.image import MAX_FRAMES, EncodedImage, decode, open_image, read_image, write_image
from densevision.datasets.image_folders import ImageFolders
from densevision.errors import UserError
from densevision.limits import LIMITS
from densevision.tasks.image_io import count_frames, load_image, open_source

RGB = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8), (0, 0), 2)
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""X, Y, Z of red, green and blue, adapted to D50 (IEC 61966-2-1); the same for the two profiles below."""
WIDE = {
    "Display P3": ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
    "Adobe RGB": ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
    "red and green exchanged": (SRGB[1], SRGB[0], SRGB[2]),
}


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_primaries(primaries: Any) -> bytes:
    """An ICC profile with the transfer function of sRGB and other primaries."""
    content = bytearray(srgb_profile())
    for number in range(struct.unpack_from(">I", content, 128)[0]):
        tag, offset, _ = struct.unpack_from(">4sII", content, 132 + 12 * number)
        if tag in (b"rXYZ", b"gXYZ", b"bXYZ"):
            values = primaries[(b"rXYZ", b"gXYZ", b"bXYZ").index(tag)]
            struct.pack_into(">3i", content, offset + 8, *(round(65536 * value) for value in values))
    return bytes(content)


def linear_gray_profile() -> bytes:
    """An ICC profile of gray levels proportional to luminance."""
    white = struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * value) for value in (0.9642, 1.0, 0.8249)))
    curve = struct.pack(">4s4xI", b"curv", 0)
    tags = ((b"wtpt", white), (b"kTRC", curve))
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content
    header = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", header, 0, offset + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header[36:40] = b"acsp"
    struct.pack_into(">3i", header, 68, *(round(65536 * value) for value in (0.9642, 1.0, 0.8249)))
    return bytes(header) + table + body


def in_srgb(image: np.ndarray, primaries: Any) -> np.ndarray:
    """The same colors in sRGB, from the definition of the transfer function."""
    encoded = image / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def comment() -> PngImagePlugin.PngInfo:
    """A text in which some programs write the orientation."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif(3).tobytes()):8}\n{exif(3).tobytes().hex()}\n")
    return info


def exif_last(image: Image.Image) -> bytes:
    """A PNG that states its orientation after its pixels."""
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif(6))
    data = stream.getvalue()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    return data[:start] + data[end:-12] + data[start:end] + data[-12:]


def in_training(path: Path) -> np.ndarray:
    """The image as a training set gives it."""
    (path.parent / "train.txt").write_text(f"{path.name}\n")
    return ImageFolders(path.parent, "train").read(0)["image"]


def exif(orientation: int) -> Image.Exif:
    stored = Image.Exif()
    stored[0x0112] = orientation
    return stored


def half_transparent() -> Image.Image:
    alpha = np.repeat(np.linspace(0, 255, 56).astype(np.uint8)[None], 40, axis=0)
    return Image.fromarray(np.dstack([RGB, alpha]))


def palette() -> Image.Image:
    return Image.fromarray(RGB).quantize(16)


P3 = with_primaries(WIDE["Display P3"])
FRAMES = [Image.fromarray(np.roll(RGB, 9 * number, axis=0)) for number in range(3)]
DEEP = np.linspace(0, 65535, 40 * 56).reshape(40, 56).astype(np.uint16)
FILES: dict[str, Callable[[Path], Any]] = {
    "plain.jpg": lambda path: Image.fromarray(RGB).save(path),
    "plain.png": lambda path: Image.fromarray(RGB).save(path),
    "p3.png": lambda path: Image.fromarray(RGB).save(path, icc_profile=P3),
    "p3.jfif": lambda path: Image.fromarray(RGB).save(path, "JPEG", icc_profile=P3),
    "p3.tif": lambda path: Image.fromarray(RGB).save(path, icc_profile=P3),
    "p3-alpha.webp": lambda path: half_transparent().save(path, icc_profile=P3, lossless=True),
    "alpha.png": lambda path: half_transparent().save(path),
    "gray-alpha.png": lambda path: half_transparent().convert("LA").save(path),
    "palette.png": lambda path: palette().save(path, transparency=bytes(range(0, 256, 17))),
    "transparent.gif": lambda path: palette().save(path, transparency=3),
    "turned.jpg": lambda path: Image.fromarray(RGB).save(path, exif=exif(6)),
    "turned.png": lambda path: Image.fromarray(RGB).save(path, exif=exif(5)),
    "turned-at-the-end.png": lambda path: path.write_bytes(exif_last(Image.fromarray(RGB))),
    "gray.png": lambda path: Image.fromarray(RGB).convert("L").save(path),
    "text.png": lambda path: Image.fromarray(RGB).save(path, pnginfo=comment()),
    "turned.webp": lambda path: Image.fromarray(RGB).save(path, exif=exif(8), lossless=True),
    "turned.tif": lambda path: Image.fromarray(RGB).save(path, tiffinfo={0x0112: 7}),
    "animated.gif": lambda path: FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:]),
    "animated.webp": lambda path: FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:], lossless=True),
    "pages.tif": lambda path: FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:]),
    "phone.jpg": lambda path: FRAMES[0].save(
        path, "MPO", save_all=True, append_images=FRAMES[1:], icc_profile=P3, exif=exif(6)
    ),
    "a.avif": lambda path: Image.fromarray(RGB).save(path),
    "deep.png": lambda path: Image.fromarray(DEEP).save(path),
    "deep.tif": lambda path: Image.fromarray(DEEP).save(path),
    "cmyk.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path),
}


@pytest.mark.parametrize("name", FILES)
def test_training_and_prediction_read_the_same_pixels(tmp_path, name):
    FILES[name](tmp_path / name)
    source = open_source(tmp_path / name)
    image = load_image(source)
    np.testing.assert_array_equal(in_training(tmp_path / name), image)
    np.testing.assert_array_equal(load_image(Image.open(tmp_path / name)), image)
    assert EncodedImage((tmp_path / name).read_bytes(), name).size == image.shape[:2]
    assert count_frames(source) == (3 if name.startswith(("animated", "pages")) else 1)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".png", ".jpg"))])
def test_opencv_decodes_plain_files_and_pillow_all_others(tmp_path, monkeypatch, name):
    decoded: list[Path] = []
    monkeypatch.setattr(image_format, "decode", lambda *args: decoded.append(args[1]) or decode(*args))
    FILES[name](tmp_path / name)
    read_image(tmp_path / name)
    assert bool(decoded) == (name in ("plain.png", "gray.png", "plain.jpg", "turned.jpg"))


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_an_icc_profile_is_converted_to_srgb(tmp_path, name, suffix):
    options: dict[str, Any] = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(RGB).save(tmp_path / f"a{suffix}", icc_profile=with_primaries(WIDE[name]), **options)
    expected = in_srgb(RGB, WIDE[name])
    assert np.abs(expected - RGB).max() > 15
    assert np.abs(in_training(tmp_path / f"a{suffix}") - expected).max() < (9 if suffix == ".jpg" else 3)


def test_the_profile_does_not_change_transparency(tmp_path):
    half_transparent().save(tmp_path / "a.png", icc_profile=P3)
    alpha = np.asarray(half_transparent())[..., 3:] / 255
    expected = in_srgb(RGB, WIDE["Display P3"]) * alpha + 255 * (1 - alpha)
    assert np.abs(read_image(tmp_path / "a.png") - expected).max() < 3


def test_a_gray_profile_is_converted_to_srgb(tmp_path):
    gray = Image.fromarray(np.array([[0, 55, 128, 255]], np.uint8))
    gray.save(tmp_path / "a.png", icc_profile=linear_gray_profile())
    # The transfer function of sRGB of 0, 0.216, 0.502 and 1.
    assert np.abs(read_image(tmp_path / "a.png")[0, :, 1] - np.array([0.0, 128, 188, 255])).max() <= 1


@pytest.mark.parametrize("profile", [srgb_profile(), b"damaged", P3[:200], linear_gray_profile()])
def test_other_profiles_change_no_pixel(tmp_path, profile):
    """Those of sRGB, damaged ones, and one of gray levels in a color image."""
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    Image.fromarray(RGB).save(tmp_path / "a.jpg", icc_profile=profile)
    Image.fromarray(RGB).save(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), read_image(tmp_path / "plain.jpg"))


@pytest.mark.parametrize("profile", [None, P3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_is_turned_and_converted_like_the_complete_one(tmp_path, orientation, profile):
    large = cv2.resize(RGB, (800, 600), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(tmp_path / "a.jpg", exif=exif(orientation), icc_profile=profile)
    complete = read_image(tmp_path / "a.jpg")
    size = (800, 600) if orientation > 4 else (600, 800)
    assert complete.shape[:2] == size
    reduced = read_image(tmp_path / "a.jpg", (size[0] // 4, size[1] // 4))
    assert reduced.shape[:2] == (size[0] // 4, size[1] // 4)
    area = cv2.resize(complete, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - area).mean() < 2


def test_damaged_exif_data_do_not_matter(tmp_path):
    for suffix in (".jpg", ".png", ".webp"):
        Image.fromarray(RGB).save(tmp_path / f"a{suffix}", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
        assert read_image(tmp_path / f"a{suffix}").shape == RGB.shape


def test_12_bits_stored_in_16_are_scaled_where_the_file_states_them(tmp_path):
    levels = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    (tmp_path / "a.pgm").write_bytes(b"P5\n16 16\n4095\n" + levels.astype(">u2").tobytes())
    (tmp_path / "a.ppm").write_bytes(b"P6\n16 16\n4095\n" + np.repeat(levels, 3).astype(">u2").tobytes())
    Image.fromarray(levels).save(tmp_path / "a.tif", tiffinfo={281: 4095})
    for suffix in (".pgm", ".ppm", ".tif"):
        image = in_training(tmp_path / f"a{suffix}")
        assert np.abs(image[..., 0] - levels / 4095 * 255).max() <= 1
        np.testing.assert_array_equal(image, load_image(tmp_path / f"a{suffix}"))


@pytest.mark.parametrize(
    "header", [b"P6\n56 40\n255\n", b"P6\r\n56 40\r\n255\r\n", b"P6\r\n# me\r\n56\r\n40\r\n255\r\n"]
)
@pytest.mark.parametrize("first", [10, 13, 0])
def test_a_ppm_of_windows_is_not_shifted(tmp_path, header, first):
    pixels = RGB.copy()
    pixels[0, 0] = first
    (tmp_path / "a.ppm").write_bytes(header + pixels.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm"), pixels)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_pfm_of_windows_is_not_shifted(tmp_path, line_end):
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    # The first byte of the data is a line feed.
    values[-1, 0] = np.frombuffer(b"\n\0\0\x40", "<f4")[0]
    header = line_end.join((b"Pf", b"4 3", b"-1.0", b""))
    (tmp_path / "a.pfm").write_bytes(header + values[::-1].tobytes())
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), values)


@pytest.mark.parametrize("read", [load_image, read_image, lambda path: open_image(path).load()])
def test_postscript_with_the_name_of_an_image_starts_no_program(tmp_path, monkeypatch, read):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises((UserError, OSError), match="a file of none of the formats JPEG, PNG"):
        read(tmp_path / "a.png")


def test_heic_names_the_package_that_reads_it(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(100))
    monkeypatch.setattr("densevision.datasets.formats.image._formats", lambda: ("JPEG", "AVIF"))
    for read in (load_image, read_image):
        with pytest.raises(UserError, match=r"a\.heic.*needs the package pillow-heif \(pip install pillow-heif\)\.$"):
            read(tmp_path / "a.heic")


def test_heic_is_read_if_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(RGB)).save(tmp_path / "a.heic", quality=95)
    assert np.abs(in_training(tmp_path / "a.heic").astype(int) - RGB).mean() < 5


def test_opencv_and_pillow_decode_a_jpeg_to_the_same_pixels(tmp_path):
    write_image(tmp_path / "a.jpg", RGB)
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}):
        stream = io.BytesIO()
        Image.fromarray(RGB).save(stream, "JPEG", **options)
        (tmp_path / "a.jpg").write_bytes(stream.getvalue())
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.asarray(Image.open(tmp_path / "a.jpg")))


def test_a_truncated_jpeg_is_refused_whichever_decoder_reads_it(tmp_path):
    for profile in (None, P3):
        Image.fromarray(RGB).save(tmp_path / "a.jpg", icc_profile=profile)
        content = (tmp_path / "a.jpg").read_bytes()
        (tmp_path / "a.jpg").write_bytes(content[:-40])
        with pytest.raises(DatasetError, match="truncated"):
            read_image(tmp_path / "a.jpg")


def test_a_video_behind_a_photo_does_not_matter(tmp_path, monkeypatch):
    path, stream = tmp_path / "a.jpg", io.BytesIO()
    monkeypatch.setattr(LIMITS, "max_megapixels", RGB[..., 0].size / 1e6)
    Image.fromarray(RGB).save(stream, "JPEG")
    path.write_bytes(stream.getvalue())
    expected = read_image(path)
    path.write_bytes(stream.getvalue() + b"\0\0\0\x18ftypmp42" + b"\xff\xd9\xff\xda" * 100)
    np.testing.assert_array_equal(read_image(path), expected)
    # An embedded preview does not complete an image that is truncated.
    preview = stream.getvalue()
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    path.write_bytes(preview[:2] + segment + preview[2:-40])
    with pytest.raises(DatasetError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "gif", "ppm"])
def test_the_size_in_the_header_is_checked_before_pixels_are_decoded(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path)
    monkeypatch.setattr(LIMITS, "max_megapixels", 0.0012)
    assert read_image(path).shape == (30, 40, 3)
    monkeypatch.setattr(LIMITS, "max_megapixels", 0.0011)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DatasetError, match=r"found 40x30 pixels, more than 0\.0011 megapixels"):
        read_image(path)


@pytest.mark.parametrize("start", [b"\x76\x2f\x31\x01", b"#?RADIANCE\n", b"\x59\xa6\x6a\x95", b"P6 1 1 255\n"])
def test_opencv_never_gets_another_format_than_jpeg_and_png(monkeypatch, start):
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DatasetError, match="a file of another format"):
        decode(start + bytes(99), "photo.jpg", cv2.IMREAD_COLOR)


def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path):
    path = tmp_path / "scans.jpg"
    Image.new("L", (4000, 3000)).save(path, progressive=True)
    data = path.read_bytes()
    assert read_image(path).shape == (3000, 4000, 3)
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 1000 + b"\xff\xd9")
    with pytest.raises(DatasetError, match=r"a JPEG of \d+ scans"):
        read_image(path)


def test_pages_of_a_tiff_are_counted_up_to_a_limit(tmp_path):
    page = Image.new("L", (1, 1))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page] * (MAX_FRAMES + 9))
    source = open_source(tmp_path / "pages.tif")
    source.load()
    assert count_frames(source) == MAX_FRAMES


def test_strips_of_rows_do_not_change_an_image(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    whole = [read_image(tmp_path / name) for name in ("photo.png", "sixteen.png")]
    monkeypatch.setattr("densevision.datasets.core.geometry.STRIP_PIXELS", 130)
    for name, expected in zip(("photo.png", "sixteen.png"), whole, strict=True):
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
