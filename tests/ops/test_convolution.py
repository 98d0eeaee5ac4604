"""The convolution against XLA's own, in float64: values and derivatives of the first two orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jdd.ops import conv2d
from tests.ops.convolutions import CASES, agree, arrays, energy, reference


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients(case):
    point, direction, options = arrays(case)
    for f in (
        lambda conv: conv(*point, *options),
        lambda conv: jax.grad(energy(conv, options), (0, 1))(*point),
        lambda conv: jax.jvp(energy(conv, options), point, direction),
    ):
        agree(jax.jit(lambda f=f: f(conv2d))(), jax.jit(lambda f=f: f(reference))())


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow if c == "wide, by rows" else ()) for c in CASES],
)
def test_second_derivatives(case):
    point, direction, options = arrays(case)

    def slope(conv):
        def inner(x, w):
            dx, dw = jax.grad(energy(conv, options), (0, 1))(x, w)
            return jnp.sum(dx * direction[0]) + jnp.sum(dw * direction[1])

        return inner

    def forward_over_reverse(conv):
        return jax.jvp(jax.grad(energy(conv, options), (0, 1)), point, direction)

    def reverse_over_reverse(conv):
        return jax.grad(slope(conv), (0, 1))(*point)

    def reverse_over_forward(conv):
        return jax.grad(lambda *p: jax.jvp(energy(conv, options), p, direction)[1], (0, 1))(*point)

    for f in (forward_over_reverse, reverse_over_reverse, reverse_over_forward):
        agree(jax.jit(lambda f=f: f(conv2d))(), jax.jit(lambda f=f: f(reference))())


def loss(conv):
    """A network of two convolutions, its gradient for `(x, w, v)` and that gradient's tangent."""

    def value(x, w, v):
        return jnp.sum(jnp.tanh(conv(jax.nn.relu(conv(x, w, 1)), v, 1)) ** 2)

    def all_orders(x, w, v):
        point = (x, w, v)
        return jax.jvp(jax.grad(value, (0, 1, 2)), point, jax.tree.map(jnp.sin, point))

    return all_orders


def network_arrays(n=3, models=None):
    rng = np.random.default_rng(1)
    lead = () if models is None else (models,)
    shapes = (*lead, n, 6, 5, 2), (*lead, 3, 3, 2, 6), (*lead, 3, 3, 6, 3)
    return [jnp.asarray(rng.normal(size=s)) for s in shapes]


@pytest.mark.parametrize("mapped", [(0,), (1,), (0, 1), (1, 2), (0, 1, 2)])
def test_vmap(mapped):
    many, one = network_arrays(models=4), network_arrays()
    args = [many[i] if i in mapped else one[i] for i in range(3)]
    axes = [0 if i in mapped else None for i in range(3)]
    ours = jax.jit(jax.vmap(loss(conv2d), axes))(*args)
    each = [
        loss(reference)(*(a[k] if d == 0 else a for a, d in zip(args, axes, strict=True)))
        for k in range(4)
    ]
    agree(ours, jax.tree.map(lambda *v: jnp.stack(v), *each))


def test_vmap_of_vmap_and_other_axes():
    x, w, v = network_arrays(models=6)
    x = x.reshape(2, 3, *x.shape[1:])
    w = w.reshape(3, 2, *w.shape[1:])
    inner = jax.vmap(loss(conv2d), (0, 0, None))
    ours = jax.jit(jax.vmap(inner, (0, 1, 0)))(x, w, v[:2])
    each = [
        jax.tree.map(
            lambda *a: jnp.stack(a), *[loss(reference)(x[i, j], w[j, i], v[i]) for j in range(3)]
        )
        for i in range(2)
    ]
    agree(ours, jax.tree.map(lambda *a: jnp.stack(a), *each))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_training_unrolled_in_a_scan(checkpoint):
    """Derivatives of the result of a few steps of SGD, as trajectory matching takes them."""
    x, w, v = network_arrays()

    def trained(conv):
        def value(parameters, x):
            w, v = parameters
            return jnp.sum(jnp.tanh(conv(jax.nn.relu(conv(x, w, 1)), v, 1)) ** 2)

        def result(x):
            def turn(parameters, _):
                grads = jax.grad(value)(parameters, x)
                return jax.tree.map(lambda p, g: p - 0.01 * g, parameters, grads), None

            turn = jax.checkpoint(turn) if checkpoint else turn
            return sum(jnp.sum(p**2) for p in jax.lax.scan(turn, (w, v), None, length=3)[0])

        return jax.value_and_grad(result)

    agree(jax.jit(trained(conv2d))(x), jax.jit(trained(reference))(x))


@pytest.mark.parametrize("branch", [0, 1])
def test_cond_and_switch(branch):
    x, w, v = network_arrays()

    def chosen(conv):
        def value(x, w, v):
            a = lax.cond(branch == 0, lambda: conv(x, w, 1), lambda: 2 * conv(x, w, 1))
            return jnp.sum(lax.switch(branch, [lambda: conv(a, v, 1) ** 2, lambda: conv(a, v, 1)]))

        return jax.grad(value, (0, 1, 2))

    agree(jax.jit(chosen(conv2d))(x, w, v), chosen(reference)(x, w, v))


@pytest.mark.parametrize(
    "case", ["parts of the batch", "parts of the batch, by rows", "wide, by rows"]
)
def test_shard_map(case):
    """A kernel that all devices share gets the sum of their gradients."""
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    split, shared = jax.sharding.PartitionSpec("devices"), jax.sharding.PartitionSpec()
    (x, w), _, options = arrays(case)

    def gradients(conv):
        def total(x, w):
            return lax.psum(energy(conv, options)(x, w), "devices")

        specs = (split, shared)
        return jax.shard_map(jax.grad(total, (0, 1)), mesh=mesh, in_specs=specs, out_specs=specs)

    agree(jax.jit(gradients(conv2d))(x, w), jax.grad(energy(reference, options), (0, 1))(x, w))


def test_without_jit():
    point, _, options = arrays("3x3")
    agree(jax.grad(energy(conv2d, options))(*point), jax.grad(energy(reference, options))(*point))


def test_dtypes():
    x, w, _ = network_arrays()
    assert conv2d(x.astype(jnp.float32), w.astype(jnp.float32), 1).dtype == jnp.float32
    assert conv2d(x.astype(jnp.bfloat16), w.astype(jnp.float32), 1).dtype == jnp.float32
    low = conv2d(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), 1)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(float), reference(x, w, 1, 1), rtol=0.1, atol=0.3)


@pytest.mark.parametrize(
    ("x", "w", "options", "words"),
    [
        ((2, 8, 8, 3), (3, 3, 4, 5), (1, 1), "wants images"),
        ((8, 8, 3), (3, 3, 3, 5), (1, 1), "wants images"),
        ((2, 2, 8, 3), (5, 5, 3, 5), (0, 1), "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(x, w, options, words):
    with pytest.raises(ValueError, match=words):
        conv2d(jnp.zeros(x), jnp.zeros(w), *options)


@pytest.mark.parametrize(
    "case", ["3x3", "first layer of a grey image", "parts of the batch", "wide, by rows"]
)
def test_products_of_bfloat16_round_factors_and_result(case):
    """Each of the three products against float64's of the rounded factors."""
    (x, k), (_, dk), options = arrays(case)
    x, k, dk = (v.astype(jnp.float32) for v in (x, k, dk))
    g = jax.random.normal(jax.random.key(0), reference(x, k, *options).shape)
    g = g.astype(jnp.float32)

    def narrow(v):
        return v.astype(jnp.bfloat16).astype(jnp.float64)

    with jax.default_matmul_precision("bfloat16"):
        y, back = jax.vjp(lambda x, k: conv2d(x, k, *options), x, k)
        ours = (y, *back(g))
        tangent = jax.jvp(lambda k: conv2d(x, k, *options), (k,), (dk,))[1]
    y, back = jax.vjp(lambda x, k: reference(x, k, *options), narrow(x), narrow(k))
    theirs = (y, *back(narrow(g)))
    step = 2.0**-8
    for a, b in zip(
        (*ours, tangent), (*theirs, reference(narrow(x), narrow(dk), *options)), strict=True
    ):
        assert a.dtype == jnp.float32
        assert (a == narrow(a)).all(), "the result is not rounded"
        np.testing.assert_allclose(a, b, rtol=step, atol=step * 1e-2 * np.abs(b).max())
    exact = conv2d(x, k, *options)
    assert not (exact == narrow(exact)).all()
