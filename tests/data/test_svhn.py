"""SVHN's MATLAB files, written small: images last axis, and label 10 for the digit 0."""

import io
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from jdd import data
from jdd.data import mat
from jdd.errors import UserError


def write_set(folder, labels=(1, 10, 9)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(folder / name, {"X": images, "y": np.array(labels, np.uint8)[:, None]})
    return images


@pytest.mark.parametrize("folder", ["", "svhn", "SVHN"])
def test_svhn(tmp_path, folder):
    images = write_set(tmp_path / folder)
    svhn = data.load("svhn", tmp_path)
    np.testing.assert_array_equal(svhn.train.labels, [1, 0, 9])
    np.testing.assert_array_equal(svhn.test.images[2], images[..., 2])
    np.testing.assert_allclose(svhn.preprocess.mean, [0.4377, 0.4438, 0.4728], rtol=1e-6)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_arrays_are_those_that_were_written(compressed, dtype):
    rng = np.random.default_rng(1)
    values = {"X": rng.integers(0, 99, (3, 4, 2)).astype(dtype), "other": np.arange(3.0)}
    values["y"] = np.array([[1], [2]], dtype)
    file = io.BytesIO()
    savemat(file, {**values, "text": "a word", "cell": {"a": 1.0}}, do_compression=compressed)
    loaded = mat.read_arrays(file.getvalue(), ("X", "y"))
    assert loaded.keys() == {"X", "y"}
    for name, array in loaded.items():
        np.testing.assert_array_equal(array, values[name])
    for name in ("absent", "text", "cell"):
        with pytest.raises(ValueError, match="no"):
            mat.read_arrays(file.getvalue(), (name,))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_changed_file_raises_nothing_else(compressed):
    file = io.BytesIO()
    images = np.zeros((4, 4, 3, 2), np.uint8)
    savemat(file, {"X": images, "y": np.array([[1], [2]])}, do_compression=compressed)
    whole, rng = bytearray(file.getvalue()), np.random.default_rng(2)
    refused = 0
    for _ in range(4000):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        changed = changed[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.2 else changed
        try:
            mat.read_arrays(bytes(changed), ("X", "y"))
        except ValueError:
            refused += 1
    assert refused > 400


def test_a_file_that_would_unpack_to_more_than_memory_is_refused():
    header = b"MATLAB".ljust(126) + b"IM"
    tag = np.array([14, 2**31], "<u4").tobytes()
    packed = zlib.compress(tag + bytes(10**6))
    content = header[:124] + b"\x00\x01IM" + np.array([15, len(packed)], "<u4").tobytes() + packed
    with pytest.raises(ValueError, match="too large"):
        mat.read_arrays(content, ("X",))


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_cut_file(tmp_path, size):
    write_set(tmp_path)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"test_32x32.mat: not a complete SVHN file"):
        data.load("svhn", tmp_path)


def test_a_label_out_of_range(tmp_path):
    write_set(tmp_path, labels=(1, 11))
    with pytest.raises(UserError, match="label 11 is outside"):
        data.load("svhn", tmp_path)


def test_a_missing_file(tmp_path):
    write_set(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(UserError, match=r"missing test_32x32.mat"):
        data.load("svhn", tmp_path)
