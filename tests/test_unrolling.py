"""The student's SGD against a plain loop, finite differences and the published code's numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks, unrolling
from jdd.augment import augment
from jdd.interop import params_from_torch
from jdd.losses import cross_entropy, soft_cross_entropy, trajectory_matching
from jdd.ops import microbatched_mean
from jdd.ops.target import compiling_for
from jdd.unrolling import _adjoint, _revolve
from tests import parity

STEPS = 4
NETWORK = networks.create("ConvNet", 3, width=6, depth=2)


def loss(params, data, entry):
    """One student step as the methods have it: batch, DSA, network, soft labels."""
    chosen, key = entry
    images = augment(jax.random.wrap_key_data(key), data["images"][chosen], "color_crop_rotate")
    return soft_cross_entropy64(NETWORK.apply({"params": params}, images), data["labels"][chosen])


def soft_cross_entropy64(logits, label_logits):
    """`soft_cross_entropy` without its float32, which would end the comparison at 1e-7."""
    target = jax.nn.softmax(label_logits)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))


def problem():
    rng = np.random.default_rng(0)
    data = {
        "images": jnp.asarray(rng.standard_normal((6, 8, 8, 2))),
        "labels": jnp.asarray(rng.standard_normal((6, 3))),
    }
    params = NETWORK.init(jax.random.key(1), jnp.zeros((1, 8, 8, 2)))["params"]
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    plan = (
        unrolling.batch_plan(jax.random.key(2), 6, 4, STEPS),
        jax.random.key_data(jax.random.split(jax.random.key(3), STEPS)),
    )
    weights = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)
    return params, data, jnp.asarray(0.3), plan, weights


def outcome(student, weights):
    """A scalar whose gradient to the student depends on where the student is."""
    return sum(
        jnp.sum(w * p + p**2)
        for w, p in zip(jax.tree.leaves(weights), jax.tree.leaves(student), strict=True)
    )


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
