"""SVHN's MATLAB files, written small: images last axis, and label 10 for the digit 0."""

import numpy as np
import pytest
from scipy.io import savemat

from jdd import data
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
