"""Training candidates of a search: the spaces, what each proxy may see, a loop of Optax's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jdd import data, networks, randomness, training
from jdd.errors import SettingError, UserError
from jdd.networks.fresh import fresh_variables
from jdd.tasks import nas
from jdd.tasks.nas import FULL, SPACES, Bench, NasSettings, name
from jdd.tasks.nas import bench as bench_module
from tests.tasks.small_nas import SETTINGS, real_set


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_spaces_hold_the_networks_that_the_papers_count(digits):
    convnets, sequential = SPACES["convnets"], SPACES["sequential"]
    assert (len(convnets.options), len(sequential.options)) == (720, 12)
    assert len({name(o) for o in convnets.options}) == 720
    assert len({name(o) for o in sequential.options}) == 12
    # Of 8×8 images four poolings leave nothing: 4 widths · 5 norms · 3 activations · 2 poolings.
    plan = nas.plan(NasSettings(candidates=600), digits, 0)
    assert len(plan.skipped) == 120
    assert {(o["depth"], o["pooling"] != "none") for o in plan.skipped} == {(4, True)}
    assert len({name(o) for o in plan.candidates}) == 600
    # 4 widths · (3 depths with pooling + 4 without)
    modules = {convnets.program(convnets.network(o, 10)).module for o in plan.candidates}
    assert len(modules) == 28
    assert not nas.plan(NasSettings(space="sequential", candidates=12), digits, 0).skipped


def test_more_candidates_keep_the_first(digits):
    few = nas.plan(NasSettings(candidates=5, sample=2), digits, 3)
    more = nas.plan(NasSettings(candidates=9), digits, 3)
    assert more.candidates[:5] == few.candidates and few.sampled == few.candidates[:2]
    assert more.sampled == more.candidates
    assert nas.plan(NasSettings(candidates=5), digits, 4).candidates != few.candidates
    with pytest.raises(UserError, match="600 of the 720 networks of convnets fit digits"):
        nas.plan(NasSettings(candidates=601), digits, 0)


@pytest.fixture(scope="module")
def trained(digits):
    """A network trained on one image a class by the bench, and how it was asked to."""
    bench = Bench(SETTINGS, real_set(digits), digits, seed=1)
    options = {"width": 32, "depth": 1, "norm": "group", "activation": "sigmoid", "pooling": "max"}
    return bench, options, bench.train(options, "distilled", 0, lambda steps: None)


def test_the_distilled_proxy_is_the_published_recipe_on_that_set_alone(digits, trained):
    _, options, (record, variables) = trained
    network = networks.create("ConvNet", 10, **options)
    stored = real_set(digits)
    label = f"nas {name(options)} distilled 0"
    space = SPACES["convnets"]
    module, choice = space.program(network)
    shapes = jax.eval_shape(module.init, jax.random.key(0), stored.images[:1], choice)
    start = fresh_variables(shapes, randomness.generator(1, label))["params"]
    norm = start["block_0"]["norm"]
    start["block_0"]["norm"] = {key: value[0, 0] for key, value in norm.items()}
    params = jax.tree.map(jnp.asarray, start)

    # Ten images are one batch, so the order in which they are drawn does not matter.
    rates = optax.piecewise_constant_schedule(0.01, {3: 0.1})
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rates, momentum=0.9))
    moments = optimizer.init(params)

    @jax.jit
    def step(params, moments):
        def loss(params):
            logits = network.apply({"params": params}, stored.images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, stored.labels).mean()

        updates, moments = optimizer.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    for _ in range(6):
        params, moments = step(params, moments)
    ours = variables["params"]
    for path in (("block_0", "conv", "kernel"), ("classifier", "kernel"), ("classifier", "bias")):
        a, b = ours, params
        for part in path:
            a, b = a[part], b[part]
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(
        ours["block_0"]["norm"]["scale"][0, 0], params["block_0"]["norm"]["scale"], atol=1e-5
    )
    part = data.subset(digits.train, 500, seed=0)
    _, validation = data.hold_out(part, 0.3, seed=0)
    expected = training.accuracy(
        network, {"params": params}, data.to_device(validation, digits.preprocess)
    )
    assert record.accuracy == pytest.approx(expected, abs=1e-6)
    assert record.steps == 6 and record.seconds > 0


def test_what_each_proxy_may_see(trained):
    bench, options, _ = trained
    # 500 images less 150 held out, in batches of the ten distilled ones: 35 steps an epoch.
    assert bench.steps("random") == bench.steps("distilled") == bench.steps("early") == 6
    assert bench.steps(FULL) == 2 * 35
    assert bench.programs == 1 and bench.compile_seconds > 0
    taken = []
    for proxy in ("random", "early", FULL):
        record, _ = bench.train(options, proxy, 0, taken.append)
        assert sum(taken) == record.steps == bench.steps(proxy)
        taken.clear()
        again, _ = bench.train(options, proxy, 0, taken.append)
        assert again.accuracy == record.accuracy
        taken.clear()
    masks = {kind: bench._masks[kind] for kind in ("distilled", "random", FULL)}
    assert [int(mask.sum()) for mask in masks.values()] == [10, 10, 350]
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    (_, some) = bench._pieces("early", "any")[0]
    assert some.sum() == 60 and not (some & ~masks[FULL]).any()
    assert bench.programs == 1


class Clock:
    """In place of `time`: it stands still but for what is added."""

    now = 0.0

    def perf_counter(self):
        return self.now


class SlowAtFirst:
    """In place of the jitted program: by the clock, the first run alone takes time, a second."""

    def __init__(self, jitted, clock):
        self.jitted, self.clock, self.seconds = jitted, clock, 1.0

    def lower(self, *arguments):
        self.lowered = self.jitted.lower(*arguments)
        return self

    def compile(self):
        self.compiled = self.lowered.compile()
        return self

    def __call__(self, *arguments):
        self.clock.now += self.seconds
        self.seconds = 0.0
        return self.compiled(*arguments)


def test_the_first_run_of_a_program_is_no_proxys_time(digits, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench_module, "_run", SlowAtFirst(bench_module._run, clock))
    monkeypatch.setattr(bench_module, "time", clock)
    bench = Bench(dataclasses.replace(SETTINGS, space="sequential"), real_set(digits), digits, 1)
    options = SPACES["sequential"].options[0]
    first, again = (bench.train(options, "distilled", 0, lambda steps: None)[0] for _ in range(2))
    assert clock.now == 1.0 and first.seconds == again.seconds == 0.0
    assert first.accuracy == again.accuracy


def test_soft_labels_change_nothing_of_real_images(digits, trained):
    hard, options, (_, on_hard) = trained
    stored = real_set(digits)
    soft = dataclasses.replace(stored, labels=3 * jax.nn.one_hot(stored.labels, 10))
    bench = Bench(SETTINGS, soft, digits, seed=1)
    pairs = zip(
        jax.tree.leaves(bench.train(options, "random", 0, lambda steps: None)[1]),
        jax.tree.leaves(hard.train(options, "random", 0, lambda steps: None)[1]),
        strict=True,
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-6)
    softened = bench.train(options, "distilled", 0, lambda steps: None)[1]
    kernels = [variables["params"]["classifier"]["kernel"] for variables in (on_hard, softened)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


def test_a_bench_that_cannot_be_is_refused(digits):
    with pytest.raises(UserError, match="more `real_images`, or a smaller `held_out`"):
        Bench(NasSettings(real_images=50), real_set(digits, 5), digits, 0)
    with pytest.raises(UserError, match="did you mean 'color'"):
        Bench(NasSettings(augmentation="colour"), real_set(digits), digits, 0)
    # 500 images less 150 held out are 35 steps of ten.
    settings = dataclasses.replace(SETTINGS, epochs=35, full_epochs=1)
    Bench(settings, real_set(digits), digits, 0)
    words = "`epochs` 36: early stopping takes as many steps, 36, and full training has 35: fewer"
    with pytest.raises(SettingError, match=words):
        Bench(dataclasses.replace(settings, epochs=36), real_set(digits), digits, 0)
