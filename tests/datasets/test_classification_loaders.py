"""Classification datasets: official layouts and labels."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image as PILImage

from densevision.datasets import open_dataset
from densevision.datasets.classification.cifar import CIFAR10, CIFAR100, write_pickled_batch
from densevision.datasets.classification.class_folders import ClassFolders
from densevision.datasets.classification.imagenet import DEVKIT, TARS, ImageNet, imagenet_classes, write_devkit
from densevision.datasets.classification.imagenet_shards import ImageNetShards
from densevision.datasets.classification.mnist import MNIST, write_idx
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.dataset import Dataset
from densevision.datasets.examples import fake_jpeg
from densevision.datasets.field_types import ClassLabel, Image
from densevision.datasets.formats.tar import write_tar


def classes_of(dataset: Dataset) -> list[int]:
    return [int(dataset.read(index)["category"]) for index in range(len(dataset))]


def names_of(dataset: Dataset) -> tuple[str, ...]:
    field_type = dataset.fields["category"]
    assert isinstance(field_type, ClassLabel)
    return field_type.names


def put(path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# --- MNIST ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_found_where_torchvision_or_a_plain_download_puts_it(tmp_path, folder, packed):
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    suffix = ".gz" if packed else ""
    write_idx(tmp_path / folder / f"t10k-images-idx3-ubyte{suffix}", images)
    write_idx(tmp_path / folder / f"t10k-labels-idx1-ubyte{suffix}", np.array([7, 0, 9], np.uint8))
    digits = open_dataset("mnist", tmp_path, "test")
    assert digits.fields == {"image": Image(1), "category": ClassLabel(tuple("0123456789"))}
    assert classes_of(digits) == [7, 0, 9]
    np.testing.assert_array_equal(digits.read(2)["image"][..., 0], images[2])


def test_mnist_is_complete_and_has_the_published_mean(shared_data):
    train, test = (open_dataset("mnist", shared_data / "mnist", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    # LeCun's page: the first training digits are 5 0 4 1 9 2; the first test digits 7 2 1 0 4.
    assert [int(train.read(index)["category"]) for index in range(6)] == [5, 0, 4, 1, 9, 2]
    assert [int(test.read(index)["category"]) for index in range(5)] == [7, 2, 1, 0, 4]
    # The values of the usual normalization.
    pixels = np.stack([train.read(index)["image"] for index in range(60_000)])
    assert pixels.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std() / 255 == pytest.approx(0.3081, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("images-idx3", np.zeros((20, 28, 27), np.uint8), "28x28 uint8, found 20x28x27 uint8"),
        ("labels-idx1", np.zeros(19, np.uint8), "a label for each of 20 images, found 19"),
        ("labels-idx1", np.full(20, 10, np.uint8), "labels from 0 to 9, found 10"),
    ],
)
def test_inconsistent_mnist_files_are_refused(tmp_path, name, array, words):
    MNIST.write_example(tmp_path)
    write_idx(tmp_path / "MNIST/raw" / f"train-{name}-ubyte.gz", array)
    with pytest.raises(DatasetError, match=words):
        MNIST(tmp_path)
    assert len(MNIST.validate(tmp_path)) == 1


def test_truncated_gzip_of_mnist_is_reported(tmp_path):
    MNIST.write_example(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    with pytest.raises(DatasetError, match="15680 bytes after the header of an IDX array 20x28x28, found 15580"):
        MNIST(tmp_path)


# --- CIFAR ------------------------------------------------------------------------------------------------------


def test_cifar_rows_are_three_planes(tmp_path):
    CIFAR10.write_example(tmp_path)
    rows = np.zeros((1, 3072), np.uint8)
    rows[0, 0], rows[0, 1024 + 1], rows[0, 2048 + 32] = 10, 20, 30
    write_pickled_batch(tmp_path / CIFAR10.folder / "test_batch", {"data": rows, "labels": [3]})
    test = CIFAR10(tmp_path, "test")
    image = test.read(0)["image"]
    assert image.shape == (32, 32, 3)
    np.testing.assert_array_equal(np.argwhere(image), [(0, 0, 0), (0, 1, 1), (1, 0, 2)])
    assert names_of(test)[3] == "cat"


def test_cifar_is_read_from_its_folder_its_parent_and_any_archive(tmp_path):
    CIFAR10.write_example(tmp_path / "a")
    folder = tmp_path / "a" / CIFAR10.folder
    inside = [(f"{CIFAR10.folder}/{file.name}", file.read_bytes()) for file in sorted(folder.iterdir())]
    write_tar(tmp_path / "b" / "cifar-10-python.tar.gz", inside)
    write_tar(tmp_path / "c" / "a-sample-of-mine.tar.gz", inside)
    write_tar(tmp_path / "c" / "another.tar.gz", [("else/x", b"1")])
    opened = [CIFAR10(root) for root in (tmp_path / "a", folder, tmp_path / "b", tmp_path / "c")]
    for other in opened:
        assert len(other) == 18  # six and four times three
        np.testing.assert_array_equal(other.read(8)["image"], opened[0].read(8)["image"])
        assert other.sample_name(8) == "cifar-10-batches-py/data_batch_2/00002"


def test_subset_of_cifar_may_lack_its_last_batches_and_the_full_dataset_not(tmp_path):
    CIFAR10.write_example(tmp_path)
    folder = tmp_path / CIFAR10.folder
    (folder / "data_batch_5").unlink()
    assert len(CIFAR10(tmp_path)) == 15
    meta = pickle.loads((folder / "batches.meta").read_bytes())
    meta = {name.decode(): value for name, value in meta.items()}
    # As many images as the meta file states: not a subset, so the missing fifth batch is an error.
    write_pickled_batch(folder / "batches.meta", {**meta, "num_cases_per_batch": 6})
    with pytest.raises(DatasetError, match="data_batch_5: expected a pickled batch, found no file"):
        CIFAR10(tmp_path)
    write_pickled_batch(folder / "batches.meta", meta)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DatasetError, match="data_batch_3"):
        CIFAR10(tmp_path)


def test_subset_of_cifar_10_opens_as_downloaded(shared_data):
    train, test = (open_dataset("cifar10", shared_data / "cifar10", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1000, 300)
    # data_batch_1 of the official dataset begins with a frog, two trucks, a deer.
    assert [names_of(train)[label] for label in classes_of(train)[:4]] == ["frog", "truck", "truck", "deer"]


def test_cifar_100_uses_the_fine_labels(tmp_path):
    CIFAR100.write_example(tmp_path)
    rows = np.zeros((2, 3072), np.uint8)
    batch = {"data": rows, "fine_labels": [5, 1], "coarse_labels": [0, 0]}
    write_pickled_batch(tmp_path / CIFAR100.folder / "test", batch)
    test = CIFAR100(tmp_path, "test")
    assert classes_of(test) == [5, 1]
    assert names_of(test)[5] == "bed"


def test_cifar_with_a_malicious_pickle_is_refused(tmp_path):
    CIFAR10.write_example(tmp_path)
    trace = tmp_path / "trace"
    evil = b"\x80\x02}U\x04datacos\nmkdir\nU" + bytes([len(str(trace))]) + str(trace).encode() + b"\x85Rs."
    put(tmp_path / CIFAR10.folder / "test_batch", evil)
    problems = CIFAR10.validate(tmp_path)
    assert len(problems) == 1
    assert "test_batch" in problems[0].file and "a call of 'os.mkdir'" in str(problems[0])
    assert not trace.exists()
    pickle.loads(evil, encoding="bytes")  # the usual way to load it
    assert trace.exists()


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}, "Nx3072 uint8"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "2 numbers in 'labels', found 1"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 2]}, "2 numbers in 'labels', found NoneType"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]}, "labels from 0 to 9, found 10"),
    ],
)
def test_batch_of_another_shape_is_refused(tmp_path, batch, words):
    CIFAR10.write_example(tmp_path)
    write_pickled_batch(tmp_path / CIFAR10.folder / "test_batch", batch)
    with pytest.raises(DatasetError, match=f"test_batch: expected .*{words}"):
        CIFAR10(tmp_path, "test")


# --- ImageNet ---------------------------------------------------------------------------------------------------


def test_labels_number_the_sorted_wordnet_ids():
    wnids, names = imagenet_classes()
    assert len(wnids) == len(names) == len(set(names)) == 1000
    assert list(wnids) == sorted(set(wnids))
    # As in all published models: label 0 is tench, 281 tabby, 999 toilet tissue.
    assert (wnids[0], names[0]) == ("n01440764", "tench")
    assert (wnids[281], names[281]) == ("n02123045", "tabby")
    assert (wnids[999], names[999]) == ("n15075141", "toilet tissue")


def test_the_photos_sample_has_the_official_labels_in_order(shared_data):
    photos = open_dataset("imagenet", shared_data / "imagenet_sample")
    lines = (shared_data / "imagenet_sample" / "classes.txt").read_text().splitlines()
    assert [photos.sample_name(index).split("/")[1] for index in range(1000)] == [line.split()[0] for line in lines]
    for index in (0, 281, 999):
        assert int(photos.read(index)["category"]) == index
    # It has no validation split; this is one problem, and the training split opens.
    with pytest.raises(DatasetError, match="or the folder 'val' beside it, found neither"):
        open_dataset("imagenet", shared_data / "imagenet_sample", "val")


def test_tars_read_in_place_equal_the_unpacked_folders(tmp_path):
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    ImageNet.write_example(packed)
    with tarfile.open(packed / TARS["train"]) as train:
        for inner in train:
            stored = train.extractfile(inner)
            assert stored is not None
            with tarfile.open(fileobj=io.BytesIO(stored.read())) as images:
                images.extractall(unpacked / "train" / inner.name.removesuffix(".tar"), filter="data")
    with tarfile.open(packed / TARS["val"]) as val:
        val.extractall(unpacked / "val", filter="data")
    with tarfile.open(packed / f"{DEVKIT}.tar.gz") as devkit:
        devkit.extractall(unpacked, filter="data")
    assert ImageNet.validate(packed) == ImageNet.validate(unpacked) == []
    for split in ("train", "val"):
        one, other = ImageNet(packed, split), ImageNet(unpacked, split)
        assert classes_of(one) == classes_of(other)
        for index in range(len(one)):
            assert one.sample_name(index).removeprefix(TARS[split]) == other.sample_name(index).removeprefix(split)
            np.testing.assert_array_equal(one.read(index)["image"], other.read(index)["image"])


def test_validation_labels_are_mapped_by_wordnet_ids(tmp_path):
    # The class numbers of the kit differ from the labels: number 1 is label 500 here, 2 is 20, 3 is 7.
    wnids = [imagenet_classes()[0][label] for label in (500, 20, 7)]
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3, 4)]
    for form in (DEVKIT, f"{DEVKIT}.tar.gz"):
        root = tmp_path / form
        write_devkit(root / form, wnids, [2, 3, 3, 1])
        for name in names:
            put(root / "val" / name, fake_jpeg(1))
        assert classes_of(ImageNet(root, "val")) == [20, 7, 7, 500]
    # Order inside the tar does not matter: the number in the name does.
    write_tar(tmp_path / DEVKIT / TARS["val"], [(name, fake_jpeg(1)) for name in reversed(names)])
    for name in names:
        (tmp_path / DEVKIT / "val" / name).unlink()
    (tmp_path / DEVKIT / "val").rmdir()
    assert classes_of(ImageNet(tmp_path / DEVKIT, "val")) == [20, 7, 7, 500]


def test_validation_in_class_folders_needs_no_kit(tmp_path):
    wnids = imagenet_classes()[0]
    for label in (999, 3):
        put(tmp_path / "val" / wnids[label] / f"ILSVRC2012_val_{label:08}.JPEG", fake_jpeg(label))
    assert classes_of(ImageNet(tmp_path, "val")) == [3, 999]


def test_subset_of_classes_keeps_the_official_labels(tmp_path):
    wnids, names = imagenet_classes()
    for label in (207, 15):
        put(tmp_path / "train" / wnids[label] / f"{wnids[label]}_1.JPEG", fake_jpeg(label))
    subset = ImageNet(tmp_path)
    assert classes_of(subset) == [15, 207]
    assert names_of(subset) == names


def test_damage_to_imagenet_is_found_in_one_pass(tmp_path):
    wnids = imagenet_classes()[0]
    put(tmp_path / "train" / wnids[0] / "a.JPEG", fake_jpeg(0))
    put(tmp_path / "train" / wnids[0] / "cut.JPEG", fake_jpeg(0)[:-500])
    put(tmp_path / "train" / "n99999999" / "b.JPEG", fake_jpeg(0))
    put(tmp_path / "train" / "cats" / "c.JPEG", fake_jpeg(0))
    (tmp_path / "train" / wnids[1]).mkdir()
    put(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", fake_jpeg(0))
    put(tmp_path / "val" / "ILSVRC2012_val_00000003.JPEG", fake_jpeg(0))
    write_devkit(tmp_path / DEVKIT, list(wnids[:3]), [1, 2, 3])
    messages = [str(problem) for problem in ImageNet.validate(tmp_path)]
    for words in (
        "cut.JPEG: expected a complete image",
        "n99999999: expected the WordNet id of one of the 1000 classes",
        "cats: expected the WordNet id",
        f"{wnids[1]}: expected at least one image",
        "val: expected the 3 images of the development kit's list, found 2, without number 2",
    ):
        assert any(words in message for message in messages), (words, messages)
    assert len(messages) == 5


@pytest.mark.parametrize(
    ("ground_truth", "kit", "words"),
    [
        ("1\n2\n1001\n", True, "ILSVRC2012_ID of one of the 1000 classes, found '?1001"),
        ("1\n2\nthree\n", True, "ILSVRC2012_ID of one of the 1000 classes"),
        ("1\n", False, "the development kit with the classes of the validation images"),
    ],
)
def test_missing_or_damaged_kit_is_reported(tmp_path, ground_truth, kit, words):
    put(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", fake_jpeg(0))
    if kit:
        write_devkit(tmp_path / DEVKIT, list(imagenet_classes()[0][:3]), [1])
        (tmp_path / DEVKIT / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text(ground_truth)
    with pytest.raises(DatasetError, match=words):
        ImageNet(tmp_path, "val")


def test_unusual_images_of_imagenet_become_rgb(tmp_path):
    # Known of ILSVRC2012: 22 training images in CMYK, some in gray, and one PNG (n02105855_2933.JPEG).
    folder = tmp_path / "train" / imagenet_classes()[0][0]
    folder.mkdir(parents=True)
    red = PILImage.new("RGB", (40, 30), (200, 30, 20))
    red.convert("CMYK").save(folder / "1-cmyk.JPEG", "JPEG", quality=95)
    red.convert("L").save(folder / "2-gray.JPEG", "JPEG", quality=95)
    red.save(folder / "3-png.JPEG", "PNG")
    images = [ImageNet(tmp_path).read(index)["image"] for index in range(3)]
    assert all(image.shape == (30, 40, 3) and image.dtype == np.uint8 for image in images)
    np.testing.assert_allclose(images[0].mean((0, 1)), (200, 30, 20), atol=6)
    assert np.ptp(images[1].mean((0, 1))) == 0
    np.testing.assert_array_equal(images[2][0, 0], (200, 30, 20))


def test_spawned_workers_read_the_same_from_tars(tmp_path):
    import multiprocessing

    ImageNet.write_example(tmp_path)
    photos = ImageNet(tmp_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(photos.read, [0, 8])
    for index, sample in zip([0, 8], elsewhere, strict=True):
        np.testing.assert_array_equal(sample["image"], photos.read(index)["image"])


def test_the_loaders_import_no_torch():
    modules = ", ".join(
        f"densevision.datasets.classification.{name}" for name in ("imagenet", "imagenet_shards", "mnist", "cifar")
    )
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- shards -----------------------------------------------------------------------------------------------------


def shard(*samples: tuple[str, str, bytes]) -> list[tuple[str, bytes]]:
    """An image for each key, and a file with its class."""
    return [file for key, part, label in samples for file in ((f"{key}.jpg", fake_jpeg(1)), (f"{key}.{part}", label))]


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    write_tar(tmp_path / "imagenet1k-train-0001.tar", shard(("c", "cls", b"3")))
    write_tar(
        tmp_path / "imagenet1k-train-0000.tar",
        shard(("b", "cls", b"2\n"), ("n01/a.v2", "json", b""), ("a", "json", b'{"label": 999}'))[:2]
        + shard(("a", "json", b'{"label": 999, "width": 5}')),
    )
    write_tar(tmp_path / "imagenet1k-validation-00.tar", shard(("d", "cls", b"4")))
    write_tar(tmp_path / "imagenet1k-test-00.tar", shard(("e", "cls", b"5")))
    train, val = ImageNetShards(tmp_path), ImageNetShards(tmp_path, "val")
    assert classes_of(train) == [2, 999, 3]
    assert [train.sample_name(index) for index in range(3)] == [
        "imagenet1k-train-0000.tar/b.jpg",
        "imagenet1k-train-0000.tar/a.jpg",
        "imagenet1k-train-0001.tar/c.jpg",
    ]
    assert classes_of(val) == [4]
    assert names_of(train) == imagenet_classes()[1]


def test_key_ends_at_the_first_dot_as_in_webdataset(tmp_path):
    files = [("n01/a.cls", b"7"), ("n02/a.cls", b"8"), ("n02/a.jpg", fake_jpeg(1)), ("n01/a.jpg", fake_jpeg(2))]
    write_tar(tmp_path / "x-train-0.tar", files)
    write_tar(tmp_path / "x-val-0.tar", [("b.seg.png", b"?"), ("b.JPG", fake_jpeg(1)), ("b.cls", b"1")])
    assert classes_of(ImageNetShards(tmp_path)) == [7, 8]
    assert classes_of(ImageNetShards(tmp_path, "val")) == [1]


def test_damage_to_shards_is_found_in_one_pass(tmp_path):
    samples = shard(("good", "cls", b"1"), ("far", "cls", b"1000"), ("word", "cls", b"cat"))
    write_tar(tmp_path / "i-train-0000.tar", [*samples, ("blind.cls", b"1"), ("nameless.jpg", fake_jpeg(1))])
    write_tar(tmp_path / "i-train-0002.tar", shard(("good", "cls", b"1")))
    write_tar(tmp_path / "i-train-0003.tar", shard(("good", "cls", b"1")))
    cut = (tmp_path / "i-train-0003.tar").read_bytes()
    (tmp_path / "i-train-0003.tar").write_bytes(cut[:900])
    write_tar(tmp_path / "i-val-0000.tar", shard(("good", "cls", b"1")))
    messages = [str(problem) for problem in ImageNetShards.validate(tmp_path)]
    for words in (
        "i-train-0001.tar: expected every shard up to 'i-train-0003.tar', found no file",
        "0000.tar/far: expected a class from 0 to 999",
        "0000.tar/word: expected a class from 0 to 999",
        "0000.tar/nameless: expected a class from 0 to 999",
        "0000.tar/blind: expected an image",
        "i-train-0003.tar: expected a complete tar archive",
    ):
        assert any(words in message for message in messages), (words, messages)
    assert len(messages) == 6


# --- class folders ----------------------------------------------------------------------------------------------


def fill(root, names, suffix="jpg"):
    for number, name in enumerate(names):
        put(root / f"{name}.{suffix}", fake_jpeg(number % 4, (32, 32)))


def test_classes_are_the_folders_of_the_training_split(tmp_path):
    fill(tmp_path / "train", ["b/1", "a/1", "c/deep/er/1", "c/2"])
    fill(tmp_path / "val", ["c/1", "a/1"])
    put(tmp_path / "train" / "a" / "._1.jpg", b"what macOS leaves behind")
    put(tmp_path / "train" / "a" / "notes.txt", b"no image")
    put(tmp_path / "train" / ".cache" / "x.jpg", b"no class")
    train, val = (open_dataset("class-folders", tmp_path, split) for split in ("train", "val"))
    assert names_of(train) == names_of(val) == ("a", "b", "c")
    assert classes_of(train) == [0, 1, 2, 2]
    assert train.sample_name(3) == "train/c/deep/er/1.jpg"
    assert classes_of(val) == [0, 2]
    # Without test/, val/ serves as both.
    assert [open_dataset("class-folders", tmp_path, "test").sample_name(index) for index in range(2)] == [
        "val/a/1.jpg",
        "val/c/1.jpg",
    ]


def test_test_only_and_empty_classes_are_problems(tmp_path):
    fill(tmp_path / "train", ["a/1", "b/1"])
    (tmp_path / "train" / "empty").mkdir()
    fill(tmp_path / "test", ["a/1", "new/1", "new/2"])
    messages = [str(problem) for problem in ClassFolders.validate(tmp_path)]
    assert len(messages) == 2
    assert "train/empty: expected at least one image, found none." in messages[0]
    assert "test/new: expected one of the 3 classes of the training split, found another class." in messages[1]


def test_one_image_in_ten_is_for_testing_and_adding_files_moves_none(tmp_path):
    fill(tmp_path, [f"{name}/{number:03}" for name in ("cat", "dog") for number in range(150)])
    train, test = ClassFolders(tmp_path), ClassFolders(tmp_path, "test")
    held_back = {test.sample_name(index) for index in range(len(test))}
    assert len(train) + len(test) == 300
    assert 15 <= len(test) <= 45  # 30 expected, sigma 5.2
    assert held_back.isdisjoint(train.sample_name(index) for index in range(len(train)))
    fill(tmp_path, ["bird/later", "cat/later"])
    grown = ClassFolders(tmp_path, "test")
    assert {grown.sample_name(index) for index in range(len(grown))} - held_back <= {"bird/later.jpg", "cat/later.jpg"}


def test_lists_override_the_hash_and_missing_files_are_reported(tmp_path):
    fill(tmp_path, ["cat/1", "cat/2", "dog/1"])
    (tmp_path / "train.txt").write_text("dog/1.jpg\ncat/2.jpg\ncat/9.jpg\n")
    (tmp_path / "val.txt").write_text("cat/1.jpg\n")
    assert classes_of(ClassFolders(tmp_path, "val")) == [0]
    assert ClassFolders(tmp_path).sample_name(0) == "dog/1.jpg"
    problems = ClassFolders.validate(tmp_path)
    assert [re.sub(".*/cat", "cat", str(problem)) for problem in problems] == [
        "cat/9.jpg: expected an image, found no file."
    ]
