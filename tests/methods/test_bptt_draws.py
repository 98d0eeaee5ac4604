"""What back-propagation through training draws: windows, and batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jdd.methods import BpttSettings, bptt
from jdd.methods.bptt import _window_start
from jdd.methods.student import balanced_batches
from tests.methods import small
from tests.methods.small_bptt import NETWORK, REAL, SETTINGS


def starts(settings, iteration, lengths):
    draw = jax.vmap(lambda key: _window_start(settings, key, jnp.int32(iteration), lengths))
    return np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))


def test_windows_start_anywhere_between_the_bounds():
    settings = BpttSettings(syn_steps=10, window=3, min_start=2)
    drawn = starts(settings, 0, jnp.zeros(10))
    counts = np.bincount(drawn, minlength=8)
    assert counts[:2].sum() == 0 and drawn.max() == 7
    np.testing.assert_allclose(counts[2:] / 4000, 1 / 6, atol=0.03)


@pytest.mark.parametrize(("iteration", "sign"), [(0, 1), (29, 1), (30, 0), (59, 0), (60, -1)])
def test_windows_by_gradients_are_softmax_of_their_lengths(iteration, sign):
    """exp(±length / τ), by thirds of the updates; steps that no window starts from count as the
    last that one does."""
    settings = BpttSettings(
        iterations=90, syn_steps=8, window=3, window_start="gradient", temperature=2.0
    )
    lengths = np.linspace(6.0, 0.0, 8)
    chances = np.exp(sign * lengths / 2)
    chances /= chances.sum()
    expected = np.append(chances[:5], chances[5:].sum()) if sign else np.full(6, 1 / 6)
    drawn = starts(settings, iteration, jnp.asarray(lengths, jnp.float32))
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 4000, expected, atol=0.03)


@pytest.mark.slow
def test_lengths_are_those_of_the_students_gradients():
    """Measured in the first update, kept in the second, measured again in the third."""
    of = small.digits(REAL)
    settings = dataclasses.replace(SETTINGS, window_start="gradient", probe_every=2)
    method = bptt(settings, NETWORK)
    synthetic, state = method.init(jax.random.key(3), small.start(1), of)
    images, labels = synthetic.images, synthetic.labels
    key = jax.random.split(state.iteration_key(), 5)[0]
    params = NETWORK.init(key, jnp.zeros((1, 8, 8, 1)))["params"]
    adam, lengths = optax.adam(0.01), []
    moments = adam.init(params)

    @jax.jit
    @jax.grad
    def slope(params):
        logits = NETWORK.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    for _ in range(6):
        gradient = slope(params)
        lengths.append(float(optax.tree.norm(gradient)))
        change, moments = adam.update(gradient, moments)
        params = optax.apply_updates(params, change)
    update, measured = jax.jit(method.update), []
    for _ in range(3):
        synthetic, state, _ = update(synthetic, state, of)
        measured.append(np.asarray(state.optimizer.probed))
    np.testing.assert_allclose(measured[0], lengths, rtol=1e-3)
    np.testing.assert_array_equal(measured[1], measured[0])
    assert not np.allclose(measured[2], measured[1])


def test_batches_have_as_many_of_each_class():
    drawn = np.asarray(balanced_batches(jax.random.key(0), 50, classes=4, ipc=5, batch=3))
    assert drawn.shape == (50, 12)
    for step in drawn:
        assert len(set(step)) == 12 and np.bincount(step // 5).tolist() == [3, 3, 3, 3]
    assert len({tuple(sorted(step)) for step in drawn}) > 40
    every = np.asarray(balanced_batches(jax.random.key(0), 3, classes=4, ipc=5))
    assert all(sorted(step) == list(range(20)) for step in every)
    some = np.asarray(balanced_batches(jax.random.key(0), 50, classes=4, ipc=5, batch=2, some=3))
    assert all(sorted(np.bincount(step // 5, minlength=4)) == [0, 2, 2, 2] for step in some)
    assert len({tuple(sorted(set(step // 5))) for step in some}) == 4


@pytest.mark.slow
def test_real_batches_share_no_image_in_a_pass(monkeypatch):
    of, seen = small.digits(4), []
    batch = type(of).batch
    monkeypatch.setattr(
        type(of),
        "batch",
        lambda self, at: (jax.debug.callback(lambda v: seen.append(v), at), batch(self, at))[1],
    )
    method = bptt(dataclasses.replace(SETTINGS, batch_real=4), NETWORK)
    synthetic, state = method.init(jax.random.key(0), small.start(1), of)
    update = jax.jit(method.update)
    for _ in range(6):
        synthetic, state, _ = update(synthetic, state, of)
    jax.effects_barrier()
    passes = [np.concatenate(seen[:3]), np.concatenate(seen[3:])]
    assert all(sorted(one) == list(range(12)) for one in passes)
    assert not np.array_equal(*passes)
