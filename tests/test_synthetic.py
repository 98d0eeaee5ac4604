"""Synthetic sets: stored and loaded bit for bit, refused where they do not fit, started rightly."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import SyntheticSet, data, synthetic
from jdd.data import Dataset, Split
from jdd.errors import UserError
from jdd.recipe import Recipe
from jdd.synthetic import SetInfo


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def a_set(dataset, labels=None, rate=0.02):
    images, hard = synthetic.from_noise(dataset, 2, jax.random.key(0))
    info = SetInfo(
        dataset=dataset.name,
        class_names=dataset.class_names,
        preprocessing=dataset.preprocess.spec(),
        ipc=2,
        method="mtt",
        settings={"syn_steps": 3},
        seed=4,
        recipe=Recipe(options={"width": 8}, epochs=3),
    )
    rate = None if rate is None else jnp.float32(rate)
    return SyntheticSet(images, hard if labels is None else labels, rate, info)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("rate", [None, 0.1])
def test_a_set_is_loaded_as_it_was_saved(digits, tmp_path, soft, rate):
    logits = jax.random.normal(jax.random.key(1), (20, 10)) if soft else None
    made = a_set(digits, logits, rate)
    assert made.save(tmp_path / "run") == tmp_path / "run" / "synthetic"
    for place in (tmp_path / "run", tmp_path / "run" / "synthetic"):
        loaded = SyntheticSet.load(place, digits)
        assert jax.tree.structure(loaded) == jax.tree.structure(made)
        for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(made), strict=True):
            assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert loaded.info == made.info and loaded.info.recipe.options == {"width": 8}
    np.testing.assert_array_equal(
        loaded.hard_labels(), np.argmax(logits, 1) if soft else np.repeat(np.arange(10), 2)
    )


def test_a_set_goes_through_jit_as_it_is(digits):
    made = a_set(digits)
    doubled = jax.jit(lambda s: jax.tree.map(lambda leaf: 2 * leaf, s))(made)
    np.testing.assert_array_equal(doubled.images, 2 * made.images)
    assert doubled.info == made.info and hash(doubled.info) == hash(made.info)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "mnist"}, "is a set of 'mnist', not of 'digits': use --dataset mnist"),
        ({"mean": [0.5]}, r"other preprocessing: stored with mean \[0.5\], asked with"),
        ({"kind": "zca"}, "stored with zca, asked with standard"),
        ({"image_shape": [28, 28, 1]}, "stored for 28×28×1 images, asked for 8×8×1"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(digits, tmp_path, change, words):
    made = a_set(digits)
    if "dataset" in change:
        info = dataclasses.replace(made.info, **change)
    else:
        info = dataclasses.replace(made.info, preprocessing={**made.info.preprocessing, **change})
    dataclasses.replace(made, info=info).save(tmp_path)
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path, digits)
    assert SyntheticSet.load(tmp_path).info == info


def test_another_version_and_another_checkpoint_are_refused(digits, tmp_path):
    folder = a_set(digits).save(tmp_path)
    file = folder / "info" / "metadata"
    header = json.loads(file.read_text())
    for change, words in [
        ({"format_version": 2}, "format version 2"),
        ({"set": None}, "not of a synthetic set"),
        ({"set": {"dataset": "digits"}}, "damaged"),
        ({"set": {**header["set"], "recipe": {"colour": 1}}}, "damaged"),
    ]:
        file.write_text(json.dumps({**header, **change}))
        with pytest.raises(UserError, match=words):
            SyntheticSet.load(tmp_path)


def test_a_set_that_was_being_replaced_is_found(digits, tmp_path):
    """What is left where a process is killed between the two renames of a replacement."""
    folder = a_set(digits).save(tmp_path)
    folder.rename(tmp_path / ".synthetic.old")
    shutil.copytree(tmp_path / ".synthetic.old", tmp_path / ".synthetic.new")
    for place in (tmp_path, folder):
        assert float(SyntheticSet.load(place).learning_rate) == pytest.approx(0.02)
    a_set(digits, rate=0.5).save(tmp_path)
    assert float(SyntheticSet.load(tmp_path).learning_rate) == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["synthetic"]


def test_nothing_there_is_said(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError):
            SyntheticSet.load(place)


@pytest.mark.parametrize("ipc", [1, 7])
def test_real_images_are_of_their_classes_and_differ(digits, ipc):
    images, labels = synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), ipc))
    assert images.dtype == jnp.float32 and images.shape == (10 * ipc, 8, 8, 1)
    pixels = np.rint(np.asarray(digits.preprocess.invert(images)) * 255).astype(np.uint8)
    chosen = []
    for image, label in zip(pixels, np.asarray(labels), strict=True):
        equal = (digits.train.images == image).all(axis=(1, 2, 3)) & (digits.train.labels == label)
        assert equal.any()
        chosen.append(int(np.argmax(equal)))
    assert len(set(chosen)) == len(chosen)
    again, _ = synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(1))
    assert not np.array_equal(images, again)


def test_noise_is_standard_normal(digits):
    images, labels = synthetic.from_noise(digits, 50, jax.random.key(0))
    assert abs(float(images.mean())) < 0.02 and abs(float(images.std()) - 1) < 0.02
    np.testing.assert_array_equal(np.bincount(np.asarray(labels)), [50] * 10)


def test_images_per_class_have_bounds(digits):
    for ipc in (0, -3):
        with pytest.raises(UserError, match=f"--ipc {ipc}: at least 1"):
            synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(0))
        with pytest.raises(UserError, match=f"--ipc {ipc}: at least 1"):
            synthetic.from_noise(digits, ipc, jax.random.key(0))
    few = np.flatnonzero(digits.train.labels != 3).tolist()
    few += np.flatnonzero(digits.train.labels == 3)[:4].tolist()
    split = Split(digits.train.images[few], digits.train.labels[few])
    part = Dataset("digits", split, digits.test, digits.class_names, digits.preprocess)
    assert len(synthetic.from_real(split, part, 4, np.random.default_rng(0))[1]) == 40
    with pytest.raises(UserError, match="--ipc 5 is more than class '3' holds: at most 4"):
        synthetic.from_real(split, part, 5, np.random.default_rng(0))
