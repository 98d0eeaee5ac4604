"""Normalisation against closed forms in NumPy, float64: values, gradients, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jdd.ops import group_norm, layer_norm
from jdd.ops.target import compiling_for

EPS = 1e-5


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def platform(request):
    """The moments are taken in one way for a CPU and in another for all else."""
    with compiling_for(request.param):
        yield


on_both = pytest.mark.parametrize("platform", ["cpu", "gpu"], indirect=True)


def arrays(channels=8):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5, channels)) * 2 + 1
    return x, rng.normal(size=channels), rng.normal(size=channels), rng.normal(size=x.shape)


def closed_form(x, scale, bias, cotangent, groups, eps=EPS):
    """Value, and the gradients of <cotangent, value> for x, scale and bias."""
    n, h, w, c = x.shape
    split = lambda v: v.reshape(n, h, w, groups, c // groups)  # noqa: E731
    mean = lambda v: split(v).mean((1, 2, 4), keepdims=True)  # noqa: E731
    deviation = np.sqrt(split(x).var((1, 2, 4), keepdims=True) + eps)
    normal = ((split(x) - mean(x)) / deviation).reshape(x.shape)
    pulled = cotangent * scale
    through = split(pulled) - mean(pulled) - split(normal) * mean(pulled * normal)
    return (
        normal * scale + bias,
        (through / deviation).reshape(x.shape),
        np.sum(cotangent * normal, tuple(range(4 - scale.ndim))),
        np.sum(cotangent, tuple(range(4 - bias.ndim))),
    )


def value_and_gradients(f, x, scale, bias, cotangent):
    y, pull = jax.vjp(f, *(jnp.asarray(v) for v in (x, scale, bias)))
    return (y, *pull(jnp.asarray(cotangent)))


@on_both
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_group_norm(platform, groups):
    args = arrays()
    ours = value_and_gradients(lambda *a: group_norm(*a, groups, EPS), *args)
    for a, b in zip(ours, closed_form(*args, groups), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@on_both
def test_layer_norm(platform):
    x, _, _, cotangent = arrays()
    rng = np.random.default_rng(1)
    scale, bias = rng.normal(size=x.shape[1:]), rng.normal(size=x.shape[1:])
    ours = value_and_gradients(lambda *a: layer_norm(*a, EPS), x, scale, bias, cotangent)
    for a, b in zip(ours, closed_form(x, scale, bias, cotangent, 1), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("platform", "groups"), [("cpu", 2), ("cpu", 4), ("gpu", 4)], indirect=["platform"]
)
def test_second_derivatives(platform, groups):
    x, scale, bias, _ = (jnp.asarray(v) for v in arrays(channels=4))
    for f in (lambda *a: group_norm(*a, groups), lambda x, *_: layer_norm(x, scale, bias)):
        curved = jax.jit(lambda *a, f=f: jnp.sin(f(*a)))
        check_grads(curved, (x, scale, bias), order=2, eps=1e-6, rtol=1e-5)


@on_both
@pytest.mark.parametrize("groups", [1, 4])
def test_a_large_mean_costs_no_precision(platform, groups):
    """E[x²] - E[x]² would lose every digit here."""
    x, scale, bias, cotangent = arrays(channels=4)
    x = x + 1000
    y = group_norm(*(jnp.asarray(v, jnp.float32) for v in (x, scale, bias)), groups)
    assert y.dtype == jnp.float32
    expected = closed_form(x.astype(np.float32).astype(float), scale, bias, cotangent, groups)[0]
    np.testing.assert_allclose(y, expected, atol=2e-3)


@on_both
def test_a_constant_channel_stays_finite(platform):
    y = group_norm(jnp.full((1, 4, 4, 2), 7.0), jnp.ones(2), jnp.full(2, 0.5), 2)
    np.testing.assert_allclose(y, 0.5, atol=1e-12)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        group_norm(jnp.zeros((1, 4, 4, 6)), jnp.ones(6), jnp.zeros(6), 4)


@pytest.mark.parametrize("large", [False, True])
def test_factors_in_memory_change_nothing(monkeypatch, large):
    """Value, gradient and the gradient's tangent, also under `vmap`, and for a single image."""
    monkeypatch.setattr("jdd.ops._linear._LARGE", 1 if large else 2**40)
    x, scale, bias = (jnp.asarray(v) for v in arrays(6)[:3])

    def energy(x, scale, bias):
        return jnp.sum(jnp.sin(group_norm(x, scale, bias, 6, EPS)))

    def everything(x):
        gradient = jax.grad(energy, argnums=(0, 1, 2))
        return jax.jvp(gradient, (x, scale, bias), (jnp.cos(x), bias, scale))

    whole = jax.tree.leaves(jax.jit(jax.vmap(everything))(x[:, None]))
    text = jax.jit(everything).lower(x[:1]).as_text()
    assert ("while" in text) == large
    monkeypatch.setattr("jdd.ops._linear._LARGE", 2**40)
    for i in range(3):
        alone = jax.tree.leaves(everything(x[i : i + 1]))
        for a, b in zip(whole, alone, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-12, atol=1e-12)


@on_both
def test_sums_of_half_precision_do_not_overflow(platform):
    x = 2 * jnp.asarray(np.random.default_rng(0).standard_normal((1, 256, 256, 2)), jnp.float16)
    one = jnp.ones(2, jnp.float16)
    assert bool(jnp.isfinite(group_norm(x, one, 0 * one, 2)).all())
