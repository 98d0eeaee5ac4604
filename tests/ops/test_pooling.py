"""Pooling against loops over windows in NumPy, and derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jdd.ops import avg_pool, group_affine, group_norm, max_pool, relu_avg_pool
from jdd.ops.target import compiling_for


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def images(*shape):
    return np.random.default_rng(0).normal(size=shape)


def pooled(x, window, stride, padding, reduce):
    fill = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = np.pad(x, fill, constant_values=-np.inf)
    starts = [range(0, size - window + 1, stride) for size in x.shape[1:3]]
    rows = [
        [reduce(x[:, i : i + window, j : j + window], (1, 2)) for j in starts[1]] for i in starts[0]
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


SHAPES = [(2, 2, 0), (3, 2, 0), (2, 1, 0), (5, 3, 0), (1, 1, 0)]


@pytest.mark.parametrize(("window", "stride", "padding"), SHAPES)
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_average(size, window, stride, padding):
    x = images(2, *size, 3)
    np.testing.assert_allclose(
        avg_pool(jnp.asarray(x), window, stride),
        pooled(x, window, stride, padding, np.mean),
        rtol=1e-12,
    )


def test_average_of_whole_numbers_is_no_whole_number():
    x = jnp.arange(16, dtype=jnp.int32).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(avg_pool(x, 2, 2).ravel(), [2.5, 4.5, 10.5, 12.5])
    bright = jnp.full((1, 4, 4, 1), 200, jnp.uint8)
    np.testing.assert_array_equal(avg_pool(bright, 2, 2), np.full((1, 2, 2, 1), 200, np.float32))


@pytest.mark.parametrize(("window", "stride", "padding"), [*SHAPES, (3, 2, 1), (2, 2, 1)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_maximum(size, window, stride, padding):
    x = images(2, *size, 3)
    np.testing.assert_array_equal(
        max_pool(jnp.asarray(x), window, stride, padding),
        pooled(x, window, stride, padding, np.max),
    )


@pytest.mark.parametrize("pool", [avg_pool, max_pool])
@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2)])
def test_first_and_second_derivatives(pool, window, stride):
    x = jnp.asarray(images(1, 5, 6, 2))
    check_grads(
        jax.jit(lambda x: jnp.sin(3 * pool(x**2 + x, window, stride))), (x,), order=2, eps=1e-6
    )


def test_average_gradient_is_one_share_each():
    ours = jax.grad(lambda x: jnp.sum(avg_pool(x, 2, 2)))(jnp.zeros((1, 5, 4, 1)))
    expected = np.full((5, 4), 0.25)
    expected[4] = 0
    np.testing.assert_allclose(ours[0, :, :, 0], expected)


def test_first_of_equal_maxima_takes_the_gradient():
    ours = jax.grad(lambda x: jnp.sum(max_pool(x, 2, 2)))(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(ours[0, :, :, 0], [[1, 0], [0, 0]])


def test_maximum_of_nan_is_nan():
    x = jnp.zeros((1, 2, 2, 1)).at[0, 1, 0, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(x, 2, 2)).all()


@pytest.mark.parametrize("pool", [avg_pool, max_pool])
def test_a_window_larger_than_the_image_is_refused(pool):
    with pytest.raises(ValueError, match="does not fit"):
        pool(jnp.zeros((1, 2, 8, 1)), 3, 1)


@pytest.mark.parametrize(
    ("groups", "size", "window", "stride", "platform"),
    [(2, (6, 6), 2, 2, "cpu"), (6, (5, 7), 3, 2, "cpu"), (6, (6, 6), 2, 2, "gpu")],
)
def test_norm_relu_and_pooling_in_one_are_the_three_in_turn(groups, size, window, stride, platform):
    """Value, gradient, and the gradient's tangent, all to 1e-12 relative to the largest entry."""
    rng = np.random.default_rng(1)
    x, scale, bias = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, *size, 6), (6,), (6,)))
    out = jax.eval_shape(lambda x: avg_pool(x, window, stride), x).shape
    weights = jnp.asarray(rng.normal(size=out))
    tangents = tuple(jnp.asarray(rng.normal(size=v.shape)) for v in (x, scale, bias))

    def in_one(x, scale, bias):
        return relu_avg_pool(x, group_affine(x, scale, bias, groups), window, stride)

    def in_turn(x, scale, bias):
        return avg_pool(jax.nn.relu(group_norm(x, scale, bias, groups)), window, stride)

    def everything(f):
        def energy(*arguments):
            y = f(*arguments)
            return jnp.sum(weights * y + y**3), y

        gradient = jax.grad(energy, argnums=(0, 1, 2), has_aux=True)
        return jax.jvp(gradient, (x, scale, bias), tangents)

    with compiling_for(platform):
        ours, theirs = (jax.tree.leaves(everything(f)) for f in (in_one, in_turn))
    assert len(ours) == 8
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.max(np.abs(b)))


def test_norm_relu_and_pooling_in_one_where_a_channel_is_constant():
    x = jnp.full((1, 4, 4, 2), 7.0)
    affine = group_affine(x, jnp.ones(2), jnp.asarray([0.5, -0.5]), 2)
    expected = np.broadcast_to([0.5, 0.0], (1, 2, 2, 2))
    np.testing.assert_allclose(relu_avg_pool(x, affine, 2, 2), expected)
