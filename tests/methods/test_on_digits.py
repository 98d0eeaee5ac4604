"""Ten images, made or chosen, against ten random ones on real digits; small networks."""

import jax
import numpy as np
import pytest

from jdd import data, evaluation, networks, synthetic
from jdd.methods import (
    BpttSettings,
    CoresetSettings,
    DatadamSettings,
    DcSettings,
    DmSettings,
    bptt,
    datadam,
    dc,
    dm,
    guarded,
    herding,
)
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Recipe

NETWORK = networks.create("ConvNet", 10, width=16, depth=2)
RECIPE = Recipe(epochs=100, learning_rate=0.03)


@pytest.fixture(scope="module")
def digits():
    loaded = data.load("digits")
    return loaded, data.to_device(loaded.train, loaded.preprocess, 10)


def accuracy(loaded, made):
    test = data.to_device(loaded.test, loaded.preprocess)
    key = jax.random.key(1)
    return evaluation.train_and_test(NETWORK, RECIPE, made.data(), test, key, 2).mean


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
        pytest.param(dc, DcSettings(batch_real=30, iterations=40), 0.12, marks=pytest.mark.slow),
        (dm, DmSettings(batch_real=30, iterations=80, lr_img=10.0), 0.12),
        pytest.param(
            datadam,
            DatadamSettings(batch_real=30, iterations=80, lr_img=0.4),
            0.08,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            bptt,
            BpttSettings(
                iterations=60,
                syn_steps=30,
                window=10,
                batch_real=100,
                inner_optimizer="sgd",
                lr_net=0.03,
                lr_img=0.05,
                augmentation="none",
            ),
            0.12,
            marks=pytest.mark.slow,
        ),
        (herding, CoresetSettings(feature_epochs=3), 0.05),
    ],
)
def test_ten_images_are_worth_more_than_random_ones(digits, start, method, settings, better):
    loaded, on_device = digits
    made = guarded(method(settings, NETWORK))

    @jax.jit
    def run(key, start):
        def step(carry, _):
            *carry, metrics = made.update(*carry, on_device)
            return tuple(carry), metrics["dropped"]

        first = made.init(key, start, on_device)
        (last, _), dropped = jax.lax.scan(
            step, first, None, length=getattr(settings, "iterations", 0)
        )
        return last, dropped.sum()

    made_set, dropped = run(jax.random.key(0), start[0])
    assert not dropped
    assert accuracy(loaded, made_set) > start[1] + better
