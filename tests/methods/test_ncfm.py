"""NCFM against plain differentiation; interpolation, calibration, frequencies, resuming."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, distillation, networks
from jdd.distillation import Hooks, Loop
from jdd.errors import Interrupted, SettingError, UserError
from jdd.experts import Segment
from jdd.methods import NcfmSettings, guarded, ncfm
from jdd.ops.target import compiling_for
from jdd.runs.directory import RunFiles
from jdd.synthetic import MultiFormation, SyntheticSet
from jdd.training import FitState, Recipe, Trainer, run_jit, schedule
from tests.methods import on_digits, small

NETWORK = networks.create("ConvNet", small.CLASSES, width=8, depth=2)
SMALL = NcfmSettings(batch_real=20, frequencies=16, calibration=0.7, lr_img=0.05, dsa=False)


def segment(seed=5):
    """A random network, and another one in the place of a trained one."""
    keys = jax.random.split(jax.random.key(seed))
    params = [NETWORK.init(key, jnp.zeros((1, 8, 8, 1)))["params"] for key in keys]
    return Segment(*(jax.tree.map(lambda p: p[None], tree) for tree in params))


def plain_loss(images, state, of, ipc, settings=SMALL):
    """The loss of an update, class after class, in complex numbers."""
    mix, key = jax.random.split(state.iteration_key())
    weight, total = jax.random.uniform(mix), 0.0
    first, last = (jax.tree.map(lambda p: p[0], tree) for tree in segment())
    between = jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, first, last)

    def characteristic(images, frequencies):
        f = NETWORK.apply({"params": between}, images, method="embed")
        f = f / jnp.sqrt(jnp.sum(f**2, axis=1, keepdims=True))
        return jnp.mean(jnp.exp(1j * f @ frequencies.T), axis=0)

    for label, class_key in enumerate(jax.random.split(key, small.CLASSES)):
        frequencies = jax.random.normal(jax.random.split(class_key, 4)[3], (16, 8 * 2 * 2))
        class_images = images[label * ipc : (label + 1) * ipc]
        apart = jnp.abs(
            characteristic(class_images, frequencies)
            - characteristic(small.real(of, label), frequencies)
        )
        logits = NETWORK.apply({"params": last}, class_images)
        certain = jax.nn.log_softmax(logits)[:, label].mean()
        total += 300 * jnp.mean(apart) / jnp.sqrt(2) - settings.calibration * certain
    return total


def test_updates_are_those_of_plain_differentiation_and_adamw():
    of, ipc = small.digits(20), 2
    method = guarded(ncfm(SMALL, NETWORK))
    synthetic, state = method.init(jax.random.key(3), small.start(ipc), of)
    update = jax.jit(method.update)
    first = second = 0.0
    for step in (1, 2):
        before = synthetic.images
        gradient_of = jax.jit(jax.value_and_grad(plain_loss), static_argnums=3)
        loss, gradient = gradient_of(before, state, of, ipc)
        synthetic, state, metrics = update(synthetic, state, of, segment())
        assert metrics["loss"] == pytest.approx(float(loss), rel=1e-4)
        assert metrics["loss"] == pytest.approx(
            float(metrics["discrepancy"] + metrics["calibration"]), rel=1e-6
        )
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**step)) / (jnp.sqrt(second / (1 - 0.999**step)) + 1e-8)
        expected = before - SMALL.lr_img * (direction + SMALL.weight_decay * before)
        apart = np.abs(synthetic.images - expected)
        assert np.quantile(apart, 0.97) < 1e-2 * SMALL.lr_img


def test_sgd_moves_images_by_the_gradient():
    of, ipc = small.digits(20), 2
    settings = dataclasses.replace(SMALL, optimizer="sgd", lr_img=0.01)
    synthetic, state = ncfm(settings, NETWORK).init(jax.random.key(3), small.start(ipc), of)
    update, velocity = jax.jit(ncfm(settings, NETWORK).update), 0.0
    gradient_of = jax.jit(jax.grad(plain_loss), static_argnums=3)
    for _ in range(2):
        before = synthetic.images
        gradient = gradient_of(before, state, of, ipc)
        synthetic, state, _ = update(synthetic, state, of, segment())
        velocity = 0.5 * velocity + gradient
        np.testing.assert_allclose(
            synthetic.images - before, -0.01 * velocity, atol=2e-3 * 0.01 * jnp.abs(velocity).max()
        )


def test_images_without_features_take_no_part():
    """Those of a network whose features are all 0 are moved by AdamW's weight decay alone."""
    of, ipc = small.digits(20), 2
    method = guarded(ncfm(dataclasses.replace(SMALL, calibration=0.0), NETWORK))
    dead = jax.tree.map(jnp.zeros_like, segment())
    made, state = method.init(jax.random.key(3), small.start(ipc), of)
    moved, _, metrics = jax.jit(method.update)(made, state, of, dead)
    assert not metrics["dropped"]
    np.testing.assert_allclose(moved.images, made.images, rtol=1e-4)


def test_the_rate_is_halved_after_updates_without_a_smaller_loss():
    settings = dataclasses.replace(SMALL, patience=1, lr_img=1e-9, weight_decay=0.0)
    method, of = ncfm(settings, NETWORK), small.digits(20)
    synthetic, state = method.init(jax.random.key(3), small.start(1), of)
    update = jax.jit(method.update)
    best, waited, scale = np.inf, 0, 1.0
    for _ in range(12):  # as PyTorch's scheduler counts
        synthetic, state, metrics = update(synthetic, state, of, segment())
        loss = float(metrics["loss"])
        waited = 0 if loss < best * (1 - 1e-4) else waited + 1
        best = min(best, loss)
        if waited > 1:
            scale, waited = scale / 2, 0
        assert float(state.optimizer.images[1].scale) == scale
    assert scale < 1


def test_real_and_synthetic_images_are_transformed_alike():
    """A set of all real images of a class is matched, however they are transformed."""
    of = small.digits(6)
    images = jnp.concatenate([small.real(of, label) for label in range(small.CLASSES)])
    losses = []
    for start in (small.start(6).replace(storage=images), small.start(6)):
        settings = dataclasses.replace(SMALL, batch_real=6, dsa=True, calibration=0.0)
        method = ncfm(settings, NETWORK)
        synthetic, state = method.init(jax.random.key(0), start, of)
        losses.append(float(jax.jit(method.update)(synthetic, state, of, segment())[2]["loss"]))
    assert losses[0] < 1e-3 < 1e-2 * losses[1]


@pytest.mark.slow
def test_learned_frequencies_raise_the_discrepancy():
    """On a set that stays, their network learns where the functions are furthest apart."""
    settings = dataclasses.replace(
        SMALL, learn_frequencies=True, lr_frequencies=1e-4, lr_img=1e-9, weight_decay=0.0
    )
    method, of = guarded(ncfm(settings, NETWORK)), small.digits(20)
    synthetic, state = method.init(jax.random.key(3), small.start(1), of)

    @jax.jit
    def run(synthetic, state):
        def step(carry, _):
            synthetic, state, metrics = method.update(*carry, of, segment())
            return (synthetic, state), metrics

        return jax.lax.scan(step, (synthetic, state), length=60)

    _, metrics = run(synthetic, state)
    discrepancy = metrics["discrepancy"]
    assert not metrics["dropped"].any() and discrepancy[-20:].mean() > 1.1 * discrepancy[:20].mean()


def test_classes_go_one_after_another_where_all_would_be_too_much_for_an_accelerator(monkeypatch):
    """No array of the update then holds the real images of two classes."""
    of = small.digits(20)
    method = ncfm(dataclasses.replace(SMALL, learn_frequencies=False), NETWORK)
    synthetic, state = method.init(jax.random.key(1), small.start(1), of)

    def largest():
        with compiling_for("gpu"):
            jaxpr = jax.make_jaxpr(lambda s: method.update(s, state, of, segment()))(synthetic)
        shapes = re.findall(r"f32\[([\d,]+)\]", str(jaxpr))
        return max(math.prod(map(int, shape.split(","))) for shape in shapes)

    together = largest()
    monkeypatch.setattr("jdd.methods.matching._PIXELS", 20 * 64)
    assert largest() == together / small.CLASSES


def test_batch_norm_is_refused():
    method = ncfm(SMALL, networks.create("ConvNet", small.CLASSES, width=8, depth=2, norm="batch"))
    with pytest.raises(UserError, match=r"ncfm needs a network without batch norm.*`norm`"):
        method.init(jax.random.key(0), small.start(1), small.digits(20))


class Drawn:
    """One segment for every iteration."""

    def chunks(self, first, last, size):
        """As `SegmentSampler` gives them."""
        for at in range(first, last, size):
            pieces = [segment(5)] * min(size, last - at)
            yield jax.tree.map(lambda *leaves: np.stack(leaves), *pieces)


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(tmp_path):
    start = SyntheticSet.store(small.start(1).storage, small.start(1).info, MultiFormation(2, 8, 8))
    settings = dataclasses.replace(SMALL, dsa=True, learn_frequencies=True)
    of, method, asked = small.digits(20), ncfm(settings, NETWORK), 0

    def stop():
        nonlocal asked
        asked += 1
        return asked == 3

    def go(folder, should_stop):
        hooks = Hooks(
            segments=Drawn(), listener=RunFiles(tmp_path / folder), should_stop=should_stop
        )
        return distillation.distill(method, start, of, jax.random.key(0), Loop(6, 6, 2), hooks)

    with pytest.raises(Interrupted):
        go("parts", stop)
    parts, full = go("parts", lambda: False), go("full", lambda: False)
    assert parts.resumed_from > 0 and full.final.images.shape[0] == 12
    np.testing.assert_array_equal(parts.final.storage, full.final.storage)
    assert np.any(full.final.storage != start.storage)


@pytest.mark.slow
def test_ten_images_are_worth_more_than_they_were():
    loaded, of = on_digits.digits()
    trainer = Trainer.of(on_digits.NETWORK, Recipe(batch_size=64), len(loaded.train))
    fresh = on_digits.NETWORK.init(jax.random.key(2), on_digits.start().images[:1])
    images = data.to_device(loaded.train, loaded.preprocess)
    fit = FitState.start(trainer, fresh, jax.random.key(3))
    fit = run_jit(trainer, fit, images, schedule(Recipe(learning_rate=0.1)), 5)
    pair = Segment(*(jax.tree.map(lambda p: p[None], p) for p in (fresh["params"], fit.params)))
    segments = jax.tree.map(lambda p: jnp.broadcast_to(p, (60, *p.shape)), pair)
    settings = NcfmSettings(batch_real=30, frequencies=128, lr_img=0.1)
    method = ncfm(settings, on_digits.NETWORK)
    made = on_digits.distilled(method, on_digits.start(), of, 60, segments)
    assert on_digits.accuracy(loaded, made) > on_digits.accuracy(loaded, on_digits.start()) + 0.08


@pytest.mark.parametrize(
    ("name", "value"),
    [("frequencies", 0), ("phase", -1.0), ("calibration", -0.1), ("expert_epochs", 0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(SettingError, match=f"`{name}`"):
        dataclasses.replace(SMALL, **{name: value})
