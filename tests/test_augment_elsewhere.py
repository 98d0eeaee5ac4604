"""DSA as accelerators have it, without a branch: the images and gradients of the CPU's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd.augment import WITH_FLIP, augment, augment_each, draw_ahead
from jdd.augment._affine import (
    Affine,
    _gather,
    _gather_transposed,
    _products,
    matrix_of,
    sample_affine,
)
from jdd.ops.target import compiling_for

GROWTH = 2**0.5


def noise(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def turned(degrees, *shifts):
    """Rotations, each with a shift of rows and columns."""
    angle = np.deg2rad(np.asarray(degrees, np.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = (jnp.asarray(s, jnp.float32) for s in shifts)
    return Affine(cos, sin, y, -sin, cos, x)


def augmented(seed, images, cotangent):
    out, pull = jax.vjp(lambda x: augment(jax.random.key(seed), x, WITH_FLIP), images)
    return out, pull(cotangent)[0]


def test_images_and_gradients_are_those_of_the_branches():
    """In float64, where nothing but the function decides; see `_gather` for float32."""
    with jax.enable_x64(True):
        images, cotangent = (noise(3, 6, 7, 2, seed=i, dtype=np.float64) for i in range(2))
        branches = jax.jit(augmented)
        with compiling_for("cpu"):
            expected = [branches(seed, images, cotangent) for seed in range(20)]
        with compiling_for("gpu"):
            text = branches.lower(0, images, cotangent).as_text()
            computed = [branches(seed, images, cotangent) for seed in range(20)]
    assert "case" not in text and "scatter" not in text
    assert len({np.asarray(out).tobytes() for out, _ in expected}) > 15  # of all kinds
    for ours, theirs in zip(computed, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_products_are_what_gathering_gives_and_so_are_their_transposes():
    images = noise(3, 6, 7, 2)
    several = matrix_of(turned([10, -40, 200], [0, 1, -2], [0.5, 0, 1]))

    @jax.jit
    def all_of_them(images):
        pairs = []
        for matrix in (several, several[:1]):
            products = functools.partial(_products, matrix=matrix, reach=1)
            transposed = jax.linear_transpose(products, images)(images)[0]
            pairs.append((products(images), _gather(images, matrix, 1)))
            pairs.append((_gather_transposed(images, matrix, 1), transposed))
        return pairs

    for ours, theirs in all_of_them(images):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_a_transform_for_each_image_is_the_same():
    with jax.enable_x64(True):
        images = noise(9, 12, 9, 1, dtype=np.float64)
        each = jax.jit(lambda images: augment_each(jax.random.key(1), images))
        with compiling_for("cpu"):
            expected = each(images)
        with compiling_for("gpu"):
            np.testing.assert_allclose(each(images), expected, rtol=0, atol=1e-12)
    assert (np.abs(expected - images).max((1, 2, 3)) > 0.1).all()


def test_sampling_is_linear_and_each_image_is_its_own_under_vmap():
    images, other = noise(2, 5, 6, 1), noise(2, 5, 6, 1, seed=1)
    affine = matrix_of(turned([10, -30], [1, 0], [0, 2]))
    sample = jax.jit(lambda x, a: sample_affine(x, a, GROWTH))
    value, tangent = jax.jvp(lambda x: sample(x, affine), (images,), (other,))
    np.testing.assert_allclose(value, sample(images, affine), atol=1e-6)
    np.testing.assert_allclose(tangent, sample(other, affine), atol=1e-6)
    pull = jax.linear_transpose(lambda x: sample(x, affine), images)
    assert jnp.vdot(tangent, images) == pytest.approx(float(jnp.vdot(other, pull(images)[0])), 1e-4)
    both = jax.vmap(sample)(jnp.stack([images, other]), affine[:, None])
    for i, each in enumerate((images, other)):
        alone = sample(each, affine[i : i + 1])
        np.testing.assert_allclose(both[i], alone, atol=1e-6)


def test_what_is_drawn_ahead_is_what_is_drawn_in_each_step():
    keys, images = jax.random.split(jax.random.key(0), 3), noise(4, 6, 7, 1)

    @jax.jit
    def both(keys):
        drawn = draw_ahead(keys, "crop_flip", images.shape, images.dtype)
        last = jax.tree.map(lambda v: v[-1], drawn)
        return augment(last, images, "crop_flip"), augment(keys[-1], images, "crop_flip")

    with compiling_for("gpu"):
        np.testing.assert_allclose(*both(keys), atol=1e-6)
        assert draw_ahead(keys, "none", images.shape, images.dtype) is keys
    with compiling_for("cpu"):
        assert draw_ahead(keys, WITH_FLIP, images.shape, images.dtype) is keys


def test_drawn_in_another_order_each_image_keeps_what_it_drew():
    images, order = noise(4, 6, 7, 1), jnp.array([2, 0, 3, 1])
    with compiling_for("gpu"):
        drawn = jax.tree.map(
            lambda v: v[0],
            draw_ahead(jax.random.split(jax.random.key(4), 1), "crop_cutout", (4, 6, 7, 1)),
        )
        batch = augment(drawn, images[order], "crop_cutout")
        in_place = augment(drawn.reordered(jnp.argsort(order)), images, "crop_cutout")
    np.testing.assert_array_equal(in_place[order], batch)
