"""A small student for unrolled training, its loss, and a problem for it."""

import jax
import jax.numpy as jnp
import numpy as np

from jdd import networks, unrolling
from jdd.augment import augment

STEPS = 4
NETWORK = networks.create("ConvNet", 3, width=6, depth=2)


def loss(params, data, entry):
    """One student step as the methods have it: batch, DSA, network, soft labels."""
    chosen, key = entry
    images = augment(jax.random.wrap_key_data(key), data["images"][chosen], "color_crop_rotate")
    return soft_cross_entropy64(NETWORK.apply({"params": params}, images), data["labels"][chosen])


def soft_cross_entropy64(logits, label_logits):
    """`soft_cross_entropy` without its float32, which would end the comparison at 1e-7."""
    target = jax.nn.softmax(label_logits)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))


def problem(network=NETWORK):
    """Parameters, data, step size, plan and weights of an outcome, in float64 but for the plan."""
    rng = np.random.default_rng(0)
    data = {
        "images": jnp.asarray(rng.standard_normal((6, 8, 8, 2))),
        "labels": jnp.asarray(rng.standard_normal((6, 3))),
    }
    params = network.init(jax.random.key(1), jnp.zeros((1, 8, 8, 2)))["params"]
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    plan = (
        unrolling.batch_plan(jax.random.key(2), 6, 4, STEPS),
        jax.random.key_data(jax.random.split(jax.random.key(3), STEPS)),
    )
    weights = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)
    return params, data, jnp.asarray(0.3), plan, weights


def outcome(student, weights):
    """A scalar whose gradient to the student depends on where the student is."""
    return sum(
        jnp.sum(w * p + p**2)
        for w, p in zip(jax.tree.leaves(weights), jax.tree.leaves(student), strict=True)
    )
