"""Batches in parts against the same at once: a mean with two orders of derivative, and a map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd.ops import microbatched_map, microbatched_mean


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def loss(params, batch):
    images, labels = batch
    logits = jnp.tanh(images @ params["hidden"]) @ params["out"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))


def arrays(examples):
    rng = np.random.default_rng(0)
    params = {"hidden": rng.normal(size=(6, 5)), "out": rng.normal(size=(5, 3))}
    batch = rng.normal(size=(examples, 6)), rng.integers(0, 3, examples)
    return jax.tree.map(jnp.asarray, (params, batch))


def in_parts(params, batch):
    return microbatched_mean(loss, params, batch, 4)


def agree(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


# 12 and 15 divide into parts of 4 and 3 (or 5); 13 and 4 stay whole.
@pytest.mark.parametrize("examples", [12, 15, 13, 4])
def test_value_and_derivatives(examples):
    params, (images, labels) = arrays(examples)

    def gradient(mean):
        return lambda p, x: jax.value_and_grad(lambda p, x: mean(p, (x, labels)), (0, 1))(p, x)

    def tangent(mean):
        direction = jax.tree.map(jnp.cos, (params, images))
        return jax.jvp(gradient(mean), (params, images), direction)

    def second_gradient(mean):
        def size(p, x):
            return sum(jnp.sum(jnp.sin(g)) for g in jax.tree.leaves(gradient(mean)(p, x)[1]))

        return jax.grad(size, (0, 1))(params, images)

    agree(in_parts(params, (images, labels)), loss(params, (images, labels)))
    for f in (tangent, second_gradient):
        agree(jax.jit(lambda f=f: f(in_parts))(), jax.jit(lambda f=f: f(loss))())


def test_vmap_over_models():
    params, batch = arrays(12)
    models = jax.tree.map(lambda v: jnp.stack([v, 2 * v, -v]), params)
    ours = jax.vmap(jax.grad(in_parts), (0, None))(models, batch)
    agree(ours, jax.vmap(jax.grad(loss), (0, None))(models, batch))


def test_a_part_at_a_time_is_kept():
    """The point of it: what a gradient holds does not grow with the batch."""

    def held(mean, examples):
        batch = jnp.zeros((examples, 300)), jnp.zeros(examples, int)
        params = {"hidden": jnp.zeros((300, 400)), "out": jnp.zeros((400, 3))}
        compiled = jax.jit(jax.grad(mean)).lower(params, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    if jax.default_backend() != "cpu":
        pytest.skip("the batch is only divided on a CPU")
    ten_at_once = held(lambda p, b: microbatched_mean(loss, p, b), 2000)
    assert held(loss, 2000) > 3 * ten_at_once


@pytest.mark.parametrize(("images", "sizes"), [(1, {1}), (50, {50}), (300, {150}), (1000, {250})])
def test_images_mapped_in_parts_are_those_mapped_at_once(images, sizes):
    seen = []

    def described(scale, x):
        seen.append(x.shape[0])
        return {"sum": scale * jnp.sum(x, (1, 2, 3)), "first": x[:, 0]}

    x = jnp.asarray(np.random.default_rng(0).normal(size=(images, 8, 8, 2)), jnp.float32)
    mapped = microbatched_map(described, jnp.float32(3), x)
    assert set(seen) == sizes
    for ours, theirs in zip(*map(jax.tree.leaves, (mapped, described(3, x))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_last_part_that_is_not_full_is_cut_off():
    x = jnp.arange(7 * 64 * 64, dtype=jnp.float32).reshape(7, 64, 64, 1)  # four images a part
    np.testing.assert_array_equal(microbatched_map(lambda _, x: x[:, 0, 0], None, x), x[:, 0, 0])
