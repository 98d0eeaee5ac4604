"""CIFAR's binary records, made by hand: labels first, then all red, all green, all blue pixels."""

import gzip
import pickle

import numpy as np
import pytest

from jdd import data
from jdd.errors import UserError

CIFAR10_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def pixel(channel, row, column, image):
    return (100 * channel + 3 * row + column + image) % 256


def record(labels, image):
    planes = [
        pixel(channel, row, column, image)
        for channel in range(3)
        for row in range(32)
        for column in range(32)
    ]
    return bytes([*labels, *planes])


def write_cifar10(folder, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(CIFAR10_FILES):
        content = record([i], 2 * i) + record([9 - i], 2 * i + 1)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "folder", ["", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"]
)
@pytest.mark.parametrize("packed", [True, False])
def test_cifar10(tmp_path, folder, packed):
    write_cifar10(tmp_path / folder, packed)
    cifar = data.load("cifar10", tmp_path)
    assert cifar.train.images.shape == (10, 32, 32, 3)
    np.testing.assert_array_equal(cifar.train.labels, [0, 9, 1, 8, 2, 7, 3, 6, 4, 5])
    np.testing.assert_array_equal(cifar.test.labels, [5, 4])
    for channel, row, column, image in [(0, 0, 0, 0), (1, 5, 20, 3), (2, 31, 7, 9)]:
        value = pixel(channel, row, column, image)
        assert cifar.train.images[image, row, column, channel] == value
    assert cifar.test.images[1, 2, 30, 1] == pixel(1, 2, 30, 11)
    np.testing.assert_allclose(cifar.preprocess.std, [0.2023, 0.1994, 0.2010], rtol=1e-6)


def test_cifar100_takes_the_fine_label(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(record([4, 99], 0) + record([1, 0], 1))
    (folder / "test.bin").write_bytes(record([19, 55], 2))
    cifar = data.load("cifar100", tmp_path)
    np.testing.assert_array_equal(cifar.train.labels, [99, 0])
    np.testing.assert_array_equal(cifar.test.labels, [55])
    assert cifar.train.images[1, 10, 11, 2] == pixel(2, 10, 11, 1)
    assert (cifar.class_names[0], cifar.class_names[99]) == ("apple", "worm")
    assert len(set(cifar.class_names)) == 100
    assert list(cifar.class_names) == sorted(cifar.class_names)  # as the original's are


def test_zca_of_a_real_reader(tmp_path, monkeypatch):
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "cache"))
    write_cifar10(tmp_path)
    cifar = data.load("cifar10", tmp_path, image_size=8, preprocessing="zca")
    back = cifar.preprocess.invert(cifar.preprocess(cifar.test.images))
    np.testing.assert_allclose(back, cifar.test.images / 255.0, atol=1e-5)


def test_a_cut_file(tmp_path):
    path = write_cifar10(tmp_path) / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data_batch_3.bin: 6145 bytes .* 3073-byte record"):
        data.load("cifar10", tmp_path)


def test_an_empty_file(tmp_path):
    (write_cifar10(tmp_path) / "test_batch.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"test_batch.bin: 0 bytes"):
        data.load("cifar10", tmp_path)


def test_a_label_out_of_range(tmp_path):
    (write_cifar10(tmp_path) / "data_batch_1.bin").write_bytes(record([10], 0))
    with pytest.raises(UserError, match="label 10 is outside 0 to 9"):
        data.load("cifar10", tmp_path)


def test_a_missing_file(tmp_path):
    (write_cifar10(tmp_path) / "data_batch_4.bin").unlink()
    with pytest.raises(UserError, match=r"missing data_batch_4.bin"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_pickles_are_refused_unopened(tmp_path, name, folder, inside):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    place = tmp_path / folder
    place.mkdir()
    for file in ("data_batch_1", "train"):
        (place / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="get the binary version"):
        data.load(name, place if inside else tmp_path)
