"""What is written otherwise for a GPU: the values and derivatives of what it replaces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jdd import ops
from jdd.ops import _convolution_gpu as gpu
from jdd.ops import _linear
from jdd.ops._window import Window
from jdd.ops.target import compiling_for


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def all_of(function, *arguments):
    """Value, gradients of a weighted sum, and their tangents, in float64."""

    def energy(*arguments):
        y = function(*arguments)
        return jnp.sum(jnp.sin(y) * noise(*y.shape, seed=9)), y

    gradient = jax.grad(energy, argnums=tuple(range(len(arguments))), has_aux=True)
    tangents = tuple(noise(*v.shape, seed=7) for v in arguments)
    return jax.tree.leaves(jax.jvp(gradient, arguments, tangents))


def agree(ours, theirs, *arguments):
    for a, b in zip(all_of(ours, *arguments), all_of(theirs, *arguments), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("n", [4, 2000])
def test_a_small_product_is_a_sum(n):
    x, kernel = (jnp.float32(noise(*shape)) for shape in ((n, 40), (40, 10)))
    with compiling_for("gpu"):
        text = jax.jit(ops.dense).lower(x, kernel).as_text()
        np.testing.assert_allclose(ops.dense(x, kernel), x @ kernel, rtol=1e-4, atol=1e-4)
    assert ("dot_general" in text) == (n == 2000)


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 2), (3, 1)), ((0, 0), (0, 0))])
def test_grey_images_are_convolved_by_sums(padding):
    window = Window((5, 6), (3, 3), padding, (1, 1))
    x, w = noise(2, 5, 6, 1), noise(3, 3, 1, 4, seed=1)
    convolved = functools.partial(ops.conv2d, padding=padding)
    agree(lambda x, w: gpu.forward(x, w, window), convolved, x, w)
    g = noise(2, *window.output, 4, seed=2)

    def pulled(g, w):
        return jax.vjp(lambda x: convolved(x, w), x)[1](g)[0]

    agree(lambda g, w: gpu.input_gradient(g, w, window), pulled, g, w)
    assert gpu.takes(x.astype(jnp.float32), w, window)
    assert not gpu.takes(x.astype(jnp.bfloat16), w, window)
    assert not gpu.takes(x.astype(jnp.float32), noise(3, 3, 2, 4), window)
    assert not gpu.takes(x.astype(jnp.float32), w, window._replace(strides=(2, 2)))


@pytest.mark.parametrize("lowered", [_linear._sums, _linear._sums_on_a_gpu])
def test_sums_over_pixels(lowered):
    a, b = noise(3, 4, 5, 2), noise(3, 4, 5, 2, seed=1)
    for ours, v in zip(lowered(a, b), (a, b), strict=True):
        np.testing.assert_allclose(ours, v.sum((1, 2)), rtol=1e-12)


def test_sums_over_pixels_and_their_derivatives_also_under_vmap():
    a, b = noise(3, 4, 5, 2), noise(3, 4, 5, 2, seed=1)

    def energy(a, b):
        first, second = _linear.pixel_sums(a, a * b)
        return jnp.sum(first * jnp.sin(second))

    check_grads(energy, (a, b), order=2, modes=("fwd", "rev"), rtol=1e-6)
    several = jnp.stack([a, b])
    for axes, arguments in (((0, None), (several, b)), ((0, 0), (several, several[::-1]))):
        both = jax.vmap(_linear.pixel_sums, in_axes=axes)(*arguments)
        for ours, v, axis in zip(both, arguments, axes, strict=True):
            expected = jnp.sum(v, (-3, -2))
            np.testing.assert_allclose(
                ours, expected if axis == 0 else jnp.stack([expected] * 2), rtol=1e-12
            )


def test_a_product_with_what_is_in_memory_is_a_product():
    agree(_linear.product_with_written, jnp.multiply, noise(3, 1, 1, 2), noise(3, 4, 5, 2, seed=1))


def test_what_is_written_is_what_it_was():
    with compiling_for("gpu"):
        agree(ops.written, lambda v: v, noise(2, 3))
        assert "optimization_barrier" in jax.jit(ops.written).lower(noise(2, 3)).as_text()
