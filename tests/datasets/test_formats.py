"""File formats: agreement with other libraries, and damaged files."""

from __future__ import annotations

import io
import os
import pickle
import zlib

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.io import loadmat, savemat

from densevision.datasets.core.files import read_lines
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.formats.arrays import read_npy, read_pfm, write_npy, write_pfm
from densevision.datasets.formats.flow import read_kitti_flow, write_kitti_flow
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.formats.mat import Mat73, read_mat, write_mat, write_mat73
from densevision.datasets.formats.png import read_png16, write_png16

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8), (0, 0), 2)
STEPS = np.random.default_rng(0).integers(0, 65536, (23, 31), np.uint16)


def refuses(read, path) -> str:
    with pytest.raises(DatasetError) as error_info:
        read(path)
    message = str(error_info.value)
    assert str(path) in message and ": expected " in message and ", found " in message
    assert "\n" not in message and message.endswith(".") and not message.endswith("..")
    return message


READERS = {
    "image.png": (read_image, lambda path: write_image(path, IMAGE)),
    "image.jpg": (read_image, lambda path: write_image(path, IMAGE)),
    "image.ppm": (read_image, lambda path: write_image(path, IMAGE)),
    "depth.png": (read_png16, lambda path: write_png16(path, STEPS)),
    "depth.pfm": (read_pfm, lambda path: write_pfm(path, STEPS.astype(np.float32))),
    "depth.npy": (read_npy, lambda path: write_npy(path, STEPS)),
    "old.mat": (read_mat, lambda path: write_mat(path, {"steps": STEPS})),
    "new.mat": (lambda path: Mat73(path).read("steps"), lambda path: write_mat73(path, {"steps": STEPS})),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_truncated_file_is_refused_with_its_name(tmp_path, name, share):
    read, write = READERS[name]
    path = tmp_path / name
    write(path)
    read(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refuses(read, path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [None, b"", b"this is a letter, no data at all, and it is quite long\n" * 20])
def test_missing_empty_and_other_files_are_refused_with_their_name(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refuses(READERS[name][0], path)


@pytest.mark.parametrize("name", READERS)
def test_folder_instead_of_a_file_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    refuses(READERS[name][0], tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_writing_leaves_no_temporary_file(tmp_path, name):
    READERS[name][1](tmp_path / "new" / name)
    assert [file.name for file in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("suffix", ["png", "ppm", "bmp"])
def test_lossless_image_round_trip_agrees_with_other_libraries(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_image(path, IMAGE)
    np.testing.assert_array_equal(read_image(path), IMAGE)
    np.testing.assert_array_equal(np.asarray(Pillow.open(path).convert("RGB")), IMAGE)


def test_jpeg_round_trip_has_nearly_the_same_colors(tmp_path):
    write_image(tmp_path / "a.jpg", IMAGE, quality=98)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - IMAGE).mean() < 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    Pillow.fromarray(IMAGE).convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, np.asarray(Pillow.open(tmp_path / "a.png").convert("RGB")))


def test_an_exif_orientation_is_applied(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(IMAGE).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (IMAGE.shape[1], IMAGE.shape[0], 3)


def test_jpeg_truncated_after_a_complete_thumbnail_is_refused(tmp_path):
    write_image(tmp_path / "a.jpg", IMAGE)
    whole = (tmp_path / "a.jpg").read_bytes()
    thumbnail = whole[:]
    # An application segment directly after the start marker, with another complete JPEG.
    framed = whole[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + whole[2:]
    (tmp_path / "framed.jpg").write_bytes(framed)
    np.testing.assert_array_equal(read_image(tmp_path / "framed.jpg"), read_image(tmp_path / "a.jpg"))
    (tmp_path / "framed.jpg").write_bytes(framed[: -len(whole) // 4])
    assert "truncated" in refuses(read_image, tmp_path / "framed.jpg")


def test_jpeg_with_padding_after_its_end_is_complete(tmp_path):
    write_image(tmp_path / "a.jpg", IMAGE)
    expected = read_image(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(bytes(100))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


def test_a_png_with_a_changed_byte_is_refused(tmp_path):
    write_image(tmp_path / "a.png", IMAGE)
    changed = bytearray((tmp_path / "a.png").read_bytes())
    changed[len(changed) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(changed)
    assert "checksum" in refuses(read_image, tmp_path / "a.png")


def test_16_bit_round_trip_agrees_with_other_libraries(tmp_path):
    path = tmp_path / "a.png"
    write_png16(path, STEPS)
    np.testing.assert_array_equal(read_png16(path), STEPS)
    np.testing.assert_array_equal(np.asarray(Pillow.open(path)), STEPS)
    # facts 3.1: cv2.imread without a flag reduces 16 bits to 8.
    flattened = cv2.imread(str(path))
    assert flattened is not None and flattened.dtype == np.uint8


def test_a_16_bit_file_of_another_writer_is_read(tmp_path):
    Pillow.fromarray(STEPS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_png16(tmp_path / "a.png"), STEPS)


@pytest.mark.parametrize("stored", [IMAGE, IMAGE[..., 0], IMAGE.astype(np.uint16)])
def test_8_bit_or_color_png_is_refused_as_depth(tmp_path, stored):
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    assert "16-bit gray" in refuses(read_png16, tmp_path / "a.png")


def test_write_png16_refuses_other_types(tmp_path):
    with pytest.raises(ValueError, match="uint16"):
        write_png16(tmp_path / "a.png", STEPS.astype(np.int32))
    assert not list(tmp_path.iterdir())


def test_a_pfm_written_by_hand_is_read_upright_with_width_before_height(tmp_path):
    rows = np.array([[4, 5, 6], [1, 2, 3]], np.float32)  # the lower row comes first in the file
    for order, scale in (("<f4", b"-1.0"), (">f4", b"1.0")):
        (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n" + scale + b"\n" + rows.astype(order).tobytes())
        np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_pfm_round_trip_agrees_with_opencv(tmp_path, shape, little_endian):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    write_pfm(tmp_path / "a.pfm", values, little_endian)
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), values)
    theirs = cv2.imread(str(tmp_path / "a.pfm"), cv2.IMREAD_UNCHANGED)
    assert theirs is not None
    np.testing.assert_array_equal(theirs[..., ::-1] if values.ndim == 3 else theirs, values)


def test_pfm_round_trip_keeps_every_byte(tmp_path):
    (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n-1.0\n" + np.arange(6, dtype="<f4").tobytes())
    write_pfm(tmp_path / "b.pfm", read_pfm(tmp_path / "a.pfm"))
    assert (tmp_path / "b.pfm").read_bytes() == (tmp_path / "a.pfm").read_bytes()


def test_pickled_objects_in_an_npy_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "pickled objects" in refuses(read_npy, tmp_path / "a.npy")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_v5_file_of_another_writer_is_read(tmp_path, compressed):
    savemat(tmp_path / "a.mat", {"trainNdxs": np.array([[3], [1]]), "x": np.eye(2)}, do_compression=compressed)
    variables = read_mat(tmp_path / "a.mat")
    assert variables.keys() == {"trainNdxs", "x"}
    np.testing.assert_array_equal(variables["trainNdxs"], [[3], [1]])


def test_written_v5_file_is_read_by_scipy(tmp_path):
    write_mat(tmp_path / "a.mat", {"steps": STEPS})
    np.testing.assert_array_equal(loadmat(tmp_path / "a.mat")["steps"], STEPS)


def test_a_v73_file_written_with_reversed_axes_reads_upright(tmp_path):
    # facts 3.1: h5py returns reversed axes, images (N, 3, W, H); without care, images are plausible but transposed.
    upright = np.random.default_rng(0).integers(0, 256, (4, 6, 3, 2), np.uint8)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["images"] = upright.transpose(3, 2, 1, 0)
    stored = Mat73(tmp_path / "a.mat")
    assert stored.shape("images") == (4, 6, 3, 2)
    np.testing.assert_array_equal(stored.read("images", 1), upright[..., 1])
    np.testing.assert_array_equal(stored.read("images"), upright)


def test_a_v73_file_that_we_write_has_reversed_axes_and_matlabs_signature(tmp_path):
    upright = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    write_mat73(tmp_path / "a.mat", {"depths": upright, "scenes": ["kitchen_0004", "Küche"]})
    with h5py.File(tmp_path / "a.mat") as file:
        np.testing.assert_array_equal(np.asarray(file["depths"]), upright.transpose(2, 1, 0))
        assert file["depths"].attrs["MATLAB_class"] == b"single"
    assert (tmp_path / "a.mat").read_bytes()[:10] == b"MATLAB 7.3"
    assert (tmp_path / "a.mat").read_bytes()[124:128] == b"\x00\x02IM"
    assert Mat73(tmp_path / "a.mat").strings("scenes") == ["kitchen_0004", "Küche"]
    with pytest.raises(DatasetError, match=r"up to v7, found one of v7\.3"):
        read_mat(tmp_path / "a.mat")


def test_cells_of_strings_are_references_to_utf_16(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        cells = file.create_dataset("scenes", (1, 2), dtype=h5py.ref_dtype)
        for number, text in enumerate(("cafe_0001", "bath")):
            units = np.array([[ord(letter)] for letter in text], np.uint16)
            cells[0, number] = file.create_dataset(f"#refs#/{number}", data=units).ref
    assert Mat73(tmp_path / "a.mat").strings("scenes") == ["cafe_0001", "bath"]


def test_open_v73_file_is_not_pickled(tmp_path):
    write_mat73(tmp_path / "a.mat", {"steps": STEPS})
    stored = Mat73(tmp_path / "a.mat")
    stored.read("steps")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stored)).read("steps"), STEPS)


def test_missing_variable_is_reported_with_the_available_ones(tmp_path):
    write_mat73(tmp_path / "a.mat", {"steps": STEPS})
    with pytest.raises(DatasetError, match="'depths', found only steps"):
        Mat73(tmp_path / "a.mat").read("depths")


def test_a_corrupt_chunk_of_a_v73_file_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 65536, (40, 50, 4), np.uint16)
    write_mat73(tmp_path / "a.mat", {"steps": noise})
    with h5py.File(tmp_path / "a.mat") as file:
        place = file["steps"].id.get_chunk_info(2).byte_offset
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[place : place + 50] = bytes(50)
    (tmp_path / "a.mat").write_bytes(content)
    stored = Mat73(tmp_path / "a.mat")
    np.testing.assert_array_equal(stored.read("steps", 1), noise[..., 1])
    refuses(lambda path: stored.read("steps", 2), tmp_path / "a.mat")


def test_read_lines_removes_byte_order_mark_blank_lines_and_carriage_returns(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfsequence1\r\n\r\n  sequence2 \r\n")
    assert read_lines(tmp_path / "a.txt", "lines") == ["sequence1", "sequence2"]
    (tmp_path / "a.txt").write_bytes(b"\n \n")
    refuses(lambda path: read_lines(path, "lines"), tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    refuses(lambda path: read_lines(path, "lines"), tmp_path / "a.txt")


def test_png_checksums_are_those_of_zlib(tmp_path):
    # A file of an independent writer, so that the chunk checks are not only tested with files of OpenCV.
    buffer = io.BytesIO()
    Pillow.fromarray(IMAGE).save(buffer, "PNG", compress_level=zlib.Z_BEST_COMPRESSION)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), IMAGE)


@pytest.mark.parametrize(
    "name", [os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"\xff/\xfe.png"), "\u5199\u771f.png", "a" * 251 + ".png"]
)
def test_images_are_written_under_any_file_name(tmp_path, name):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write_image(tmp_path / name, image)
    np.testing.assert_array_equal(read_image(tmp_path / name), image)
    write_png16(tmp_path / name, image[..., 0].astype(np.uint16))
    np.testing.assert_array_equal(read_png16(tmp_path / name), image[..., 0])
    write_kitti_flow(tmp_path / name, image[..., :2].astype(np.float32))
    np.testing.assert_array_equal(read_kitti_flow(tmp_path / name), image[..., :2])


@pytest.mark.parametrize("name", ["a.unknown", "a"])
def test_a_suffix_that_opencv_does_not_write_is_an_error_that_names_the_file(tmp_path, name):
    with pytest.raises(ValueError, match=f"cannot write an image of .* to '.*{name}'"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
