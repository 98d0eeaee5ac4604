"""Ten real digits, what a set of them is worth, and a method's updates on them; small networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jdd import data, evaluation, networks, synthetic
from jdd.methods import guarded
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Recipe

NETWORK = networks.create("ConvNet", 10, width=16, depth=2)
RECIPE = Recipe(epochs=100, learning_rate=0.03)


@functools.cache
def digits():
    """The dataset, and its training images on the device."""
    with jax.ensure_compile_time_eval():
        loaded = data.load("digits")
        return loaded, data.to_device(loaded.train, loaded.preprocess, 10)


@functools.cache
def start():
    """Ten random images."""
    loaded, _ = digits()
    drawn = synthetic.from_real(loaded.train, loaded, 1, np.random.default_rng(0))
    return SyntheticSet(*drawn, None, SetInfo("digits", loaded.class_names, {}, 1))


def accuracy(loaded, made):
    """Of two networks trained on the set."""
    test = data.to_device(loaded.test, loaded.preprocess)
    key = jax.random.key(1)
    return evaluation.train_and_test(NETWORK, RECIPE, made.data(), test, key, 2).mean


def distilled(method, start, of, iterations, segments=None):
    """The set after `iterations` updates, none of them dropped."""
    made = guarded(method)

    @jax.jit
    def run(start):
        def step(carry, segment):
            *carry, metrics = made.update(*carry, of, segment)
            return tuple(carry), metrics["dropped"]

        first = made.init(jax.random.key(0), start, of)
        return jax.lax.scan(step, first, segments, length=iterations)

    (last, _), dropped = run(start)
    assert not jnp.any(dropped)
    return last
