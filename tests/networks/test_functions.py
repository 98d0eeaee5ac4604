"""Networks made of functions: trained, stored as experts, looked through as a module is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks, training
from jdd.data import DeviceData
from jdd.errors import UserError
from jdd.networks import registry
from jdd.training import Recipe, Trainer


def init(key, images):
    """A list of two layers, a pytree that no Flax module has."""
    size = images[0].size
    keys = jax.random.split(key)
    return [
        (0.1 * jax.random.normal(keys[0], (size, 8)), jnp.zeros(8)),
        (0.1 * jax.random.normal(keys[1], (8, 3)), jnp.zeros(3)),
    ]


def hidden(params, images):
    kernel, bias = params[0]
    return jax.nn.relu(images.reshape(len(images), -1) @ kernel + bias)


def apply(params, images):
    kernel, bias = params[1]
    return hidden(params, images) @ kernel + bias


def maps(params, images):
    return [hidden(params, images)[:, None, None, :]]


NETWORK = networks.from_functions(init, apply, embed=hidden, feature_maps=maps)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((6, 4, 4, 1)), jnp.float32)


def test_its_logits_and_features_are_the_functions_own():
    variables = NETWORK.init(jax.random.key(0), IMAGES[:1])
    params = init(jax.random.key(0), IMAGES[:1])
    assert set(variables) == {"params"} and len(variables["params"]) == 4
    np.testing.assert_array_equal(NETWORK.apply(variables, IMAGES), apply(params, IMAGES))
    embedded = NETWORK.apply(variables, IMAGES, method="embed")
    np.testing.assert_array_equal(embedded, hidden(params, IMAGES))
    traced, last = NETWORK.apply(variables, IMAGES, method="trace")
    np.testing.assert_array_equal(traced[0], maps(params, IMAGES)[0])
    np.testing.assert_array_equal(last, embedded)
    assert hash(NETWORK) == hash(
        networks.from_functions(init, apply, embed=hidden, feature_maps=maps)
    )


def test_it_is_trained_as_plain_descent_trains_it():
    labels = jnp.arange(6) % 3
    recipe = Recipe(epochs=1, batch_size=6, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
    trainer = Trainer.of(NETWORK, recipe, 6)
    state = training.init(trainer, jax.random.key(1), (4, 4, 1))
    after = training.run_jit(
        trainer, state, DeviceData(IMAGES, labels), training.schedule(recipe), 3
    )
    params = init(jax.random.split(jax.random.key(1))[0], IMAGES[:1])

    def loss(params):
        return -jnp.mean(jax.nn.log_softmax(apply(params, IMAGES))[jnp.arange(6), labels])

    for step in range(3):
        rate = 0.1 if step < 0.5 else 0.01  # the recipe's falls to a tenth after half of its epochs
        params = jax.tree.map(lambda p, g, r=rate: p - r * g, params, jax.grad(loss)(params))
    for ours, plain in zip(jax.tree.leaves(after.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-7)


def test_features_that_it_was_made_without_are_asked_for():
    bare = networks.from_functions(init, apply)
    variables = bare.init(jax.random.key(0), IMAGES[:1])
    with pytest.raises(UserError, match="made without embed"):
        bare.apply(variables, IMAGES, method="embed")
    with pytest.raises(UserError, match="made without embed and feature_maps"):
        bare.apply(variables, IMAGES, method="trace")


def factory(num_classes, size=8):
    del num_classes, size
    return NETWORK


def test_networks_of_ones_own_are_known_by_name(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    networks.register("Own", factory, size=8)
    assert networks.create("Own", 3, size=4) is NETWORK and "Own" in networks.names()
    assert networks.options("Own") == {"size": 8}
    with pytest.raises(UserError, match="Own has no option 'sise'"):
        networks.create("Own", 3, sise=4)
    with pytest.raises(UserError, match="there is one of this name already"):
        networks.register("MLP", factory)
    with pytest.raises(UserError, match="what its factory makes has no apply"):
        networks.register("Half", lambda classes: type("Half", (), {"init": init})())
    with pytest.raises(UserError, match="its factory raises TypeError"):
        networks.register("Other", factory, foo=3)
    with pytest.raises(UserError, match="is not hashable"):
        networks.register("List", lambda classes: _Unhashable())


class _Unhashable:
    __hash__ = None

    def init(self):
        """Nothing."""

    def apply(self):
        """Nothing."""
