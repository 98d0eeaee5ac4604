"""Which examples the steps of an epoch see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, networks, training
from jdd.data import DeviceData
from jdd.training import Recipe, Trainer
from tests.small_training import NETWORK, SIDE, SIZE, examples, gradient, layers


@pytest.mark.parametrize(
    ("size", "batch", "steps", "expected"),
    [(500, 256, 0, (250, 2)), (10, 256, 0, (10, 1)), (7, 3, 0, (2, 3)), (1000, 100, 4, (100, 4))],
)
def test_batches_are_equal_in_size(size, batch, steps, expected):
    trainer = Trainer.of(NETWORK, Recipe(batch_size=batch), size, steps)
    assert (trainer.batch, trainer.steps) == expected


def test_an_epoch_sees_every_example_once():
    """With a step size of 0, the mean loss of an epoch of batches is that of all examples."""
    train = DeviceData(examples().images[:6], jnp.asarray([0, 0, 0, 1, 1, 2]))
    recipe = Recipe(batch_size=2, weight_decay=0.0)
    trainer = Trainer.of(NETWORK, recipe, 6)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    x = np.asarray(train.images, np.float64).reshape(6, -1)
    loss, _ = gradient(layers(state.params), x, np.asarray(train.labels))
    still = training.schedule(recipe, 0.0)
    for epochs in (1, 3):
        ended = training.run_jit(trainer, state, train, still, epochs)
        assert float(ended.loss) == pytest.approx(loss, rel=1e-5)


def test_the_last_batch_of_an_epoch_may_be_smaller():
    """7 examples in batches of 3, 3 and 1: all are seen, by three steps of SGD."""
    recipe = Recipe(batch_size=3, weight_decay=0.0, momentum=0.0, equal_batches=False)
    trainer = Trainer.of(NETWORK, recipe, SIZE)
    assert (trainer.batch, trainer.steps, trainer.rest) == (3, 2, 1)
    for size, steps in ((6, 0), (7, 2), (2, 0)):
        assert Trainer.of(NETWORK, recipe, size, steps).rest == 0
    train = examples()
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    x, labels = np.asarray(train.images, np.float64).reshape(SIZE, -1), np.asarray(train.labels)
    ended = training.run_jit(trainer, state, train, training.schedule(recipe, 0.0), 2)
    assert float(ended.loss) == pytest.approx(
        gradient(layers(state.params), x, labels)[0], rel=1e-5
    )

    alike = DeviceData(jnp.tile(train.images[:1], (SIZE, 1, 1, 1)), jnp.full(SIZE, labels[0]))
    ended = training.run_jit(trainer, state, alike, training.schedule(recipe, 0.1), 1)
    weights = layers(state.params)
    for _ in range(3):
        _, slopes = gradient(weights, x[:1], labels[:1])
        weights = [
            (w - 0.1 * dw, b - 0.1 * db) for (w, b), (dw, db) in zip(weights, slopes, strict=True)
        ]
    for ours, theirs in zip(layers(ended.params), weights, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "most", "batch"), [(31, 25, 15), (500, 256, 250), (127, 126, 63)])
def test_equal_batches_leave_few_examples_out(size, most, batch):
    assert Trainer.of(NETWORK, Recipe(batch_size=most), size).batch == batch


def test_an_epoch_of_eligible_examples_sees_no_other():
    """The others may be anything; and it has as many steps as the eligible fill batches."""
    digits = data.load("digits")
    train = data.to_device(data.subset(digits.train, 60, seed=0), digits.preprocess)
    mask = np.arange(60) % 3 != 0  # 40 of them: four batches of ten
    trainer = Trainer(networks.create("MLP", 10, width=8), 10, 6)
    rates = training.Schedule(jnp.float32(0.1), jnp.float32(np.inf))
    other = jnp.where(mask[:, None, None, None], train.images, 255).astype(jnp.uint8)
    spoiled = DeviceData(other, train.labels, train.preprocess)
    states = []
    for examples_of in (train, spoiled):
        state = training.init(trainer, jax.random.key(0), (8, 8, 1))
        states.append(training.run_jit(trainer, state, examples_of, rates, 2, jnp.asarray(mask)))
    for a, b in zip(*(jax.tree.leaves(state.params) for state in states), strict=True):
        np.testing.assert_array_equal(a, b)
    # With one step in all of it, the change is that of one step.
    few = jnp.asarray(np.arange(60) < 12)
    state = training.init(trainer, jax.random.key(0), (8, 8, 1))
    one = training.run_jit(trainer, state, train, rates, 1, few)
    moved = [
        float(jnp.abs(a - b).sum())
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(state.params), strict=True)
    ]
    assert max(moved) > 0 and int(one.epoch) == 1
    assert np.isfinite(one.loss) and float(one.loss) > 1


def test_eligible_examples_that_do_not_fill_a_batch_come_twice():
    """And no other comes: those are not even numbers here."""
    images = jnp.where(jnp.arange(20)[:, None, None, None] < 12, 0.5, jnp.nan) * jnp.ones((8, 8, 1))
    of = DeviceData(images, jnp.arange(20) % 10)
    trainer = Trainer(networks.create("MLP", 10, width=8), 20, 1)
    rates = training.Schedule(jnp.float32(0.1), jnp.float32(np.inf))
    state = training.init(trainer, jax.random.key(0), (8, 8, 1))
    trained = training.run_jit(trainer, state, of, rates, 1, jnp.arange(20) < 12)
    assert np.isfinite(trained.loss)
