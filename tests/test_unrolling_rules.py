"""Adam and momentum inside a student against plain loops, finite differences and Optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jdd import networks, unrolling
from jdd.losses import cross_entropy
from jdd.training import batch_loss
from tests.small_unrolling import outcome, problem, soft_cross_entropy64

NETWORK = networks.create("ConvNet", 3, width=4, depth=1, activation="sigmoid")
A, B, EPSILON = 0.9, 0.999, 1e-8
RULES = {"adam": unrolling.Adam(), "momentum": unrolling.Momentum(0.9, 0.01)}
RATES = {"adam": 0.01, "momentum": 0.1}
BEFORE = 2  # steps that the student has made before those that are differentiated


def loss(params, data, entry):
    """A smooth one, so that finite differences are clean: a batch, a network, soft labels."""
    logits = NETWORK.apply({"params": params}, data["images"][entry])
    return soft_cross_entropy64(logits, data["labels"][entry])


def start(rule, params):
    """A state with moments, as two earlier steps leave it."""
    state = rule.start(params)
    rng = np.random.default_rng(5)
    for _ in range(BEFORE):
        gradient = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)
        state = rule.advance(state, gradient, jnp.asarray(0.0))
    return state


def adam_loop(state, data, rate, plan):
    """Algorithm 1 of the paper, in the order and with the names that it has."""

    def step(carry, batch):
        theta, m, v, t = carry
        g = jax.grad(loss)(theta, data, batch)
        t = t + 1
        m = jax.tree.map(lambda m, g: A * m + (1 - A) * g, m, g)
        v = jax.tree.map(lambda v, g: B * v + (1 - B) * g**2, v, g)
        m_hat = jax.tree.map(lambda m: m / (1 - A**t), m)
        v_hat = jax.tree.map(lambda v: v / (1 - B**t), v)
        theta = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), theta, m_hat, v_hat
        )
        return (theta, m, v, t), None

    first = (state.params, state.mean, state.square, jnp.asarray(BEFORE))
    (theta, m, v, _), _ = jax.lax.scan(step, first, plan)
    return theta, (m, v)


def momentum_loop(state, data, rate, plan):
    """PyTorch's SGD with momentum 0.9 and weight decay 0.01."""

    def step(carry, batch):
        theta, velocity = carry
        g = jax.grad(loss)(theta, data, batch)
        velocity = jax.tree.map(lambda u, g, p: 0.9 * u + (g + 0.01 * p), velocity, g, theta)
        return (jax.tree.map(lambda p, u: p - rate * u, theta, velocity), velocity), None

    (theta, velocity), _ = jax.lax.scan(step, (state.params, state.velocity), plan)
    return theta, (velocity,)


LOOPS = {"adam": adam_loop, "momentum": momentum_loop}


def value(final, moments, weights):
    """Depends on all of the last state: its moments are results too."""
    return outcome(final, weights) + 3.0 * sum(outcome(of, weights) for of in moments)


def by_adjoint(name, checkpoints=0, budget=0):
    def run(state, data, rate, plan, weights):
        last = unrolling.descend(loss, RULES[name], state, data, rate, plan, checkpoints, budget)
        moments = (last.mean, last.square) if name == "adam" else (last.velocity,)
        return value(last.params, moments, weights)

    return run


def case(name):
    params, data, _, (plan, _), weights = problem(NETWORK)
    return start(RULES[name], params), data, jnp.asarray(RATES[name]), plan, weights


@functools.cache
def plain(name):
    """Value and gradients by plain differentiation of a plain loop, in float64."""

    def by_loop(state, data, rate, plan, weights):
        return value(*LOOPS[name](state, data, rate, plan), weights)

    with jax.enable_x64(True):
        return jax.jit(jax.value_and_grad(by_loop, argnums=(0, 1, 2)))(*case(name))


@pytest.mark.parametrize(
    ("name", "checkpoints", "budget"),
    [
        ("adam", 0, 0),
        pytest.param("adam", 2, 0, marks=pytest.mark.slow),
        pytest.param("adam", 0, 2**30, marks=pytest.mark.slow),
        ("momentum", 0, 2**30),
    ],
    ids=["all", "some", "products", "momentum"],
)
def test_value_and_gradient_are_those_of_a_plain_loop(name, checkpoints, budget):
    expected, gradients = plain(name)
    with jax.enable_x64(True):
        run = by_adjoint(name, checkpoints, budget)
        got, ours = jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2)))(*case(name))
    assert got == pytest.approx(float(expected), rel=1e-12)
    parts = {
        "parameters": lambda g: g[0].params,
        "moments": lambda g: g[0][1:3],
        "images": lambda g: g[1]["images"],
        "labels": lambda g: g[1]["labels"],
        "step size": lambda g: g[2],
    }
    for part, pick in parts.items():
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(pick(g))])
            for g in (ours, gradients)
        )
        assert np.linalg.norm(b) > 1e-4, part
        assert np.linalg.norm(a - b) < 1e-9 * np.linalg.norm(b), part


def test_gradient_is_that_of_finite_differences():
    name = "adam"
    with jax.enable_x64(True):
        state, data, rate, plan, weights = case(name)
        run = jax.jit(jax.value_and_grad(by_adjoint(name), argnums=(1, 2)))
        _, gradient = run(state, data, rate, plan, weights)
        rng = np.random.default_rng(8)
        for which in ("images", "labels", "step size"):
            along = {k: jnp.zeros_like(v) for k, v in data.items()}
            if which != "step size":
                along[which] = jnp.asarray(rng.standard_normal(along[which].shape))
            direction = (along, jnp.asarray(1.0 if which == "step size" else 0.0))

            values = []
            for e in (1e-5, -1e-5):
                moved = jax.tree.map(lambda v, d, e=e: v + e * d, (data, rate), direction)
                values.append(float(run(state, *moved, plan, weights)[0]))
            slope = (values[0] - values[1]) / 2e-5
            pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
            expected = float(sum(jnp.sum(g * d) for g, d in pairs))
            assert slope == pytest.approx(expected, rel=1e-6), which


def test_adam_is_optaxs_and_momentum_is_optaxs():
    """From the first step on, where the corrections of the moments are largest."""
    peers = {
        "adam": optax.adam(0.01),
        "momentum": optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.01, momentum=0.9)),
    }
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = jnp.asarray(rng.standard_normal((4, 3)))
        for name, peer in peers.items():
            state, theirs, moments = RULES[name].start(params), params, peer.init(params)
            for _ in range(5):
                gradient = jnp.asarray(rng.standard_normal((4, 3)))
                state = RULES[name].advance(state, gradient, jnp.asarray(0.01))
                change, moments = peer.update(gradient, moments, theirs)
                theirs = optax.apply_updates(theirs, change)
            np.testing.assert_allclose(state.params, theirs, rtol=1e-10)


def test_adam_where_a_gradient_is_zero_from_the_start():
    """A unit that never fires leaves v at 0, where the root has no derivative: no NaN comes of it,
    and the gradient to the data is that of the same student without the unit."""

    def student_loss(params, data, entry):
        hidden = jax.nn.relu(data @ params["in"] + params["bias"])
        return jnp.mean((hidden @ params["out"] - entry) ** 2)

    def gradient(units):
        rng = np.random.default_rng(3)
        params = {
            "in": jnp.asarray(rng.standard_normal((3, 4)))[:, :units],
            "bias": jnp.asarray([0.1, 0.2, 0.3, -1e3])[:units],
            "out": jnp.asarray(rng.standard_normal((4, 1)))[:units],
        }
        data, plan = jnp.asarray(rng.standard_normal((5, 3))), jnp.asarray([1.0, -1.0, 0.5])

        def value(data, rate):
            state = unrolling.Adam().start(params)
            last = unrolling.descend(student_loss, unrolling.Adam(), state, data, rate, plan)
            return student_loss(last.params, data, 0.3)

        return jax.grad(value, argnums=(0, 1))(data, jnp.asarray(0.05))

    with jax.enable_x64(True):
        with_dead, without = gradient(4), gradient(3)
    assert np.linalg.norm(without[0]) > 1e-3
    for a, b in zip(with_dead, without, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.slow
def test_adam_in_float32_agrees_with_float64():
    """20 steps of the network that methods have, its biases before the norm among them: their
    gradient is rounding alone, and Adam divides it by its own size."""
    network = networks.create("ConvNet", 3, width=8, depth=2)

    def step_loss(params, data, entry):
        return batch_loss(network, params, {}, entry * data, jnp.arange(6) % 3)[0]

    def gradient(kind):
        rng = np.random.default_rng(0)
        data = jnp.asarray(rng.standard_normal((6, 8, 8, 1)), kind)
        real = jnp.asarray(rng.standard_normal((6, 8, 8, 1)), kind)
        params = network.init(jax.random.key(0), data.astype(jnp.float32))["params"]
        state = unrolling.Adam().start(jax.tree.map(lambda p: p.astype(kind), params))
        plan = jnp.linspace(0.9, 1.1, 20).astype(kind)

        def value(data):
            rate = jnp.asarray(1e-3, kind)
            last = unrolling.descend(step_loss, unrolling.Adam(), state, data, rate, plan)
            return step_loss(last.params, real, jnp.asarray(1.0, kind))

        return np.asarray(jax.jit(jax.grad(value))(data))

    ours = gradient("float32")
    with jax.enable_x64(True):
        exact = gradient("float64")
    assert np.linalg.norm(ours - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize(("kind", "most"), [("auto", 1.5), ("constant", 1.05)])
def test_memory_hardly_grows_with_the_number_of_steps(kind, most):
    if kind == "auto" and jax.default_backend() != "cpu":
        pytest.skip("only a CPU keeps fewer states than there are steps")
    network = networks.create("ConvNet", 3, width=8, depth=1, norm="none")
    data = jnp.ones((6, 16, 16, 1))
    params = network.init(jax.random.key(0), data)["params"]

    def step_loss(params, data, entry):
        return cross_entropy(network.apply({"params": params}, entry * data), jnp.arange(6) % 3)

    def memory(steps):
        def value(data):
            state = unrolling.Adam().start(params)
            checkpoints = unrolling.checkpoints_for(steps, kind)
            plan = jnp.linspace(0.9, 1.1, steps)
            last = unrolling.descend(
                step_loss, unrolling.Adam(), state, data, jnp.float32(1e-3), plan, checkpoints
            )
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(last.params))

        compiled = jax.jit(jax.grad(value)).lower(data).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(80) < most * memory(20)
