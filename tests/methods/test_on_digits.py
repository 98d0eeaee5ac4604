"""Ten images, made or chosen, against ten random ones on real digits; small networks."""

import jax
import numpy as np
import pytest

from jdd import data, evaluation, networks, synthetic
from jdd.methods import (
    CoresetSettings,
    DatadamSettings,
    DcSettings,
    DmSettings,
    datadam,
    dc,
    dm,
    herding,
)
from jdd.recipe import Recipe
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import TrainingData

NETWORK = networks.create("ConvNet", 10, width=16, depth=2)
RECIPE = Recipe(epochs=100, learning_rate=0.03)


@pytest.fixture(scope="module")
def digits():
    loaded = data.load("digits")
    return loaded, data.to_device(loaded.train, loaded.preprocess, 10)


def accuracy(loaded, made):
    shown = TrainingData(made.images, made.labels)
    test = evaluation.real(loaded.test, loaded)
    return evaluation.evaluate(NETWORK, RECIPE, shown, test, jax.random.key(1), 2).mean


@pytest.fixture(scope="module")
def start(digits):
    """Ten random images, and what they are worth: the mean of three such choices."""
    loaded, _ = digits
    info = SetInfo("digits", loaded.class_names, {}, 1)
    drawn = [
        synthetic.from_real(loaded.train, loaded, 1, np.random.default_rng(i)) for i in range(3)
    ]
    sets = [SyntheticSet(*one, None, info) for one in drawn]
    return sets[0], np.mean([accuracy(loaded, one) for one in sets])


@pytest.mark.parametrize(
    ("method", "settings", "better"),
    [
        (dc, DcSettings(batch_real=30, iterations=40), 0.12),
        (dm, DmSettings(batch_real=30, iterations=80, lr_img=10.0), 0.12),
        (datadam, DatadamSettings(batch_real=30, iterations=80, lr_img=0.4), 0.08),
        (herding, CoresetSettings(feature_epochs=3), 0.05),
    ],
)
def test_ten_images_are_worth_more_than_random_ones(digits, start, method, settings, better):
    loaded, on_device = digits
    made = method(settings, NETWORK)

    @jax.jit
    def run(key, given):
        def step(carry, _):
            *carry, metrics = made.update(*carry, on_device)
            return tuple(carry), metrics["dropped"]

        first = made.init(key, given, on_device)
        (last, _), dropped = jax.lax.scan(
            step, first, None, length=getattr(settings, "iterations", 0)
        )
        return last, dropped.sum()

    found, dropped = run(jax.random.key(0), start[0])
    assert not dropped
    assert accuracy(loaded, found) > start[1] + better
