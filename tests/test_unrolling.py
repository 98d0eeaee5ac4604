"""The student's SGD against a plain loop, finite differences and the published code's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks, unrolling
from jdd.interop import params_from_torch
from jdd.losses import cross_entropy, soft_cross_entropy, trajectory_matching
from tests import parity
from tests.small_unrolling import STEPS, loss, outcome, problem


def by_adjoint(params, data, rate, plan, weights):
    return outcome(unrolling.sgd(loss, params, data, rate, plan), weights)


def by_loop(params, data, rate, plan, weights):
    @jax.jit
    def step(params, data, rate, entry):
        gradient = jax.grad(loss)(params, data, entry)
        return jax.tree.map(lambda p, g: p - rate * g, params, gradient)

    for t in range(STEPS):
        params = step(params, data, rate, jax.tree.map(lambda leaf, t=t: leaf[t], plan))
    return outcome(params, weights)


@pytest.fixture(scope="module")
def both():
    with jax.enable_x64(True):
        arguments = problem()
        ours = jax.jit(jax.value_and_grad(by_adjoint, argnums=(0, 1, 2)))(*arguments)
        theirs = jax.value_and_grad(by_loop, argnums=(0, 1, 2))(*arguments)
    return ours, theirs


@pytest.mark.parametrize(("checkpoints", "budget"), [(1, 0), (2, 0), (3, 0), (1, 2**30)])
def test_checkpoints_and_memory_budget_change_nothing(both, checkpoints, budget):
    def sparsely(params, data, rate, plan, weights):
        return outcome(unrolling.sgd(loss, params, data, rate, plan, checkpoints, budget), weights)

    with jax.enable_x64(True):
        ours = jax.jit(jax.value_and_grad(sparsely, argnums=(0, 1, 2)))(*problem())
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(both[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_keeping_products_of_several_students_at_once(both):
    """As on accelerators: segments under `vmap`, each with parameters and a plan of its own."""

    def keeping(params, data, rate, plan, weights):
        student = unrolling.sgd(loss, params, data, rate, plan, 0, 2**30)
        return outcome(student, weights)

    def mean(params, data, rate, plans, weights):
        each = jax.vmap(keeping, (0, None, None, 0, None))(params, data, rate, plans, weights)
        return jnp.mean(each)

    with jax.enable_x64(True):
        params, data, rate, plan, weights = problem()
        twice, plans = jax.tree.map(lambda v: jnp.stack([v, v]), (params, plan))
        gradient = jax.jit(jax.grad(mean, argnums=(1, 2)))(twice, data, rate, plans, weights)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(both[1][1][1:]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_teslas_gradient_holds_each_steps_parameters_constant():
    """Plain differentiation of θ_0 − α Σ ∇ℓ(θ_t, data), every θ_t behind a stop_gradient."""

    def by_sum(params, data, rate, plan, weights):
        total, current = params, params
        for t in range(STEPS):
            entry = jax.tree.map(lambda leaf, t=t: leaf[t], plan)
            held = jax.lax.stop_gradient(current)
            gradient = jax.grad(loss)(held, data, entry)
            total = jax.tree.map(lambda p, g: p - rate * g, total, gradient)
            current = jax.lax.stop_gradient(total)
        return outcome(total, weights)

    def by_tesla(params, data, rate, plan, weights):
        return outcome(unrolling.tesla(loss, params, data, rate, plan), weights)

    with jax.enable_x64(True):
        arguments = problem()
        ours, theirs, exact = (
            jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(*arguments)
            for f in (by_tesla, by_sum, by_adjoint)
        )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    a, b = (np.asarray(results[1][1]["images"]) for results in (ours, exact))
    assert 0.01 < np.linalg.norm(a - b) / np.linalg.norm(b) < 1


def test_the_student_is_that_of_a_plain_loop(both):
    np.testing.assert_allclose(both[0][0], both[1][0], rtol=1e-12)


@pytest.mark.parametrize("which", ["parameters", "images", "label logits", "step size"])
def test_gradient_is_that_of_a_plain_loop(both, which):
    pick = {
        "parameters": lambda g: jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g[0])]),
        "images": lambda g: g[1]["images"],
        "label logits": lambda g: g[1]["labels"],
        "step size": lambda g: g[2],
    }[which]
    with jax.enable_x64(True):
        ours, theirs = np.asarray(pick(both[0][1])), np.asarray(pick(both[1][1]))
    assert np.linalg.norm(theirs) > 1e-3
    assert np.linalg.norm(ours - theirs) < 1e-10 * np.linalg.norm(theirs)


@pytest.mark.parametrize("which", ["parameters", "data", "step size"])
def test_gradient_is_that_of_finite_differences(both, which):
    index = ["parameters", "data", "step size"].index(which)
    with jax.enable_x64(True):
        arguments = problem()
        rng = np.random.default_rng(7)
        direction = jax.tree.map(
            lambda a: jnp.asarray(rng.standard_normal(a.shape)), arguments[index]
        )
        value = jax.jit(by_adjoint)

        def at(epsilon):
            moved = jax.tree.map(lambda a, w: a + epsilon * w, arguments[index], direction)
            return float(value(*arguments[:index], moved, *arguments[index + 1 :]))

        # With longer ways along parameters or data a ReLU in one of the steps changes its side.
        epsilon = 1e-5 if which == "step size" else 1e-7
        slope = (at(epsilon) - at(-epsilon)) / (2 * epsilon)
        expected = sum(
            float(jnp.sum(g * w))
            for g, w in zip(
                jax.tree.leaves(both[0][1][index]), jax.tree.leaves(direction), strict=True
            )
        )
    assert slope == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_published_trajectory_matching(kind):
    """The numbers of the published PyTorch code; see tests/parity.py."""
    network = networks.create("ConvNet", 10, width=32)
    first, listed = parity.recipe()["loss_net_1x28"], parity.recipe()["mtt_1x28"]
    begin = parity.state(first["state"], first["seed"])
    rng = np.random.default_rng(listed["target_seed"])
    end = {
        name: begin[name] + np.float32(0.05) * rng.standard_normal(shape).astype(np.float32)
        for name, shape in listed["order"]
    }
    start, target = (
        params_from_torch(network, state, (28, 28, 1))["params"] for state in (begin, end)
    )
    label_logits = rng.standard_normal((20, 10)).astype(np.float32)
    labels = {"hard": jnp.arange(20) // 2, "soft": jnp.asarray(label_logits)}[kind]
    batches = jnp.asarray(parity.outputs()["mtt/1x28/batches"], jnp.int32)
    data = {"images": jnp.asarray(parity.image(421, 20))}
    if kind == "soft":
        data["labels"] = labels

    def step_loss(params, data, batch):
        logits = network.apply({"params": params}, data["images"][batch])
        if kind == "soft":
            return soft_cross_entropy(logits, data["labels"][batch])
        return cross_entropy(logits, labels[batch])

    @jax.jit
    def matched(data, rate):
        student = unrolling.sgd(step_loss, start, data, rate, batches)
        return trajectory_matching(student, start, target)

    value, (of_data, of_rate) = jax.value_and_grad(matched, argnums=(0, 1))(data, jnp.float32(0.02))
    expected = {key: parity.outputs()[f"mtt/1x28/{kind}/{key}"] for key in ("loss", "grad_lr")}
    assert parity.relative_error(value, expected["loss"]) < 1e-5
    assert parity.relative_error(of_rate, expected["grad_lr"]) < 1e-3
    stored = parity.outputs()[f"mtt/1x28/{kind}/grad_images"]
    assert parity.relative_error(of_data["images"], stored) < 2e-3
    if kind == "soft":
        stored = parity.outputs()["mtt/1x28/soft/grad_labels"]
        assert parity.relative_error(of_data["labels"], stored) < 1e-3


@pytest.mark.parametrize(("size", "batch", "steps"), [(10, 3, 11), (6, 6, 2), (7, 2, 3)])
def test_batches_of_a_pass_share_no_example(size, batch, steps):
    plan = np.asarray(unrolling.batch_plan(jax.random.key(0), size, batch, steps))
    assert plan.shape == (steps, batch)
    assert plan.min() >= 0 and plan.max() < size
    per_pass = size // batch
    for first in range(0, steps, per_pass):
        seen = plan[first : first + per_pass].ravel()
        assert len(set(seen)) == len(seen)
    passes = [plan[i : i + per_pass].ravel() for i in range(0, steps - per_pass + 1, per_pass)]
    if len(passes) > 1:
        assert not np.array_equal(passes[0], passes[1])


@pytest.mark.parametrize("batch", [0, 9])
def test_a_batch_of_all_is_every_example_once(batch):
    plan = np.asarray(unrolling.batch_plan(jax.random.key(0), 5, batch, 3))
    for row in plan:
        assert sorted(row) == list(range(5))
