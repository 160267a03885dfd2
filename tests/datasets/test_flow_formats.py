"""Flow formats: round trips, agreement with OpenCV, unknown pixels, damaged files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets.core.problems import DatasetError
from densevision.datasets.formats.arrays import read_npz, write_npz, write_pfm
from densevision.datasets.formats.flow import (
    read_flo,
    read_flow,
    read_kitti_flow,
    write_flo,
    write_flow,
    write_kitti_flow,
)

# Not square, to detect an exchange of width and height: facts 3.3, trap of the headers.
FLOW = np.random.default_rng(0).normal(0, 9, (23, 31, 2)).astype(np.float32)
UNKNOWN = np.random.default_rng(1).uniform(size=FLOW.shape[:2]) < 0.3
HOLED = np.where(UNKNOWN[..., None], np.float32(np.nan), FLOW)


def refuses(read, path: Path) -> str:
    with pytest.raises(DatasetError) as error_info:
        read(path)
    message = str(error_info.value)
    assert str(path) in message and ": expected " in message and ", found " in message and "\n" not in message
    return message


FILES = ("a.flo", "a.npz", "a.pfm", "a.png")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.01, 0.4, 0.97])
def test_truncated_flow_file_is_refused_with_its_name(tmp_path, name, share):
    write_flow(tmp_path / name, HOLED)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    refuses(read_flow, tmp_path / name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [None, b"", b"this is a letter, no flow at all, and it is quite long\n" * 20])
def test_missing_empty_and_other_files_are_refused_with_their_name(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refuses(read_flow, tmp_path / name)


@pytest.mark.parametrize("name, error", [("a.flo", 0), ("a.pfm", 0), ("a.png", 1 / 128), ("a.npz", 1 / 64)])
def test_flow_round_trip_with_unknown_pixels(tmp_path, name, error):
    write_flow(tmp_path / "new" / name, HOLED)
    assert [file.name for file in (tmp_path / "new").iterdir()] == [name]
    again = read_flow(tmp_path / "new" / name)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(again), np.isnan(HOLED))
    np.testing.assert_allclose(again, HOLED, rtol=0, atol=error)


def test_unknown_suffix_is_a_value_error(tmp_path):
    for act in (read_flow, lambda path: write_flow(path, FLOW)):
        with pytest.raises(ValueError, match=r"\.flo, \.npz, \.pfm, \.png, not '\.exr'"):
            act(tmp_path / "a.exr")


# --- .flo -------------------------------------------------------------------------------------------------------


def flo(width: int, height: int, values: np.ndarray, order: str = "<") -> bytes:
    header = struct.pack(f"{order}fii", 202021.25, width, height)
    return header + values.astype(f"{order}f4").tobytes()


def test_a_flo_written_by_hand_is_read_with_width_before_height_and_u_before_v(tmp_path):
    # facts 3.3: float32 202021.25 = "PIEH", int32 width, int32 height, then u,v interleaved, top row first.
    data = flo(3, 2, np.arange(12))
    assert data[:4] == b"PIEH"
    (tmp_path / "a.flo").write_bytes(data)
    flow = read_flo(tmp_path / "a.flo")
    assert flow.shape == (2, 3, 2) and flow.flags.writeable
    np.testing.assert_array_equal(flow[0, 1], [2, 3])
    np.testing.assert_array_equal(flow[1, 0], [6, 7])


def test_flo_round_trip_keeps_every_byte(tmp_path):
    data = flo(31, 23, FLOW)
    (tmp_path / "a.flo").write_bytes(data)
    write_flo(tmp_path / "b.flo", read_flo(tmp_path / "a.flo"))
    assert (tmp_path / "b.flo").read_bytes() == data


def test_a_flo_of_flying_chairs_has_1_572_876_bytes(tmp_path):
    # facts 3.3: a 384x512 file.
    write_flo(tmp_path / "a.flo", np.zeros((384, 512, 2), np.float32))
    assert (tmp_path / "a.flo").stat().st_size == 1_572_876


def test_flo_is_compatible_with_opencv(tmp_path):
    write_flo(tmp_path / "ours.flo", FLOW)
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(tmp_path / "ours.flo")), FLOW)
    cv2.writeOpticalFlow(str(tmp_path / "theirs.flo"), FLOW)
    np.testing.assert_array_equal(read_flo(tmp_path / "theirs.flo"), FLOW)
    assert (tmp_path / "ours.flo").read_bytes() == (tmp_path / "theirs.flo").read_bytes()


def test_in_a_flo_beyond_1e9_in_either_component_or_nan_is_unknown(tmp_path):
    # facts 3.3: |u| or |v| > 1e9 = unknown.
    pairs = [(1e9, -1e9), (1.1e9, 0), (0, -1.6e9), (1e10, 1e10), (np.nan, 0), (np.inf, 0), (0, 0)]
    (tmp_path / "a.flo").write_bytes(flo(7, 1, np.array(pairs)))
    flow = read_flo(tmp_path / "a.flo")[0]
    np.testing.assert_array_equal(np.isnan(flow[:, 0]), [False, True, True, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(flow[:, 0]), np.isnan(flow[:, 1]))


def test_nan_is_written_to_a_flo_as_1e10_in_both_components(tmp_path):
    flow = np.zeros((1, 2, 2), np.float32)
    flow[0, 1, 0] = np.nan
    write_flo(tmp_path / "a.flo", flow)
    np.testing.assert_array_equal(np.frombuffer((tmp_path / "a.flo").read_bytes()[12:], "<f4"), [0, 0, 1e10, 1e10])


@pytest.mark.parametrize(
    "data, message",
    [
        (flo(3, 2, np.zeros(12), ">"), "'PIEH', width, height"),
        (flo(3, 2, np.zeros(12))[:10], "'PIEH', width, height"),
        (flo(3, 2, np.zeros(11)), "48 bytes after the header of a 3x2 .flo, found 44"),
        (flo(3, 2, np.zeros(13)), "48 bytes after the header of a 3x2 .flo, found 52"),
        (flo(0, 2, np.zeros(0)), "from 1 to 99999, found 0x2"),
        (flo(3, -2, np.zeros(12)), "from 1 to 99999, found 3x-2"),
        (flo(2**30, 2**30, np.zeros(12)), "from 1 to 99999, found 1073741824x1073741824"),
    ],
    ids=["big-endian", "no whole header", "too short", "too long", "no width", "negative", "absurd"],
)
def test_other_file_named_flo_is_refused(tmp_path, data, message):
    (tmp_path / "a.flo").write_bytes(data)
    assert message in refuses(read_flo, tmp_path / "a.flo")


@pytest.mark.parametrize("flow", [FLOW.astype(np.float64), FLOW[..., 0], np.full((2, 2, 2), 2e9, np.float32)])
def test_write_flo_refuses_values_that_would_be_read_as_unknown(tmp_path, flow):
    with pytest.raises(ValueError, match=r"A \.flo file contains"):
        write_flo(tmp_path / "a.flo", flow)
    assert not list(tmp_path.iterdir())


# --- KITTI ------------------------------------------------------------------------------------------------------


def png(stored: np.ndarray) -> bytes:
    """A PNG of (H, W, C) uint16 or uint8, without OpenCV: no filter, one chunk of data."""
    height, width, channels = stored.shape
    color = {1: 0, 3: 2, 4: 6}[channels]
    rows = stored.astype(f">u{stored.itemsize}").reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8 * stored.itemsize, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_a_kitti_png_written_by_hand_has_u_in_red_v_in_green_and_validity_in_blue(tmp_path):
    # facts 3.3: u = (R - 2^15) / 64, range -512..511.98; OpenCV's order is (valid, v, u).
    stored = np.array([[[32768 + 64 * 3, 32768 - 32, 1], [0, 65535, 1], [32768, 32768, 0]]], np.uint16)
    (tmp_path / "a.png").write_bytes(png(np.repeat(stored, 2, axis=0)))
    flow = read_kitti_flow(tmp_path / "a.png")
    assert flow.shape == (2, 3, 2) and flow.dtype == np.float32
    np.testing.assert_array_equal(flow[1], [[3, -0.5], [-512, 511.984375], [np.nan, np.nan]])


def stored_by_us(path: Path, flow: np.ndarray) -> np.ndarray:
    write_kitti_flow(path, flow)
    bgr = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert bgr is not None and bgr.dtype == np.uint16
    return bgr[..., ::-1]


def test_kitti_steps_are_rounded_and_not_truncated(tmp_path):
    # facts 3.3, trap: the writer in a known public code truncates (bias 1/128 px).
    steps = np.array([0.75, -0.75, 0.25, -0.25, 1.0])
    stored = stored_by_us(tmp_path / "a.png", np.stack([steps, -steps], -1)[None].astype(np.float32) / 64)
    np.testing.assert_array_equal(stored[0, :, 0].astype(int) - 32768, [1, -1, 0, 0, 1])
    np.testing.assert_array_equal(stored[0, :, 1].astype(int) - 32768, [-1, 1, 0, 0, -1])


def test_kitti_flow_is_clipped_and_unknown_is_three_zeros(tmp_path):
    flow = np.array([[[600, -600], [0, 0], [5, np.nan]]], np.float32)
    stored = stored_by_us(tmp_path / "a.png", flow)
    np.testing.assert_array_equal(stored[0], [[65535, 0, 1], [32768, 32768, 1], [0, 0, 0]])
    # Zero flow is known, unlike unknown flow.
    np.testing.assert_array_equal(read_kitti_flow(tmp_path / "a.png")[0, 1], [0, 0])


@pytest.mark.parametrize(
    "stored, found",
    [
        (np.zeros((4, 5, 3), np.uint8), "8 bits, 3"),
        (np.zeros((4, 5, 1), np.uint16), "16 bits, 1"),
        (np.zeros((4, 5, 4), np.uint16), "16 bits, 4"),
    ],
)
def test_png_that_is_not_16_bit_rgb_is_refused(tmp_path, stored, found):
    (tmp_path / "a.png").write_bytes(png(stored))
    assert f"a 16-bit RGB PNG, found {found} channel(s)" in refuses(read_kitti_flow, tmp_path / "a.png")


def test_a_kitti_png_with_a_changed_byte_is_refused(tmp_path):
    write_kitti_flow(tmp_path / "a.png", FLOW)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    assert "checksum" in refuses(read_kitti_flow, tmp_path / "a.png")


def test_write_kitti_flow_refuses_another_shape(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(H, W, 2\), not \(23, 31\)"):
        write_kitti_flow(tmp_path / "a.png", FLOW[..., 0])


# --- .pfm and .npz ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("little_endian", [True, False])
def test_a_pfm_of_flow_keeps_its_first_two_channels_in_either_byte_order(tmp_path, little_endian):
    # facts 3.3: Things flow is 3-channel, keep channels 0, 1; trap: big-endian PFM (positive scale).
    third = np.full(FLOW.shape[:2], 7, np.float32)
    write_pfm(tmp_path / "a.pfm", np.dstack([FLOW, third]), little_endian)
    np.testing.assert_array_equal(read_flow(tmp_path / "a.pfm"), FLOW)


def test_a_big_endian_pfm_of_flow_written_by_hand_is_read_upright(tmp_path):
    rows = np.array([[[5, 6, 0], [7, 8, 0], [9, 10, 0]], [[1, 2, 0], [3, 4, 0], [-1, -2, 0]]], ">f4")  # lower row first
    (tmp_path / "a.pfm").write_bytes(b"PF\n3 2\n1.0\n" + rows.tobytes())
    flow = read_flow(tmp_path / "a.pfm")
    assert flow.shape == (2, 3, 2)
    np.testing.assert_array_equal(flow[0, 1], [3, 4])
    np.testing.assert_array_equal(flow[1, 2], [9, 10])


def test_pfm_of_depth_is_refused_as_flow(tmp_path):
    write_pfm(tmp_path / "a.pfm", FLOW[..., 0].copy())
    assert "float flow of shape HxWx3, found 23x31 float32" in refuses(read_flow, tmp_path / "a.pfm")


def test_npz_of_float16_may_have_nan_in_one_component(tmp_path):
    halves = FLOW.astype(np.float16)
    halves[2, 3, 1] = np.nan
    np.savez(tmp_path / "a.npz", flow=halves)
    flow = read_flow(tmp_path / "a.npz")
    assert flow.dtype == np.float32 and np.isnan(flow[2, 3]).all() and np.isnan(flow).sum() == 2


def test_an_npz_of_flow_is_less_than_half_of_its_flo(tmp_path):
    for name in ("a.flo", "a.npz"):
        write_flow(tmp_path / name, np.repeat(np.repeat(FLOW, 8, axis=0), 8, axis=1))
    assert (tmp_path / "a.npz").stat().st_size < (tmp_path / "a.flo").stat().st_size / 2


@pytest.mark.parametrize("array", [FLOW[..., 0], np.dstack([FLOW, FLOW]), FLOW.astype(np.int16)])
def test_npz_of_another_shape_or_type_is_refused_as_flow(tmp_path, array):
    write_npz(tmp_path / "a.npz", "flow", array)
    assert "float flow of shape HxWx2" in refuses(read_flow, tmp_path / "a.npz")


def test_npz_error_lists_the_available_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", depth=FLOW, other=FLOW)
    assert "the array 'flow', found only depth, other" in refuses(read_flow, tmp_path / "a.npz")


def test_npz_with_pickled_objects_and_npy_instead_of_npz_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", flow=np.array([{"a": 1}], dtype=object))
    assert "pickled objects" in refuses(lambda path: read_npz(path, "flow"), tmp_path / "a.npz")
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, FLOW)
    assert "another format" in refuses(lambda path: read_npz(path, "flow"), tmp_path / "b.npz")


def test_an_npz_with_a_changed_byte_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", flow=FLOW)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    refuses(read_flow, tmp_path / "a.npz")
