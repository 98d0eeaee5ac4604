"""`load`: digits against scikit-learn, sizes, and the messages for what is not there."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jdd import data
from jdd.data import registry
from jdd.errors import UserError


def test_digits_are_scikit_learns():
    digits = data.load("digits")
    raw = load_digits()
    train, test, train_labels, test_labels = train_test_split(
        raw.images, raw.target, test_size=360, stratify=raw.target, random_state=0
    )
    for split, images, labels in (
        (digits.train, train, train_labels),
        (digits.test, test, test_labels),
    ):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        np.testing.assert_allclose(split.images[..., 0] / 255, images / 16, atol=0.5 / 255)
        np.testing.assert_array_equal(split.labels, labels)
    assert digits.image_shape == (8, 8, 1)
    batch = np.asarray(digits.preprocess(digits.train.images))
    assert abs(batch.mean()) < 1e-5
    assert abs(batch.std() - 1) < 1e-5


def test_digits_need_no_directory(tmp_path):
    assert len(data.load("digits").test) == len(data.load("digits", tmp_path).test) == 360
    with pytest.raises(UserError, match="absent: it does not exist"):
        data.load("digits", tmp_path / "absent")


def test_resized_bilinearly():
    digits = data.load("digits", image_size=16)
    small = data.load("digits").train.images[0, ..., 0].astype(float)
    large = digits.train.images[0, ..., 0].astype(float)
    assert digits.image_shape == (16, 16, 1)
    # Twice the size: each inner pixel is 3/4 and 1/4 of its neighbours, along both axes.
    rows = 0.75 * small[3] + 0.25 * small[4]
    np.testing.assert_allclose(large[7, 7], 0.75 * rows[3] + 0.25 * rows[4], atol=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "minst"}, "did you mean 'mnist'"),
        ({"name": "digits", "preprocessing": "whiten"}, "`preprocessing` 'whiten'"),
        ({"name": "digits", "preprocessing": "zca"}, "RGB"),
        ({"name": "digits", "image_size": 0}, "`image_size` 0: a whole number of pixels"),
        ({"name": "digits", "image_size": 8.5}, "`image_size` 8.5"),
        ({"name": "digits", "image_size": 100_000}, "`image_size` 100000: .* from 1 to 4096"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UserError, match=words) as raised:
        data.load(**arguments)
    assert "\n" not in str(raised.value)


IMAGES, LABELS = np.zeros((4, 6, 6, 1), np.uint8), np.arange(4, dtype=np.int32) % 2
SPLIT = data.Split(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("read", "names", "words"),
    [
        (lambda: 1 // 0, "ab", r"plugin .*test_registry\.py, line \d+: ZeroDivisionError"),
        (lambda: None, "ab", r"plugin .*test_registry\.py: read\(\) has to return two Splits"),
        (lambda: ((IMAGES, LABELS), (IMAGES, LABELS)), "ab", "has to return two Splits"),
        (lambda: (SPLIT, data.Split([[0]], [0])), "ab", "has to return two Splits of NumPy"),
        (lambda: (SPLIT, SPLIT, SPLIT), "ab", "has to return two Splits"),
        (lambda: (data.Split(IMAGES, LABELS.astype(str)), SPLIT), "ab", "labels are <U"),
        (lambda: (SPLIT, SPLIT), ("a", "b\n"), r"class name 'b\\n' is no text on one line"),
        (lambda: (SPLIT, SPLIT), (0, 1), "class name 0 is no text on one line"),
    ],
)
def test_what_is_wrong_with_a_registered_dataset_is_one_line(monkeypatch, read, names, words):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    data.register("own", read, names)
    assert data.traits("own") is None or read() == (SPLIT, SPLIT)
    with pytest.raises(UserError, match=words) as raised:
        data.load("own")
    assert "\n" not in str(raised.value)


def test_a_directory_that_is_none(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        data.load("cifar10", tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        data.load("cifar10", tmp_path / "file")


@pytest.mark.parametrize("name", [n for n in data.names() if n != "digits"])
def test_nothing_there_lists_where_it_looked(tmp_path, name):
    with pytest.raises(UserError, match="it is empty") as raised:
        data.load(name, tmp_path)
    message = str(raised.value)
    assert f"{name}/" in message
    assert ("TFDS" in message) == (name not in ("mhist", "tiny_imagenet"))
    assert "\n" not in message


def test_mhist_without_a_directory(monkeypatch):
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    with pytest.raises(UserError, match="cannot be downloaded"):
        data.load("mhist")


def test_importing_it_is_light():
    heavy = ["tensorflow_datasets", "tensorflow", "sklearn", "scipy", "PIL"]
    code = f"import sys, jdd.data; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
