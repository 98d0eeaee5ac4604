"""A user's own arrays in an `.npz` file."""

import numpy as np
import pytest

from jdd import data, files
from jdd.errors import SettingError, UserError


def arrays(**more):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)
    return {"images": images, "labels": np.arange(30) % 3, **more}


@pytest.fixture
def write(tmp_path):
    def save(**contents):
        np.savez(tmp_path / "mine.npz", **contents)
        return f"arrays:{tmp_path / 'mine.npz'}"

    return save


def test_arrays_with_a_test_split_of_their_own(write, tmp_path):
    test = {"test_images": np.zeros((3, 5, 4, 3), np.uint8), "test_labels": np.uint8([2, 1, 0])}
    values = arrays(**test, class_names=["ant", "bee", "cow"])
    name = write(**values)
    loaded = data.load(name)
    assert loaded.class_names == ("ant", "bee", "cow") and loaded.image_shape == (5, 4, 3)
    np.testing.assert_array_equal(loaded.train.images, values["images"])
    np.testing.assert_array_equal(loaded.train.labels, values["labels"])
    assert loaded.test.labels.tolist() == [2, 1, 0] and loaded.test.labels.dtype == np.int32
    pixels = values["images"].reshape(-1, 3) / 255
    np.testing.assert_allclose(loaded.preprocess.mean, pixels.mean(0), rtol=1e-5)
    assert data.short_name(name) == "arrays-mine"
    assert len(data.load("arrays:mine.npz", tmp_path).train) == 30


def test_without_one_it_is_drawn_by_class_and_classes_are_numbers(write):
    loaded = data.load(write(**arrays(images=arrays()["images"][..., 0])))
    assert loaded.image_shape == (5, 4, 1) and loaded.class_names == ("0", "1", "2")
    assert np.bincount(loaded.test.labels).tolist() == [2, 2, 2] and len(loaded.train) == 24


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "no array 'images' in it, but labels"),
        ({"images": np.zeros((30, 5, 4, 3))}, r"images are float64 \(30, 5, 4, 3\): uint8"),
        ({"images": np.zeros((30, 5, 4))}, r"images are float64 \(30, 5, 4\): uint8"),
        ({"images": np.zeros((30, 5, 4, 2), np.uint8)}, "uint8"),
        ({"labels": np.zeros(30)}, "labels are float64"),
        ({"labels": np.arange(29)}, "30 images, but 29 labels"),
        ({"labels": -np.ones(30, int)}, "classes count from 0"),
        ({"test_images": np.zeros((3, 5, 4, 3), np.uint8)}, "go together"),
        (
            {"test_images": np.zeros((1, 6, 4, 3), np.uint8), "test_labels": np.array([0])},
            "test_images",
        ),
        ({"class_names": ["ant", "b\u200be", "cow"]}, r"class name 'b\\u200be' is no text on one"),
        ({"class_names": ["ant", "bee"]}, "label 2 is outside 0 to 1"),
        ({"labels": np.array([{}] * 30)}, "not an .npz of plain arrays"),
    ],
)
def test_what_is_wrong_is_said(write, change, words):
    contents = {name: array for name, array in arrays(**change).items() if array is not None}
    with pytest.raises(UserError, match=words) as raised:
        data.load(write(**contents))
    assert "\n" not in str(raised.value)


def test_a_file_may_be_larger_than_a_log_but_has_a_bound(write, monkeypatch):
    name = write(**arrays())
    monkeypatch.setattr(files.read_bytes, "__defaults__", (100,))  # of what jdd writes itself
    assert len(data.load(name).train) == 24
    monkeypatch.setattr("jdd.data.arrays._MOST_BYTES", 100)
    with pytest.raises(UserError, match=r"mine\.npz"):
        data.load(name)


def test_a_damaged_file_is_said(write, tmp_path):
    name = write(**arrays())
    whole = (tmp_path / "mine.npz").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "mine.npz").write_bytes(damaged[: rng.integers(len(whole))])
        with pytest.raises(UserError, match=r"mine\.npz"):
            data.load(name)


def test_a_path_without_its_kind_is_answered_with_it(tmp_path):
    with pytest.raises(SettingError, match=f"a directory of images is folder:{tmp_path}"):
        data.load(str(tmp_path))
    with pytest.raises(SettingError, match=r"a file of arrays is arrays:x\.npz"):
        data.load("x.npz")
