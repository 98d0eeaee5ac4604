"""Discrepancy of characteristic functions: formula, closed forms, differences, released code."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.interop import params_from_torch
from jdd.losses import characteristic_function_discrepancy as discrepancy
from jdd.losses import cross_entropy

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published" / "ncfm.npz"


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


OURS, THEIRS, FREQUENCIES = normal(5, 7), normal(9, 7, seed=1), normal(11, 7, seed=2)


def plain(ours, theirs, frequencies, a, p):
    """In complex float64, by amplitude and angle."""
    mine, other = (
        np.exp(1j * f.astype(np.float64) @ frequencies.T.astype(np.float64)).mean(0)
        for f in (ours, theirs)
    )
    angle = np.angle(mine) - np.angle(other)
    phase = 2 * np.abs(mine) * np.abs(other) * (1 - np.cos(angle))
    amplitude = (np.abs(mine) - np.abs(other)) ** 2
    return np.sqrt(a * amplitude + p * np.maximum(phase, 1e-12)).mean()


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.0, 1.0), (1.0, 0.0)])
def test_it_is_amplitude_and_phase(weights):
    expected = plain(OURS, THEIRS, FREQUENCIES, *weights)
    assert discrepancy(OURS, THEIRS, FREQUENCIES, *weights) == pytest.approx(expected, rel=1e-5)


def test_a_shift_is_phase_alone_and_a_point_has_amplitude_one():
    shift = np.full((1, 7), 0.3, np.float32)
    assert discrepancy(OURS + shift, OURS, FREQUENCIES, 1.0, 0.0) == pytest.approx(0, abs=1e-4)
    angle = FREQUENCIES @ shift[0]
    chords = np.abs(2 * np.sin(angle / 2))  # between two points of the unit circle
    point = np.zeros((1, 7), np.float32)
    ours = discrepancy(point + shift, point, FREQUENCIES, 0.0, 1.0)
    assert ours == pytest.approx(chords.mean(), rel=1e-5)


def test_its_gradients_are_those_of_differences():
    for argument in (0, 2):
        arguments = [OURS, THEIRS, FREQUENCIES]
        gradient = jax.grad(discrepancy, argument)(*arguments, 0.3, 0.7)
        direction = normal(*arguments[argument].shape, seed=4)
        ends = []
        for step in (1e-4, -1e-4):
            moved = [a.astype(np.float64) for a in arguments]
            moved[argument] = moved[argument] + step * direction
            ends.append(plain(*moved, 0.3, 0.7))
        slope = (ends[0] - ends[1]) / 2e-4
        assert np.vdot(gradient, direction) == pytest.approx(slope, rel=1e-3)


def test_it_has_finite_slopes_where_it_is_least():
    value, gradient = jax.value_and_grad(discrepancy)(OURS, OURS, FREQUENCIES)
    assert 0 <= value < 1e-5 and bool(jnp.all(jnp.isfinite(gradient)))
    for weights in ((1.0, 0.0), (0.0, 0.0)):
        gradient = jax.grad(discrepancy)(OURS, OURS, FREQUENCIES, *weights)
        assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize(
    "shapes", [((5, 7), (9, 6), (11, 7)), ((5, 7), (9, 7), (11, 6)), ((5,), (9,), (11,))]
)
def test_features_and_frequencies_of_different_lengths_are_refused(shapes):
    with pytest.raises(ValueError, match="characteristic_function_discrepancy takes"):
        discrepancy(*(np.ones(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize(("key", "weights"), [("even", (0.5, 0.5)), ("phase", (0.1, 0.9))])
def test_it_is_that_of_the_released_code(key, weights):
    """On features of length 1 of its own network, times its 300; gradients to the images."""
    network, params = released_network()
    frequencies = np.random.default_rng(631).standard_normal((64, 128)).astype(np.float32)

    def features(images):
        embedded = network.apply({"params": params}, images, method="embed")
        return embedded / jnp.linalg.norm(embedded, axis=1, keepdims=True)

    @jax.jit
    @jax.value_and_grad
    def loss(images):
        ours, theirs = features(images), features(image(621, 16))
        return 300 * discrepancy(ours, theirs, frequencies, *weights)

    check(loss(image(611, 4)), key)


def test_calibration_is_that_of_the_released_code():
    network, params = released_network()

    @jax.jit
    @jax.value_and_grad
    def loss(images):
        return cross_entropy(network.apply({"params": params}, images), jnp.full(4, 3))

    check(loss(image(611, 4)), "calibration")


def check(result, key):
    stored = np.load(PUBLISHED)
    assert result[0] == pytest.approx(float(stored[f"{key}/loss"]), rel=1e-4)
    expected = stored[f"{key}/grad"]
    assert np.linalg.norm(result[1] - expected) < 1e-3 * np.linalg.norm(expected)


def image(seed, n):
    drawn = np.random.default_rng(seed).standard_normal((n, 3, 16, 16)).astype(np.float32)
    return drawn.transpose(0, 2, 3, 1)


def released_network():
    """The weights of its `ConvNet`, in the order of its state."""
    network = networks.create("ConvNet", 10, width=8, depth=2)
    shapes = {"features.0.weight": (8, 3, 3, 3), "features.0.bias": (8,)}
    shapes |= {"features.4.weight": (8, 8, 3, 3), "features.4.bias": (8,)}
    for norm in ("features.1", "features.5"):
        shapes |= {f"{norm}.weight": (8,), f"{norm}.bias": (8,)}
    shapes |= {"classifier.weight": (10, 128), "classifier.bias": (10,)}
    rng, state = np.random.default_rng(601), {}
    for name, shape in shapes.items():
        drawn = rng.standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            state[name] = drawn / np.sqrt(np.prod(shape[1:])).astype(np.float32)
        else:
            state[name] = 0.1 * drawn + name.endswith("weight")
    return network, params_from_torch(network, state, (16, 16, 3))["params"]


def test_where_phases_agree_it_is_the_released_codes_smallest():
    assert discrepancy(OURS, OURS, FREQUENCIES) == pytest.approx(np.sqrt(0.5e-12), rel=1e-5)


def test_at_a_characteristic_function_of_zero_the_slope_is_finite():
    """Two points of the circle, and the two opposite: their mean is 0."""
    ours = np.float32([[0], [0], [np.pi], [-np.pi]])
    slopes = jax.grad(discrepancy, (0, 2))(ours, ours[:1], np.ones((1, 1), np.float32))
    assert all(np.isfinite(slope).all() for slope in slopes)
