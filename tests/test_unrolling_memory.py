"""What an unrolled training keeps for its gradient: memory, products, the plan of the way back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks, unrolling
from jdd.losses import cross_entropy
from jdd.ops import microbatched_mean
from jdd.ops.target import compiling_for
from jdd.unrolling import _adjoint, _revolve
from tests.small_unrolling import NETWORK, loss, problem, soft_cross_entropy64


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in parts"])
def test_of_a_step_only_products_of_many_channels_are_kept(at_once):
    def of_batch(params, batch):
        logits = NETWORK.apply({"params": params}, batch["images"])
        return soft_cross_entropy64(logits, batch["labels"])

    def step_loss(params, data, entry):
        if at_once:
            return loss(params, data, entry)
        return microbatched_mean(of_batch, params, jax.tree.map(lambda v: v[entry[0]], data), 2)

    with jax.enable_x64(True):
        params, data, _, plan, _ = problem()
        first = jax.tree.map(lambda leaf: leaf[0], plan)
        gradient, products = jax.jit(
            lambda *arguments: _adjoint._gradient_and_products(step_loss, *arguments)
        )(params, first, data)
        expected = jax.grad(step_loss)(params, data, first)
    # The second layer sees 4 maps of 4×4×6; its output and the gradient to its input are as large.
    assert [v.size for v in jax.tree.leaves(products)] == [4 * 4 * 4 * 6] * 2
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_with_a_memory_budget_it_also_runs_without_jit():
    def value(data):
        params, plan = jnp.asarray([1.0, 2.0]), jnp.asarray([1.0, 0.5, 0.25])
        rate = jnp.float32(0.1)
        student = unrolling.sgd(
            lambda p, d, e: jnp.sum((e * p - d) ** 2), params, data, rate, plan, 0, 2**20
        )
        return jnp.sum(student)

    data = jnp.asarray([0.3, -0.2])
    with jax.disable_jit():
        ours = jax.grad(value)(data)
    np.testing.assert_allclose(ours, jax.jit(jax.grad(value))(data), rtol=1e-6)


def test_products_are_kept_where_all_steps_fit_into_the_memory_budget():
    def bytes_with(budget):
        return memory(10, "all", budget, width=8, depth=2)

    none = bytes_with(0)
    assert bytes_with(2**10) == none
    assert bytes_with(2**30) > none


def memory(steps, kind, budget=0, **options):
    """Bytes of temporary memory of the compiled gradient through `steps` steps."""
    options = {"width": 8, "depth": 1, "norm": "none", **options}
    network = networks.create("ConvNet", 3, **options)
    data = jnp.ones((6, 16, 16, 1))
    params = network.init(jax.random.key(0), data)["params"]

    def step_loss(params, data, entry):
        logits = network.apply({"params": params}, entry * data)
        return cross_entropy(logits, jnp.arange(6) % 3)

    def value(params, data, rate):
        plan = jnp.linspace(0.9, 1.1, steps)
        if kind == "tesla":
            student = unrolling.tesla(step_loss, params, data, rate, plan)
        else:
            checkpoints = unrolling.checkpoints_for(steps, kind)
            student = unrolling.sgd(step_loss, params, data, rate, plan, checkpoints, budget)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(student))

    compiled = jax.jit(jax.grad(value, argnums=(0, 1, 2))).lower(params, data, 0.1).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("kind", "most"), [("auto", 1.5), ("constant", 1.05), ("tesla", 1.05)])
def test_memory_hardly_grows_with_the_number_of_steps(kind, most):
    if kind == "auto" and jax.default_backend() != "cpu":
        pytest.skip("only a CPU keeps fewer parameters than there are steps")
    assert memory(80, kind) < most * memory(20, kind)


@pytest.mark.parametrize(("steps", "checkpoints"), [(2, 1), (9, 2), (40, 3), (66, 10), (160, 10)])
def test_the_backward_plan_passes_every_step_once_with_the_right_parameters(steps, checkpoints):
    """The moves carried out on step numbers in place of parameters."""
    places = [None] * (checkpoints + 1)
    for t, place in enumerate(_revolve.forward_plan(steps, checkpoints)):
        places[place] = t
    current, returned, again = 0, [], 0
    for loads, load, store, step, returns in zip(
        *_revolve.backward_plan(steps, checkpoints), strict=True
    ):
        current = places[load] if loads else current
        places[store] = current
        assert current == step
        if returns:
            returned.append(step)
        else:
            current, again = current + 1, again + 1
    assert returned == list(range(steps))[::-1]
    # The fewest steps that can be taken again, by the binomial formula of Griewank and Walther,
    # less those of the first pass, which the forward plan has made.
    repeats = next(r for r in range(steps) if math.comb(checkpoints + r, checkpoints) >= steps)
    fewest = repeats * steps - math.comb(checkpoints + repeats, checkpoints + 1)
    assert again <= fewest
    assert again >= fewest - steps
    if (steps, checkpoints) == (160, 10):
        assert again < 2 * steps


@pytest.mark.parametrize("budget", [0, 2**30])
def test_on_accelerators_small_parameters_are_packed_and_gradients_are_the_same(budget):
    """With the budget all that a step stores is a row of one array too."""
    params = {
        "kernel": jnp.linspace(-1, 1, 35000).reshape(350, 100),
        "bias": jnp.linspace(0, 1, 100),
        "scale": jnp.float32(0.5),
        "inner": {"bias": jnp.linspace(1, 2, 6).reshape(2, 3)},
    }
    data = {"x": jnp.linspace(-1, 1, 1050).reshape(3, 350)}
    seen = []

    def loss(params, data, entry):
        seen.append(jax.tree.structure(params))
        y = jnp.tanh(data["x"] @ params["kernel"] + params["bias"]) * params["scale"]
        return jnp.mean(y**2) + entry * jnp.sum(params["inner"]["bias"] ** 2)

    def outer(data, rate):
        plan = jnp.array([0.1, 0.2, 0.3])
        last = unrolling.sgd(loss, params, data, rate, plan, memory_budget=budget)
        assert jax.tree.structure(last) == jax.tree.structure(params)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last))

    gradient = jax.jit(jax.value_and_grad(outer, argnums=(0, 1)))
    programs = {}
    for name in ("cpu", "gpu"):
        with compiling_for(name):
            programs[name] = gradient(data, jnp.float32(0.3))
            text = gradient.lower(data, jnp.float32(0.3)).as_text()
        assert ("tensor<107xf32>" in text) == (name == "gpu")
        assert ("tensor<3x35107xf32>" in text) == (name == "gpu" and budget > 0)
    assert set(seen) == {jax.tree.structure(params)}
    for ours, theirs in zip(*map(jax.tree.leaves, programs.values()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16])
def test_on_accelerators_a_step_size_and_parameters_of_another_type_stay_what_they_are(dtype):
    with jax.enable_x64(True), compiling_for("gpu"):
        params = {"a": jnp.ones(4, jnp.float32), "b": jnp.ones(4, jnp.float32), "s": dtype(1)}

        def loss(params, data, entry):
            return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in params.values())

        def outer(rate):
            last = unrolling.sgd(loss, params, jnp.ones(2), rate, jnp.arange(3))
            assert last["s"].dtype == dtype
            return jnp.sum(last["a"])

        gradient = jax.grad(outer)(dtype(0.1))
    assert gradient.dtype == dtype
    assert float(gradient) == pytest.approx(-4 * 3 * 2 * 0.8**2, rel=0.02)
