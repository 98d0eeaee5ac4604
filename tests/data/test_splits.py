"""Stratified parts and class-wise sampling, by counting."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, preprocessing
from jdd.data import Split
from jdd.errors import UserError

SIZES = (50, 30, 20, 3)


def split_of(sizes=SIZES, seed=0):
    """Image i has pixel values i in both of its pixels, so that it can be told from any other."""
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    np.random.default_rng(seed).shuffle(labels)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 1, 2, 1), np.uint8
    )
    return Split(images, labels)


def members(split):
    return split.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("amount", [0.1, 10])
def test_hold_out_is_stratified_and_divides(amount):
    split = split_of((50, 30, 20))
    train, validation = data.hold_out(split, amount, seed=0)
    np.testing.assert_array_equal(np.bincount(validation.labels), [5, 3, 2])
    assert sorted(members(train) + members(validation)) == members(split)
    np.testing.assert_array_equal(split.labels[members(validation)], validation.labels)


def test_hold_out_depends_on_the_seed_alone():
    first, second, other = (members(data.hold_out(split_of(), 20, s)[1]) for s in (3, 3, 4))
    assert first == second != other


@pytest.mark.parametrize("count", [4, 17, 99])
def test_hold_out_leaves_one_of_each_class(count):
    train, validation = data.hold_out(split_of(), count, seed=0)
    assert len(validation) == count
    assert np.bincount(validation.labels, minlength=4).min() >= 1
    assert np.bincount(train.labels, minlength=4).min() >= 1


@pytest.mark.parametrize("amount", [0, 0.0, 1.0, 100, -3])
def test_hold_out_refuses_what_leaves_nothing(amount):
    with pytest.raises(UserError, match=rf"validation fraction {amount}:|hold out {amount} of 103"):
        data.hold_out(split_of(), amount, seed=0)


def test_subset():
    split = split_of()
    taken = data.subset(split, 20, seed=1)
    # Of each 20/103: 9.7, 5.8, 3.9 and 0.6. One of the last must be in it, which leaves 19 to the
    # rest; rounded down they have 17, and the two left over go where most was cut off.
    np.testing.assert_array_equal(np.bincount(taken.labels), [9, 6, 4, 1])
    assert len(taken) == 20
    assert len(set(members(taken))) == 20
    np.testing.assert_array_equal(split.labels[members(taken)], taken.labels)
    assert members(data.subset(split, 103, seed=0)) == members(split)
    for count in (0, 104):
        with pytest.raises(UserError, match=f"`real_images` {count}: from 1 to"):
            data.subset(split, count, seed=0)


@pytest.fixture
def real():
    split = split_of()
    return split, data.to_device(split, preprocessing.fit("standard", split.images), 5)


def test_the_index_lists_each_class(real):
    split, on_device = real
    np.testing.assert_array_equal(on_device.index.counts, [*SIZES, 0])
    assert on_device.index.positions.shape == (5, 50)
    for label, size in enumerate(SIZES):
        row = np.asarray(on_device.index.positions[label])
        assert set(row.tolist()) == set(np.flatnonzero(split.labels == label).tolist())
        assert len(set(row[:size].tolist())) == size
    assert on_device.images.dtype == jnp.uint8
    assert on_device.num_classes == 5


def test_sampling_without_replacement_under_vmap_and_jit(real):
    split, on_device = real

    @jax.jit
    def draw(key, on_device):
        keys = jax.random.split(key, 3)
        return jax.vmap(lambda k, c: on_device.sample_class(k, c, 20))(keys, jnp.arange(3))

    images = np.asarray(draw(jax.random.key(0), on_device))
    assert images.shape == (3, 20, 1, 2, 1)
    pixels = np.rint(on_device.preprocess.invert(images) * 255).astype(int)
    for label in range(3):
        drawn = pixels[label, :, 0, 0, 0]
        assert len(set(drawn.tolist())) == 20
        assert (split.labels[drawn] == label).all()


@pytest.mark.parametrize("n", [2, 3, 8, 70])
def test_a_class_with_fewer_images_repeats_them_evenly(real, n):
    _, on_device = real
    positions = on_device.sample_positions(jax.random.key(1), 3, n)
    counts = collections.Counter(positions.tolist())
    assert len(counts) == min(n, 3)
    assert max(counts.values()) == -(-n // 3)
    assert sum(counts.values()) == n


def test_of_the_largest_class_no_image_comes_twice(real):
    split, on_device = real
    largest = np.bincount(split.labels).argmax()
    images = on_device.sample_class(jax.random.key(1), largest, 1000)
    pixels = np.rint(on_device.preprocess.invert(np.asarray(images)) * 255).astype(int)
    expected = np.flatnonzero(split.labels == largest)
    assert sorted(pixels[:, 0, 0, 0].tolist()) == expected.tolist()


def test_sampling_is_uniform(real):
    _, on_device = real
    keys = jax.random.split(jax.random.key(2), 4000)
    positions = jax.vmap(lambda k: on_device.sample_positions(k, 2, 5))(keys)
    _, counts = np.unique(np.asarray(positions), return_counts=True)
    assert len(counts) == 20
    # Each of 20 images is drawn with probability 1/4: 1000 times, standard deviation 27.
    assert abs(counts - 1000).max() < 5 * 27
