"""IDX files: all of MNIST by its published checksums, and files written here byte by byte."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from jdd import data
from jdd.errors import UserError

STEMS = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")


def idx(array):
    return struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def write_set(folder, train=12, test=5, packed=True, side=28):
    """A set whose image i has every pixel i, and label i modulo 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, n in zip(STEMS, (train, test), strict=True):
        images = np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, side, side), np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        label_stem = stem.replace("images-idx3", "labels-idx1")
        for name, array in ((stem, images), (label_stem, labels)):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


def test_mnist_is_mnist():
    directory = os.environ.get("JDD_DATA_DIR")
    if not directory or not any(Path(directory).glob("mnist/train-images*")):
        pytest.skip("MNIST's IDX files are not in JDD_DATA_DIR")
    mnist = data.load("mnist")
    sums = {
        "6bbc9ace898e44ae57da46a324031adb": (0x803, mnist.train.images[..., 0]),
        "a25bea736e30d166cdddb491f175f624": (0x801, mnist.train.labels),
        "2646ac647ad5339dbf082846283269ea": (0x803, mnist.test.images[..., 0]),
        "27ae3e4e09519cfbb04c329615203637": (0x801, mnist.test.labels),
    }
    for md5, (magic, array) in sums.items():
        header = struct.pack(f">I{array.ndim}I", magic, *array.shape)
        content = header + array.astype(np.uint8).tobytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5
    assert mnist.train.images.shape == (60000, 28, 28, 1)
    assert mnist.train.labels.dtype == np.int32
    # The constants of the published code are MNIST's own, so the preprocessed set has 0 and 1.
    batch = np.asarray(mnist.preprocess(mnist.train.images))
    assert abs(batch.mean()) < 1e-3
    assert abs(batch.std() - 1) < 1e-3


@pytest.mark.parametrize("folder", ["", "mnist", "mnist/raw", "MNIST/raw", "raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_layouts(tmp_path, folder, packed):
    write_set(tmp_path / folder, packed=packed)
    mnist = data.load("mnist", tmp_path)
    np.testing.assert_array_equal(mnist.train.images[:, 3, 4, 0], np.arange(12))
    np.testing.assert_array_equal(mnist.test.labels, np.arange(5))
    assert mnist.class_names == tuple("0123456789")
    assert mnist.num_classes == 10


def test_each_set_is_read_from_its_own_folder(tmp_path, monkeypatch):
    write_set(tmp_path / "MNIST/raw", train=12)
    write_set(tmp_path / "FashionMNIST/raw", train=15)
    monkeypatch.setenv("JDD_DATA_DIR", str(tmp_path))
    assert len(data.load("mnist").train) == 12
    fashion = data.load("fashion_mnist")
    assert len(fashion.train) == 15
    np.testing.assert_allclose(fashion.preprocess.mean, [0.2861])
    assert fashion.class_names[9] == "Ankle boot"


def test_the_argument_wins_over_the_environment(tmp_path, monkeypatch):
    write_set(tmp_path / "a", train=12)
    write_set(tmp_path / "b", train=15)
    monkeypatch.setenv("JDD_DATA_DIR", str(tmp_path / "a"))
    assert len(data.load("mnist", tmp_path / "b").train) == 15


def test_mnist_does_not_pass_for_fashion_mnist(tmp_path):
    write_set(tmp_path, packed=False)
    first = np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 0, 0], np.uint8)  # MNIST's first labels
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(first))
    assert len(data.load("mnist", tmp_path).train) == 12
    with pytest.raises(UserError, match="these files are mnist, not fashion_mnist"):
        data.load("fashion_mnist", tmp_path)


def damage_magic(folder):
    path = folder / STEMS[0]
    path.write_bytes(b"\x89PNG" + path.read_bytes()[4:])


def damage_length(folder):
    path = folder / STEMS[0]
    path.write_bytes(path.read_bytes()[:-100])


def damage_header(folder):
    (folder / STEMS[0]).write_bytes(b"\0\0\x08")


def damage_gzip(folder):
    path = folder / STEMS[0]
    (folder / f"{STEMS[0]}.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()


def not_gzip(folder):
    path = folder / STEMS[0]
    path.rename(folder / f"{STEMS[0]}.gz")


def damage_count(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(11, np.uint8)))


def damage_labels(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(12, 77, np.uint8)))


def remove_file(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()


def other_size(folder):
    (folder / STEMS[1]).write_bytes(idx(np.zeros((5, 8, 8), np.uint8)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_magic, "magic number 0x89504e47"),
        (damage_length, "9324 bytes, but its header says 12×28×28, which is 9424"),
        (damage_header, "too short"),
        (damage_gzip, "not a complete gzip file"),
        (not_gzip, "not a complete gzip file"),
        (damage_count, "12 images, but 11 labels"),
        (damage_labels, "label 77 is outside 0 to 9"),
        (remove_file, "missing t10k-labels-idx1-ubyte"),
        (other_size, r"images of \(8, 8\)"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, damage, words):
    damage(write_set(tmp_path, packed=False))
    with pytest.raises(UserError, match=words) as raised:
        data.load("mnist", tmp_path)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
