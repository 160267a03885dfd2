"""Depth datasets: contract, official layouts and their pitfalls."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from densevision.datasets import DATASETS, dataset_class, list_datasets, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.geometry import plain_resize
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.dataset import Dataset, SyntheticDataset
from densevision.datasets.depth.depth_folders import DepthFolders
from densevision.datasets.depth.kitti import KITTIDepth
from densevision.datasets.depth.make3d import Make3D
from densevision.datasets.depth.nyu_depth import NYUDepth, NYURaw
from densevision.datasets.depth.seven_scenes import SevenScenes
from densevision.datasets.field_types import Depth, Scalar
from densevision.datasets.formats.arrays import write_npy, write_pfm
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.mat import write_mat, write_mat73
from densevision.datasets.formats.png import write_png16
from densevision.errors import UserError
from densevision.tasks import list_tasks, task_class

GRAY = np.full((6, 8, 3), 90, np.uint8)
STORED = [name for name in DATASETS if not issubclass(dataset_class(name), SyntheticDataset)]


# They decode the example more often, for longer or stabilized clips.
AS_VIDEO_FOLDERS = ("video-folders-16", "video-folders-32", "video-folders-32-stabilized", "ucf101-2", "ucf101-3")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in AS_VIDEO_FOLDERS else name for name in DATASETS]
)
def test_every_dataset_conforms_to_the_contract(name):
    check_dataset(dataset_class(name))


@pytest.mark.parametrize("name", STORED)
def test_every_example_opens_by_its_name(tmp_path, name):
    dataset_class(name).write_example(tmp_path)
    for split in dataset_class(name).splits:
        assert len(open_dataset(name, tmp_path, split)) > 0


def test_mistyped_name_split_or_folder_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(UserError, match="did you mean 'seven-scenes'"):
        open_dataset("seven-scene", tmp_path)
    with pytest.raises(UserError, match="splits train, test"):
        open_dataset("seven-scenes", tmp_path, "validation")
    with pytest.raises(UserError, match="--root"):
        open_dataset("seven-scenes")
    with pytest.raises(UserError, match="no folder"):
        open_dataset("seven-scenes", tmp_path / "nowhere")


@pytest.mark.parametrize("name", STORED)
def test_empty_folder_is_refused_with_the_expected_content(tmp_path, name):
    with pytest.raises(DatasetError, match=r"expected .*, found "):
        open_dataset(name, tmp_path)
    assert dataset_class(name).validate(tmp_path)


def test_list_datasets_is_sorted_and_imports_no_torch():
    assert list_datasets() == sorted(DATASETS)
    script = "import sys, densevision.datasets as d; d.list_datasets(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- 7-Scenes ---------------------------------------------------------------------------------------------------


def test_7_scenes_invalid_is_65535_and_0_and_the_unit_is_a_millimeter(tmp_path):
    # facts 3.1: depth uint16 mm, 65535 invalid (0 too).
    SevenScenes.write_example(tmp_path)
    steps = np.full((48, 64), 1234, np.uint16)
    steps[0, :3] = 0, 65535, 65534
    write_png16(tmp_path / "chess/seq-01/frame-000000.depth.png", steps)
    depth = SevenScenes(tmp_path).read(0)["depth"]
    np.testing.assert_array_equal(np.isnan(depth[0, :3]), [True, True, False])
    assert depth[5, 5] == np.float32(1.234)


def test_7_scenes_may_be_one_scene_or_the_folder_of_all(tmp_path):
    SevenScenes.write_example(tmp_path)
    assert [SevenScenes(tmp_path).sample_name(i) for i in (0, 2)] == [
        "chess/seq-01/frame-000000.color.png",
        "fire/seq-01/frame-000000.color.png",
    ]
    assert len(SevenScenes(tmp_path)) == 4
    assert len(SevenScenes(tmp_path / "fire")) == 2
    assert SevenScenes(tmp_path / "fire").sample_name(1) == "seq-01/frame-000001.color.png"


def test_7_scenes_has_its_default_camera_at_its_default_size(tmp_path):
    # facts 3.1: f = 585, c = (320, 240) at 640x480.
    SevenScenes.write_example(tmp_path)
    folder = tmp_path / "chess/seq-01"
    write_image(folder / "frame-000000.color.png", np.zeros((480, 640, 3), np.uint8))
    write_png16(folder / "frame-000000.depth.png", np.full((480, 640), 1000, np.uint16))
    np.testing.assert_array_equal(SevenScenes(tmp_path).read(0)["camera"], [[585, 0, 320], [0, 585, 240], [0, 0, 1]])
    (tmp_path / "chess/camera-intrinsics.txt").write_text("500 0 300\n0 501 200\n0 0 1\n")
    np.testing.assert_array_equal(SevenScenes(tmp_path).read(0)["camera"], [[500, 0, 300], [0, 501, 200], [0, 0, 1]])


@pytest.mark.parametrize("folder", ["seven_scenes", "seven_scenes/redkitchen"])
def test_the_real_7_scenes_sample_has_the_counts_and_ranges_of_its_readme(shared_data, folder):
    # shared/data/README.md: 120 and 30 frames, 0.80..3.60 m, 90 % and 84 % of the pixels valid.
    expected = {"train": (120, 0.90), "test": (30, 0.84)}
    for split, (frames, share) in expected.items():
        dataset = open_dataset("seven-scenes", shared_data / folder, split)
        assert len(dataset) == frames
        depth = np.stack([dataset.read(index)["depth"] for index in range(0, frames, 2)])
        assert np.isfinite(depth).mean() == pytest.approx(share, abs=0.01)
        assert 0.80 <= np.nanmin(depth) < 0.9 and 3.2 < np.nanmax(depth) <= 3.6025
        sample = dataset.read(0)
        assert sample["image"].shape == (240, 320, 3)
        np.testing.assert_array_equal(sample["camera"], [[292.5, 0, 160], [0, 292.5, 120], [0, 0, 1]])


def test_the_mean_depth_map_of_the_real_sample_scores_as_its_readme_says(shared_data):
    # shared/data/README.md: mean depth map of the train frames, abs_rel 0.3014 over the pooled valid test pixels.
    train, test = (open_dataset("seven-scenes", shared_data / "seven_scenes", split) for split in ("train", "test"))
    seen = np.stack([train.read(index)["depth"] for index in range(len(train))])
    known = np.isfinite(seen)
    mean = np.where(known, seen, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    ground_truth = np.stack([test.read(index)["depth"] for index in range(len(test))])
    errors = np.abs(mean - ground_truth) / ground_truth
    assert np.nanmean(errors) == pytest.approx(0.3014, abs=2e-4)


def test_real_sample_is_valid(shared_data):
    assert SevenScenes.validate(shared_data / "seven_scenes") == []


# --- NYU --------------------------------------------------------------------------------------------------------


def sparse_nyu(root, frames: int = 1449) -> None:
    """Write a file of the official shape with few values, without the package's own writer."""
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        images = file.create_dataset("images", (frames, 3, 640, 480), np.uint8, chunks=(1, 3, 640, 480), compression=1)
        depths = file.create_dataset("depths", (frames, 640, 480), np.float32, chunks=(1, 640, 480), compression=1)
        for place in (0, 1, frames - 1):
            # Row y, column x, of frame n: the image is (y / 2, x / 3, n) and the depth 1 + y + x / 1000.
            images[place] = np.stack(
                [
                    np.broadcast_to(np.arange(480) // 2, (640, 480)),
                    np.broadcast_to((np.arange(640) // 3)[:, None], (640, 480)),
                    np.full((640, 480), place % 256),
                ]
            )
            depths[place] = 1 + np.arange(480)[None] + np.arange(640)[:, None] / 1000


def official_like_splits(root, train: int = 795, total: int = 1449) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0).permutation(np.arange(1, total + 1))
    train_numbers, test_numbers = np.sort(numbers[:train]), np.sort(numbers[train:])
    savemat(root / "splits.mat", {"trainNdxs": train_numbers[:, None], "testNdxs": test_numbers[:, None]})
    return train_numbers, test_numbers


def test_nyu_reversed_axes_are_read_correctly(tmp_path):
    # facts 3.1: h5py shows images (1449,3,640,480); a transposed image would be plausible.
    sparse_nyu(tmp_path, frames=3)
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2]])})
    sample = NYUDepth(tmp_path, "train").read(1)
    assert sample["image"].shape == (480, 640, 3) and sample["depth"].shape == (480, 640)
    np.testing.assert_array_equal(sample["image"][100, 300], [50, 100, 2])
    assert sample["depth"][100, 300] == pytest.approx(101.3)


def test_nyu_split_indices_are_1_based_and_disjoint(tmp_path):
    # facts 3.1: subtract 1 from the split indices; 795 + 654 = 1449, disjoint.
    sparse_nyu(tmp_path)
    train_numbers, _ = official_like_splits(tmp_path)
    train, test = NYUDepth(tmp_path, "train"), NYUDepth(tmp_path, "test")
    assert (len(train), len(test)) == (795, 654)
    labels = [part.sample_name(index) for part in (train, test) for index in range(len(part))]
    assert len(set(labels)) == 1449
    assert train.sample_name(5).endswith(f"{train_numbers[5]:04}")
    for place, number in ((0, 1), (1, 2), (1448, 1449)):
        holder = train if number in train_numbers else test
        index = next(i for i in range(len(holder)) if holder.sample_name(i).endswith(f"/{number:04}"))
        assert holder.read(index)["image"][0, 0, 2] == place % 256


def test_nyu_refuses_splits_that_are_not_the_official_ones(tmp_path):
    sparse_nyu(tmp_path)
    official_like_splits(tmp_path, train=700)
    with pytest.raises(DatasetError, match=r"splits\.mat: expected 795 frames in 'trainNdxs', found 700"):
        NYUDepth(tmp_path)
    write_mat(tmp_path / "splits.mat", {"trainNdxs": np.array([[0], [4]]), "testNdxs": np.array([[2]])})
    with pytest.raises(DatasetError, match="from 1 to 1449, found numbers from 0 to 4"):
        NYUDepth(tmp_path)
    write_mat(tmp_path / "splits.mat", {"trainNdxs": np.array([[1], [4]]), "testNdxs": np.array([[4]])})
    with pytest.raises(DatasetError, match="repeated frames"):
        NYUDepth(tmp_path)


def test_nyu_refuses_a_file_with_other_axes(tmp_path):
    NYUDepth.write_example(tmp_path)
    upside = np.zeros((640, 480, 3, 2), np.uint8)
    write_mat73(tmp_path / "nyu_depth_v2_labeled.mat", {"images": upside, "depths": np.ones((640, 480, 2), np.float32)})
    with pytest.raises(DatasetError, match="480x640x3x2, found 640x480x3x2"):
        NYUDepth(tmp_path)


def test_nyu_reads_raw_depths_with_unknown_pixels(tmp_path):
    # facts 3.1: depths are in-painted, rawDepths 0 = missing.
    NYUDepth.write_example(tmp_path)
    assert np.isfinite(NYUDepth(tmp_path).read(0)["depth"]).all()
    raw = NYUDepth(tmp_path, depths="rawDepths").read(0)["depth"]
    assert np.isnan(raw[:, :8]).all() and np.isfinite(raw[:, 8:]).all()


def test_nyu_raw_strips_the_slash_of_the_training_list(tmp_path):
    # facts 3.1: os.path.join(root, "/a") drops the root.
    NYURaw.write_example(tmp_path)
    listed = (tmp_path / "nyudepthv2_train_files_with_gt.txt").read_text()
    assert listed.startswith("/")
    assert NYURaw(tmp_path).sample_name(0) == listed.split()[0][1:]
    NYURaw(tmp_path).read(0)


def test_nyu_raw_is_in_millimeters_and_0_is_unknown(tmp_path):
    # facts 3.1: 16-bit png / 1000 m, 0 invalid.
    NYURaw.write_example(tmp_path)
    steps = np.full((48, 64), 2500, np.uint16)
    steps[3, 4] = 0
    write_png16(tmp_path / "test_kitchen/sync_depth_00000.png", steps)
    sample = NYURaw(tmp_path, "test").read(0)
    assert np.isnan(sample["depth"][3, 4]) and sample["depth"][0, 0] == 2.5
    assert sample["camera"][0, 0] == pytest.approx(518.8579)


def test_nyu_raw_finds_the_folders_that_bts_uses(tmp_path):
    NYURaw.write_example(tmp_path)
    (tmp_path / "sync").mkdir()
    (tmp_path / "official_splits").mkdir()
    (tmp_path / "train_kitchen").rename(tmp_path / "sync" / "train_kitchen")
    (tmp_path / "official_splits" / "test").mkdir()
    (tmp_path / "test_kitchen").rename(tmp_path / "official_splits" / "test" / "test_kitchen")
    assert NYURaw.validate(tmp_path) == []


# --- KITTI ------------------------------------------------------------------------------------------------------


def test_kitti_is_in_meters_times_256_and_0_is_unknown(tmp_path):
    # facts 3.1: uint16 png / 256 m, 0 = no measurement.
    KITTIDepth.write_example(tmp_path)
    steps = np.zeros((48, 160), np.uint16)
    steps[20, 30] = 256 * 80
    stored = next((tmp_path / "data_depth_annotated").rglob("0000000000.png"))
    write_png16(stored, steps)
    split = "train" if "0057" in str(stored) else "test"
    depth = KITTIDepth(tmp_path, split).read(0)["depth"]
    assert depth[20, 30] == 80 and np.isfinite(depth).sum() == 1


def test_kitti_none_lines_are_counted_and_skipped(tmp_path):
    # facts 3.1: the KITTI test list keeps 697 lines, 45 of them with None as depth: 652.
    KITTIDepth.write_example(tmp_path)
    assert len(KITTIDepth(tmp_path, "test")) == 2 and KITTIDepth(tmp_path, "test").without_depth == 1
    lines = [f"d/d_sync/image_02/data/{n:010}.png d_sync/groundtruth/{n:010}.png 721.5" for n in range(652)]
    lines += [f"d/d_sync/image_02/data/{n:010}.png None 721.5" for n in range(652, 697)]
    (tmp_path / "eigen_test_files_with_gt.txt").write_text("\n".join(lines))
    test = KITTIDepth(tmp_path, "test")
    assert (len(test), test.without_depth) == (652, 45)
    (tmp_path / "eigen_test_files_with_gt.txt").write_text("\n".join([*lines[1:], lines[-1]]))
    with pytest.raises(DatasetError, match="652 of 697 lines with depth, found 651"):
        KITTIDepth(tmp_path, "test")


@pytest.mark.parametrize("image_folder, depth_folder", [("", ""), ("input", "gt_depth"), ("raw", "gt_depth")])
def test_kitti_folders_may_be_in_the_customary_locations(tmp_path, image_folder, depth_folder):
    KITTIDepth.write_example(tmp_path)
    moves = [(tmp_path / "raw", tmp_path / image_folder)]
    moves += [(tmp_path / "data_depth_annotated" / part, tmp_path / depth_folder) for part in ("train", "val")]
    for source, target in moves:
        for folder in list(source.iterdir()):
            (target / folder.name).parent.mkdir(parents=True, exist_ok=True)
            if not (target / folder.name).exists():
                folder.rename(target / folder.name)
    assert KITTIDepth.validate(tmp_path) == []


def test_kitti_lists_without_date_and_jpeg_images_are_supported(tmp_path):
    KITTIDepth.write_example(tmp_path)
    listed = tmp_path / "eigen_test_files_with_gt.txt"
    listed.write_text(listed.read_text().replace("2011_09_26/2011", "2011"))
    for image in (tmp_path / "raw").rglob("*.png"):
        write_image(image.with_suffix(".jpg"), np.zeros((48, 160, 3), np.uint8))
        image.unlink()
    assert KITTIDepth.validate(tmp_path) == []


# --- Make3D -----------------------------------------------------------------------------------------------------


def test_make3d_resizes_image_and_depth_to_one_size(tmp_path):
    # facts 3.1: Position3DGrid 55x305x4, depth = 4th slice; C1: resized (nearest) to 460x345.
    for split_folder, depth_folder in (("Train400Img", "Train400Depth"), ("Test134", "Gridlaserdata")):
        image = np.zeros((568, 426, 3), np.uint8)
        image[:284] = 200
        grid = np.zeros((55, 305, 4))
        grid[..., 3] = np.arange(55)[:, None] + 1
        grid[..., 3][27:, 150:] = 81
        write_image(tmp_path / split_folder / "img-a-p1.jpg", image)
        write_mat(tmp_path / depth_folder / "depth_sph_corr-a-p1.mat", {"Position3DGrid": grid})
    sample = Make3D(tmp_path, "test").read(0)
    assert sample["image"].shape == (460, 345, 3) and sample["depth"].shape == (460, 345)
    assert sample["depth"].dtype == np.float32 and set(np.unique(sample["depth"])) <= {*range(1, 56), 81}
    assert sample["image"][10, 10, 0] > 190 and sample["image"][450, 10, 0] < 10
    assert sample["depth"][0, 0] == 1 and sample["depth"][-1, 0] == 55
    # Depths beyond 70 m are not removed: the protocol masks them.
    assert sample["depth"][-1, -1] == 81


def test_make3d_pairs_by_name_after_the_prefix_and_reports_missing_files(tmp_path):
    Make3D.write_example(tmp_path)
    (tmp_path / "Test134" / "img-test-01p31t0.jpg").rename(tmp_path / "Test134" / "img-other.jpg")
    problems = [str(problem) for problem in Make3D.validate(tmp_path)]
    assert len(problems) == 2
    assert any("depth_sph_corr-other.mat" in problem for problem in problems)
    assert any("img-test-01p31t0.jpg" in problem for problem in problems)


# --- folders ----------------------------------------------------------------------------------------------------


def write_pairs(root, names) -> None:
    for name in names:
        write_image(root / "images" / f"{name}.png", GRAY)
        write_npy(root / "depths" / f"{name}.npy", np.full((6, 8), 2, np.float32))


def test_folders_without_lists_are_split_90_to_10_by_a_stable_hash(tmp_path):
    names = [f"scene-{number:04}" for number in range(300)]
    write_pairs(tmp_path, names)
    train, test = DepthFolders(tmp_path, "train"), DepthFolders(tmp_path, "test")
    held_back = {test.sample_name(index) for index in range(len(test))}
    assert len(train) + len(test) == 300 and 15 <= len(test) <= 45
    # sha1, not hash(): another process, with another hash seed, agrees.
    script = (
        "import sys, json; from densevision.datasets import open_dataset as o; d = o('depth-folders', sys.argv[1], "
        "'test'); print(json.dumps([d.sample_name(i) for i in range(len(d))]))"
    )
    output = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=True).stdout
    assert set(json.loads(output)) == held_back
    # Adding images does not move existing ones.
    write_pairs(tmp_path, ["later-1", "later-2"])
    grown = DepthFolders(tmp_path, "test")
    assert {grown.sample_name(index) for index in range(len(grown))} - held_back <= {
        "images/later-1.png",
        "images/later-2.png",
    }


def test_splits_may_be_folders_or_lists(tmp_path):
    write_pairs(tmp_path / "a" / "train", ["x", "y"])
    write_pairs(tmp_path / "a" / "test", ["z"])
    assert [len(DepthFolders(tmp_path / "a", split)) for split in ("train", "test")] == [2, 1]
    assert DepthFolders(tmp_path / "a", "test").sample_name(0) == "test/images/z.png"
    write_pairs(tmp_path / "b", ["x", "deep/y", "z"])
    (tmp_path / "b" / "train.txt").write_text("z\nx\n")
    (tmp_path / "b" / "test.txt").write_text("deep/y\n")
    assert DepthFolders.validate(tmp_path / "b") == []
    assert DepthFolders(tmp_path / "b").sample_name(0) == "images/z.png"
    assert DepthFolders(tmp_path / "b", "test").sample_name(0) == "images/deep/y.png"


def test_folders_read_png_npy_and_pfm(tmp_path):
    meters = np.full((6, 8), 1.5, np.float32)
    meters[0, 0] = np.nan
    for name in ("a", "b", "c"):
        write_image(tmp_path / "train/images" / f"{name}.jpg", GRAY)
    write_image(tmp_path / "test/images/a.jpg", GRAY)
    write_pfm(tmp_path / "test/depths/a.pfm", meters)
    write_png16(tmp_path / "train/depths/a.png", np.where(np.isnan(meters), 0, 15000).astype(np.uint16))
    write_npy(tmp_path / "train/depths/b.npy", meters.astype(np.float64))
    write_pfm(tmp_path / "train/depths/c.pfm", np.nan_to_num(meters))
    (tmp_path / "depth_unit.txt").write_text("0.0001\n")
    assert DepthFolders.validate(tmp_path) == []
    for index in range(3):
        np.testing.assert_allclose(DepthFolders(tmp_path).read(index)["depth"], meters, rtol=1e-6)


@pytest.mark.parametrize("unit", [None, "millimeters", "-1", "1000", "1 mm"])
def test_folders_without_a_unit_say_how_to_state_it(tmp_path, unit):
    write_image(tmp_path / "train/images/a.jpg", GRAY)
    write_png16(tmp_path / "train/depths/a.png", np.full((6, 8), 1500, np.uint16))
    if unit:
        (tmp_path / "depth_unit.txt").write_text(unit)
    with pytest.raises(DatasetError, match=r"depth_unit\.txt: expected the meters per step .* 0\.001 for millimeters"):
        DepthFolders(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path):
    write_pairs(tmp_path / "train", ["a"])
    write_image(tmp_path / "train/images/a.jpg", GRAY)
    with pytest.raises(DatasetError, match="one file of each name"):
        DepthFolders(tmp_path)


class DepthAlone(Dataset):
    """Depth maps without an image; counts how often it is read."""

    title, terms, reads = "Depth alone", "none", 0

    def __init__(self):
        super().__init__("", "train")
        self.fields = {"number": Scalar(), "depth": Depth()}

    def __len__(self):
        return 3

    def read(self, index):
        self.reads += 1
        return {"number": np.array(index), "depth": np.full((6, 8), 1 + index, np.float32)}


def test_size_is_that_of_the_first_map_and_a_sample_is_read_once():
    dataset = DepthAlone()
    assert dataset.image_size(1) == (6, 8)
    sample = dataset.read_transformed(1, plain_resize((6, 8), (3, 4)))
    assert sample["depth"].shape == (3, 4) and (sample["depth"] == 2).all() and sample["number"] == 1
    assert dataset.reads == 1
    # Another sample, or the same one again, is read anew: nothing is kept longer than from the one call to the other.
    dataset.image_size(1)
    assert (dataset.read_transformed(2, plain_resize((6, 8), (3, 4)))["depth"] == 3).all() and dataset.reads == 3
    dataset.read_transformed(2, plain_resize((6, 8), (3, 4)))
    assert dataset.reads == 4
    assert dataset.read_transformed(0, plain_resize((6, 8), (3, 4)), {"number": Scalar()}).keys() == {"number"}


def test_an_image_file_is_opened_once_per_training_sample(tmp_path, monkeypatch):
    opened: list[str] = []
    write_image(tmp_path / "train" / "a.jpg", GRAY)
    dataset = open_dataset("image-folders", tmp_path)
    module = "densevision.datasets.core.files.read_file"
    monkeypatch.setattr(module, lambda file: opened.append(file.name) or file.read_bytes())
    dataset.read_transformed(0, plain_resize(dataset.image_size(0), (3, 4)))
    assert opened == ["a.jpg"]


def test_only_datasets_with_an_official_layout_write_an_example(tmp_path):
    for cls in (DepthAlone, dataset_class("synthetic-rooms")):
        with pytest.raises(UserError, match=f"'{cls.__name__}' has no example"):
            cls.write_example(tmp_path)


def test_datasets_name_the_protocol_under_which_papers_report_on_them():
    expected = {
        "nyu-depth": "nyu-laina",
        "nyu-raw": "nyu-eigen-bts",
        "kitti-depth": "kitti-garg-80",
        "make3d": "make3d-c1",
        "hand-folders": "palm-given",
        "icvl": "palm-given",
        "nyu-hand": "palm-given",
        **{f"msra-hand-{subject}": "palm-given" for subject in range(9)},
        "kitti-flow-2012": "kitti",
        "kitti-flow-2015": "kitti",
        "middlebury-flow": "image-mean",
        "mpii": "pckh",
        "coco-people": "coco",
        "pose-folders": "pck-box",
        "rain100": "y-bt601",
        "raindrop": "y-full",
        "div2k-x2": "y-bt601-crop2",
        "div2k-x3": "y-bt601-crop3",
        "div2k-x4": "y-bt601-crop4",
        "synthetic-facades": "fcn-score-synthetic-facades",
        "room-views": "border-4",
        **dict.fromkeys(
            ("colmap", "kitti-odometry", "llff", "middlebury-stereo", "nerf-transforms", "view-folders"), "border-8"
        ),
    }
    found = {name: dataset_class(name).default_protocol for name in list_datasets()}
    assert {name: protocol for name, protocol in found.items() if protocol} == expected
    known = {protocol for name in list_tasks() for protocol in task_class(name).protocols}
    assert set(expected.values()) <= known
