"""Trajectory matching and PAD's filters against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import UserError
from jdd.losses import (
    drop_shallow_layers,
    drop_smallest_errors,
    hidden_kernels,
    trajectory_matching,
)

START = {"a": jnp.array([0.0, 0.0]), "b": jnp.array([[0.0, 0.0]])}
TARGET = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0, 4.0]])}
STUDENT = {"a": jnp.array([1.0, 1.0]), "b": jnp.array([[1.0, 1.0]])}


def test_by_hand():
    # (0 + 1 + 4 + 9) / (1 + 4 + 9 + 16)
    assert trajectory_matching(STUDENT, START, TARGET) == pytest.approx(14 / 30)
    assert trajectory_matching(START, START, TARGET) == 1
    assert trajectory_matching(TARGET, START, TARGET) == 0


def test_weights_weigh_numerator_and_denominator_alike():
    weights = {"a": 2.0, "b": jnp.array([[0.0, 1.0]])}
    expected = (2 * (0 + 1) + 9) / (2 * (1 + 4) + 16)
    assert trajectory_matching(STUDENT, START, TARGET, weights) == pytest.approx(expected)
    nothing = {"a": 0.0, "b": 0.0}
    assert trajectory_matching(STUDENT, START, TARGET, nothing) == 0


def test_gradient_by_hand_and_finite_where_nothing_moves():
    grad = jax.grad(trajectory_matching)(STUDENT, START, TARGET)
    np.testing.assert_allclose(grad["a"], 2 * np.array([0, -1]) / 30, atol=1e-7)
    np.testing.assert_allclose(grad["b"], 2 * np.array([[-2, -3]]) / 30, atol=1e-7)
    still = jax.grad(trajectory_matching)(START, START, START)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(still))


def test_under_vmap_jit_and_half_precision():
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), START, STUDENT)
    losses = jax.jit(jax.vmap(trajectory_matching, in_axes=(0, None, None)))(both, START, TARGET)
    np.testing.assert_allclose(losses, [1, 14 / 30], rtol=1e-6)
    halves = (jax.tree.map(lambda x: x.astype(jnp.bfloat16), p) for p in (STUDENT, START, TARGET))
    loss = trajectory_matching(*halves)
    assert loss.dtype == jnp.float32
    assert loss == pytest.approx(14 / 30)


def test_other_structures_are_refused():
    with pytest.raises(ValueError, match="b"):
        trajectory_matching(STUDENT, START, {"a": TARGET["a"]})
    with pytest.raises(ValueError, match="the same shapes"):
        trajectory_matching(STUDENT, {**START, "a": START["a"][:1]}, TARGET)


@pytest.mark.parametrize(
    ("share", "a", "b"),
    [
        (0.0, [1, 1], [[1, 1]]),
        (0.25, [0, 1], [[1, 1]]),
        (0.5, [0, 0], [[1, 1]]),
        (0.9, [0, 0], [[0, 1]]),
    ],
)
def test_the_smallest_errors_are_dropped_across_leaves(share, a, b):
    weights = drop_smallest_errors(STUDENT, TARGET, share)  # errors 0, 1 and 4, 9
    np.testing.assert_array_equal(weights["a"], a)
    np.testing.assert_array_equal(weights["b"], b)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_errors_of_any_size_are_ranked(share):
    rng = np.random.default_rng(0)
    errors = (10.0 ** rng.uniform(-30, 30, 1000)).astype(np.float32)
    weights = drop_smallest_errors(np.sqrt(errors), np.zeros(1000, np.float32), share)
    matched = np.argsort(np.sqrt(errors))[int(share * 1000) :]
    np.testing.assert_array_equal(np.nonzero(weights)[0], np.sort(matched))


def test_ties_are_kept_and_no_gradient_flows_through_the_weights():
    same = {"a": jnp.ones(4)}
    weights = drop_smallest_errors(same, {"a": jnp.zeros(4)}, 0.5)
    np.testing.assert_array_equal(weights["a"], np.ones(4))

    def filtered(student):
        weights = drop_smallest_errors(student, TARGET, 0.5)
        return trajectory_matching(student, START, TARGET, weights)

    loss, grad = jax.jit(jax.value_and_grad(filtered))(STUDENT)
    assert loss == pytest.approx((4 + 9) / (9 + 16))
    np.testing.assert_array_equal(grad["a"], [0, 0])
    np.testing.assert_allclose(grad["b"], 2 * np.array([[-2, -3]]) / 25, atol=1e-7)


def test_shallow_layers_are_dropped_entry_by_entry_in_the_order_of_depth():
    params = {
        "block_10": {"conv": {"kernel": jnp.zeros((1, 1, 2, 2)), "bias": jnp.zeros(2)}},
        "block_2": {"conv": {"kernel": jnp.zeros((1, 1, 3, 2)), "bias": jnp.zeros(2)}},
        "classifier": {"kernel": jnp.zeros((2, 2))},
    }  # 8, then 6, then 4 entries
    weights = drop_shallow_layers(params, 11 / 18)
    assert np.all(weights["block_2"]["conv"]["kernel"] == 0)
    assert np.all(weights["block_2"]["conv"]["bias"] == 0)
    # Three more, from the next kernel: the first output unit whole, and one entry of the second.
    np.testing.assert_array_equal(weights["block_10"]["conv"]["kernel"][0, 0], [[0, 0], [0, 1]])
    assert np.all(weights["block_10"]["conv"]["bias"] == 1)
    assert np.all(weights["classifier"]["kernel"] == 1)


def test_a_network_of_functions_has_its_layers_in_order():
    """Its parameters are named by the whole way to them."""
    layers = [{"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)} for _ in range(12)]
    paths, _ = jax.tree_util.tree_flatten_with_path({"layers": layers})
    params = {jax.tree_util.keystr(path): leaf + i for i, (path, leaf) in enumerate(paths)}
    kernels = [params[f"['layers'][{i}]['w']"] for i in range(11)]
    for ours, expected in zip(hidden_kernels(params), kernels, strict=True):
        np.testing.assert_array_equal(ours, expected)
    weights = drop_shallow_layers(params, (10 * 6 + 4) / (12 * 6))  # and a kernel without its bias
    left = {name for name, leaf in weights.items() if leaf.all()}
    assert left == {"['layers'][10]['b']", "['layers'][11]['w']", "['layers'][11]['b']"}


@pytest.mark.parametrize("name", networks.names())
def test_names_sort_by_depth_in_every_network(name):
    network, image = networks.create(name, 10), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    count = {
        block: sum(leaf.size for leaf in jax.tree.leaves(layers))
        for block, layers in params.items()
    }
    order = [*(f"block_{i}" for i in range(len(params) - 1)), "classifier"]
    assert set(order) == set(params)
    half = len(order) // 2
    dropped = sum(count[block] for block in order[:half])
    weights = drop_shallow_layers(params, (dropped + 0.5) / sum(count.values()))
    for place, block in enumerate(order):
        for leaf in jax.tree.leaves(weights[block]):
            assert np.all(leaf == (place >= half))


def test_shares_outside_their_range_are_refused():
    for share in (-0.1, 1.0, 50):
        with pytest.raises(UserError, match="from 0 up to below 1"):
            drop_smallest_errors(STUDENT, TARGET, share)
        with pytest.raises(UserError, match="from 0 up to below 1"):
            drop_shallow_layers(STUDENT, share)
