"""Coresets against brute force."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import SettingError
from jdd.methods import CoresetSettings, RandomSettings, herding, k_center, random
from jdd.methods.coresets import greedy_k_center, herd
from tests.methods import small

NETWORK = networks.create("ConvNet", small.CLASSES, width=8, depth=1)
TRAINED = CoresetSettings(feature_epochs=15, feature_batch=16)


def brute_herding(features, count):
    """Each time, of all images not yet chosen, the one that brings the mean nearest."""
    chosen = []
    for _ in range(count):
        distances = {
            i: np.linalg.norm(features[[*chosen, i]].mean(0) - features.mean(0))
            for i in range(len(features))
            if i not in chosen
        }
        chosen.append(min(distances, key=distances.get))
    return chosen


def brute_centers(features, count):
    """Each time the image whose nearest chosen one is farthest."""
    chosen = [int(np.argmin(np.linalg.norm(features - features.mean(0), axis=1)))]
    while len(chosen) < count:
        nearest = [min(np.linalg.norm(f - features[c]) for c in chosen) for f in features]
        chosen.append(int(np.argmax(nearest)))
    return chosen


@pytest.mark.parametrize(
    ("choose", "brute"), [(herd, brute_herding), (greedy_k_center, brute_centers)]
)
@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_that_of_brute_force(choose, brute, seed):
    """Features away from zero, and rows at the end that are none."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((30, 5)).astype(np.float32) + 2
    padded = np.concatenate([features, features[:10]])
    mask = np.arange(40) < 30
    for count in (1, 2, 12, 30):
        places = np.asarray(choose(jnp.asarray(padded), jnp.asarray(mask), count))
        assert places.tolist() == brute(features.astype(np.float64), count)


def test_equal_images_are_chosen_once_each():
    features = jnp.zeros((4, 3)).at[3].set(1.0)
    for choose in (herd, greedy_k_center):
        assert sorted(np.asarray(choose(features, jnp.ones(4, bool), 4)).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("choose", [herd, greedy_k_center])
def test_all_come_before_one_comes_again(choose):
    features, mask = jnp.asarray([[0.0], [1.0], [5.0], [9.0]]), jnp.arange(4) < 3
    places = np.asarray(choose(features, mask, 7)).tolist()
    assert sorted(places[:3]) == [0, 1, 2] and places[3:] == [*places[:3], places[0]]


def chosen(method, of, ipc, seed=0):
    """The places in the data of what is chosen, class by class."""
    synthetic, state = jax.jit(method.init)(jax.random.key(seed), small.start(ipc), of)
    np.testing.assert_array_equal(synthetic.labels, np.repeat(np.arange(small.CLASSES), ipc))
    assert synthetic.learning_rate is None
    after, state, _ = method.update(synthetic, state, of)
    np.testing.assert_array_equal(after.images, synthetic.images)
    every = np.asarray(of.batch(jnp.arange(of.images.shape[0]))[0])
    distances = np.square(np.asarray(after.images)[:, None] - every).sum((2, 3, 4))
    assert distances.min(axis=1).max() < 1e-6
    places = distances.argmin(axis=1)
    return np.reshape(places, (small.CLASSES, ipc))


@pytest.mark.parametrize(("method", "brute"), [(herding, brute_herding), (k_center, brute_centers)])
def test_features_are_those_of_the_random_network(method, brute):
    of = small.digits(25)
    positions = chosen(method(dataclasses.replace(TRAINED, features="random"), NETWORK), of, 4)
    # Drawn as training draws it: the first half of the key is for the weights.
    key = jax.random.split(jax.random.key(0))[0]
    variables = NETWORK.init(key, jnp.zeros((1, 8, 8, 1)))
    for label in range(small.CLASSES):
        places = np.flatnonzero(np.asarray(of.labels) == label)
        features = NETWORK.apply(variables, small.real(of, label), method="embed")
        expected = places[brute(np.asarray(features, np.float64), 4)]
        assert positions[label].tolist() == expected.tolist()


@pytest.mark.parametrize("method", [herding, k_center])
def test_a_network_trained_epoch_by_epoch_chooses_the_same(method):
    of, heard = small.digits(25), []
    made = method(dataclasses.replace(TRAINED, feature_epochs=3), NETWORK)
    key, start = jax.random.key(0), small.start(4)
    begun, state = made.begin(key, start, of, lambda *told: heard.append(told))
    whole, same = jax.jit(made.init)(key, start, of)
    np.testing.assert_array_equal(begun.images, whole.images)
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert jax.tree.structure(state) == jax.tree.structure(same)


@pytest.mark.slow
def test_trained_features_choose_otherwise():
    of = small.digits(60)
    for method in (herding, k_center):
        by_trained = chosen(method(TRAINED, NETWORK), of, 5)
        by_random = chosen(method(dataclasses.replace(TRAINED, features="random"), NETWORK), of, 5)
        assert by_trained.tolist() != by_random.tolist()
        assert (np.asarray(of.labels)[by_trained] == np.arange(3)[:, None]).all()


def test_random_images_are_of_their_classes_and_differ():
    of = small.digits(25)
    method = random(RandomSettings(), NETWORK)
    draws = [chosen(method, of, 10, seed) for seed in range(2)]
    assert (np.asarray(of.labels)[draws[0]] == np.arange(3)[:, None]).all()
    assert all(len(set(row)) == 10 for row in draws[0].tolist())
    assert draws[0].tolist() != draws[1].tolist()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("features", "train", "did you mean 'trained'"),
        ("feature_epochs", 0, "`feature_epochs` 0"),
        ("feature_batch", 0, "`feature_batch` 0"),
        ("feature_lr", 0.0, "`feature_lr` 0.0"),
    ],
)
def test_settings_out_of_range_are_named(name, value, words):
    with pytest.raises(SettingError, match=words):
        dataclasses.replace(TRAINED, **{name: value})
