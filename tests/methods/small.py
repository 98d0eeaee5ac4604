"""Small real data whose every image is drawn, so that no draw is left to chance, and plain SGD."""

import jax
import jax.numpy as jnp
import numpy as np

from jdd import data
from jdd.methods import guarded
from jdd.synthetic import SetInfo, SyntheticSet

CLASSES = 3


def digits(a_class: int, shift: int = 0) -> data.DeviceData:
    """`a_class` images of each of three digits; `shift` picks others of the first class alone."""
    loaded = data.load("digits")
    chosen = [
        np.flatnonzero(loaded.train.labels == label)[start : start + a_class]
        for label, start in zip(range(CLASSES), (shift, 0, 0), strict=True)
    ]
    index = np.concatenate(chosen)
    split = data.Split(loaded.train.images[index], loaded.train.labels[index])
    return data.to_device(split, loaded.preprocess, CLASSES)


def real(of: data.DeviceData, label: int) -> jax.Array:
    """All images of a class, preprocessed."""
    count = of.images.shape[0] // CLASSES
    return of.batch(jnp.arange(label * count, (label + 1) * count))[0]


def start(ipc: int, seed: int = 0) -> SyntheticSet:
    """Noise, class by class."""
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.standard_normal((CLASSES * ipc, 8, 8, 1)), jnp.float32)
    labels = jnp.repeat(jnp.arange(CLASSES, dtype=jnp.int32), ipc)
    return SyntheticSet(images, labels, None, SetInfo("digits", ("0", "1", "2"), {}, ipc))


def fresh(network, state) -> dict:
    """The random network of the iteration that `state` comes to."""
    return network.init(jax.random.split(state.iteration_key())[0], jnp.zeros((1, 8, 8, 1)))


def two_updates(method, synthetic, of):
    """Images, states and losses before, between and behind two updates."""
    synthetic, state = method.init(jax.random.key(3), synthetic, of)
    update = jax.jit(guarded(method).update)
    seen = [(synthetic.images, state, None)]
    for _ in range(2):
        synthetic, state, metrics = update(synthetic, state, of)
        assert int(metrics["dropped"]) == 0
        seen.append((synthetic.images, state, float(metrics["loss"])))
    return seen
