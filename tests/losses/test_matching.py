"""Gradient, distribution and attention matching against closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd.errors import UserError
from jdd.losses import (
    attention_matching,
    distribution_matching,
    gradient_matching,
    spatial_attention,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def grads(seed):
    return {"conv": normal(3, 3, 2, 5, seed=seed), "dense": normal(4, 3, seed=seed + 1)} | {
        "bias": normal(5, seed=seed + 2)
    }


def cosine(a, b):
    return (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6)


def test_layerwise_cosine_runs_over_output_units_and_leaves_1d_out():
    a, b = grads(0), grads(10)
    expected = sum(1 - cosine(a["conv"][..., u], b["conv"][..., u]) for u in range(5))
    expected += sum(1 - cosine(a["dense"][:, u], b["dense"][:, u]) for u in range(3))
    assert gradient_matching(a, b) == pytest.approx(expected, rel=1e-5)
    assert gradient_matching(a, a) == pytest.approx(0, abs=1e-5)
    assert gradient_matching(a, jax.tree.map(lambda x: -x, a)) == pytest.approx(16, rel=1e-5)


def test_mse_and_cosine_run_over_everything():
    a, b = grads(0), grads(10)
    whole_a, whole_b = (np.concatenate([g[k].ravel() for k in g]) for g in (a, b))
    assert gradient_matching(a, b, "mse") == pytest.approx(
        ((whole_a - whole_b) ** 2).sum(), rel=1e-5
    )
    assert gradient_matching(a, b, "cosine") == pytest.approx(
        1 - cosine(whole_a, whole_b), rel=1e-5
    )


@pytest.mark.parametrize("metric", ["layerwise_cosine", "mse", "l1", "cosine"])
def test_gradient_matching_has_finite_derivatives_at_zero(metric):
    a, zero = grads(0), jax.tree.map(np.zeros_like, grads(0))
    for pair in ((a, zero), (zero, a), (zero, zero)):
        loss, derivative = jax.value_and_grad(gradient_matching)(*pair, metric)
        assert np.isfinite(loss)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))
    # No unit has a gradient, so each of the eight counts 1.
    assert gradient_matching(zero, a) == 8


@pytest.mark.parametrize("metric", ["layerwise_cosine", "mse", "l1", "cosine"])
def test_gradient_matching_derivative(metric):
    a, b, direction = grads(0), grads(10), grads(20)
    # l1 is linear between its kinks, of which a shorter step crosses fewer.
    step, rel = (1e-3, 1e-2) if metric == "l1" else (1e-2, 2e-3)

    def along(t):
        moved = jax.tree.map(lambda x, d: x + t * d, a, direction)
        return gradient_matching(moved, b, metric)

    difference = (along(step) - along(-step)) / (2 * step)
    assert jax.grad(along)(0.0) == pytest.approx(float(difference), rel=rel)


def test_gradient_matching_refuses_other_names_and_structures():
    with pytest.raises(UserError, match="'layer_cosine': did you mean 'layerwise_cosine'"):
        gradient_matching(grads(0), grads(0), "layer_cosine")
    with pytest.raises(ValueError, match="bias"):
        gradient_matching(grads(0), {k: v for k, v in grads(0).items() if k != "bias"})
    for other in (grads(0)["bias"][:1], grads(0)["bias"][None]):  # which would broadcast
        with pytest.raises(ValueError, match="the same shapes"):
            gradient_matching(grads(0), {**grads(0), "bias": other}, "mse")


def test_distribution_matching_by_hand():
    synthetic, real = normal(3, 4), normal(5, 4, seed=1)
    distance = synthetic.mean(0) - real.mean(0)
    assert distribution_matching(synthetic, real) == pytest.approx((distance**2).sum(), rel=1e-5)
    np.testing.assert_allclose(
        jax.grad(distribution_matching)(synthetic, real),
        np.tile(2 * distance / 3, (3, 1)),
        rtol=1e-4,
    )
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        distribution_matching(normal(3, 2, 2, 4), normal(3, 2, 2, 4))
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 5\)"):
        distribution_matching(normal(3, 4), normal(3, 5))


@pytest.mark.parametrize("power", [1, 2, 4, 2.5])
def test_spatial_attention_by_hand(power):
    feature_map = normal(3, 2, 4, 5)
    expected = (np.abs(feature_map.astype(np.float64)) ** power).sum(3).reshape(3, 8)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(spatial_attention(feature_map, power), expected, rtol=1e-5)


def test_spatial_attention_of_tiny_huge_and_empty_maps():
    feature_map = normal(3, 2, 4, 5)
    for scale in (1e-15, 1e15):
        np.testing.assert_allclose(
            spatial_attention(scale * feature_map, 4), spatial_attention(feature_map, 4), rtol=1e-4
        )
    empty = np.zeros((2, 3, 3, 4), np.float32)
    for power in (1, 4, 1.0):
        out, derivative = jax.vjp(lambda x, p=power: spatial_attention(x, p), empty)
        np.testing.assert_array_equal(out, np.zeros((2, 9)))
        np.testing.assert_array_equal(derivative(jnp.ones((2, 9)))[0], empty)


def test_attention_matching_sums_over_layers_the_distance_of_the_means():
    synthetic = [normal(3, 4, 4, 2), normal(3, 2, 2, 6, seed=1)]
    real = [normal(7, 4, 4, 2, seed=2), normal(7, 2, 2, 6, seed=3)]
    expected = 0.0
    for s, r in zip(synthetic, real, strict=True):
        difference = np.mean(spatial_attention(s, 4), 0) - np.mean(spatial_attention(r, 4), 0)
        expected += float((difference**2).sum())
    assert attention_matching(synthetic, real, 4) == pytest.approx(expected, rel=1e-4)
    assert attention_matching(real, real, 4) == 0
    with pytest.raises(ValueError, match="argument 2"):
        attention_matching(synthetic, real[:1], 4)
    with pytest.raises(ValueError, match="maps of the same size"):
        attention_matching(
            [synthetic[0]], [real[0].reshape(len(real[0]), 1, -1, real[0].shape[3])], 4
        )


@pytest.mark.parametrize("power", [1, 4])
def test_attention_matching_derivative(power):
    with jax.enable_x64(True):
        synthetic, real = normal(3, 4, 4, 2).astype("d"), [normal(7, 4, 4, 2, seed=2)]
        direction, step = normal(3, 4, 4, 2, seed=3).astype("d"), 1e-2

        def along(t):
            return attention_matching([synthetic + t * direction], real, power)

        difference = (along(step) - along(-step)) / (2 * step)
        assert jax.grad(along)(0.0) == pytest.approx(float(difference), rel=1e-2)


def test_losses_map_over_classes():
    synthetic, real = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    each = [distribution_matching(s, r) for s, r in zip(synthetic, real, strict=True)]
    mapped = jax.jit(jax.vmap(distribution_matching))(synthetic, real)
    np.testing.assert_allclose(mapped, each, rtol=1e-5)
    both = [jax.tree.map(lambda *g: np.stack(g), grads(s), grads(s + 1)) for s in (0, 10)]
    each = [gradient_matching(grads(i), grads(10 + i)) for i in range(2)]
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient_matching))(*both), each, rtol=1e-5)
