"""DM and DataDAM against plain loops and formulas; batch norm; DSA's tie."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import SettingError
from jdd.methods import DatadamSettings, DmSettings, datadam, dm
from jdd.methods.base import with_precision
from tests.methods import small

DM = DmSettings(batch_real=20, lr_img=2.0, mom_img=0.5, dsa=False)
DAM = DatadamSettings(
    batch_real=20, lr_img=5.0, mom_img=0.5, dsa=False, power=3.0, balance=0.05, loss_scale=2.0
)
OURS = {dm: DM, datadam: DAM}


def network(norm="instance"):
    return networks.create("ConvNet", small.CLASSES, width=8, depth=2, norm=norm)


def attention(feature_map):
    flat = jnp.sum(jnp.abs(feature_map) ** DAM.power, -1).reshape(len(feature_map), -1)
    return flat / jnp.linalg.norm(flat, axis=1, keepdims=True)


def of_features(ours, theirs):
    return jnp.sum((ours.mean(0) - theirs.mean(0)) ** 2)


@functools.partial(jax.jit, static_argnums=(1, 2, 5))
@functools.partial(jax.value_and_grad, argnums=0)
def plain_loss(images, method, module, variables, of, ipc):
    """Class after class; with batch norm all real, and all synthetic, images at once."""
    batched = "batch_stats" in variables
    classes = range(small.CLASSES)
    mine = [images[label * ipc : (label + 1) * ipc] for label in classes]
    theirs = [small.real(of, label) for label in classes]

    def seen(batches, what):
        if not batched:
            return [module.apply(variables, batch, method=what) for batch in batches]
        every = module.apply(variables, jnp.concatenate(batches), train=True, method=what)
        each = len(batches[0])
        return [jax.tree.map(lambda a, i=i: a[i * each : (i + 1) * each], every) for i in classes]

    pairs = zip(seen(mine, "embed"), seen(theirs, "embed"), strict=True)
    last = sum(of_features(*pair) for pair in pairs)
    if method is dm:
        return last
    total = 0.0
    for ours, real in zip(seen(mine, "feature_maps"), seen(theirs, "feature_maps"), strict=True):
        for a, b in zip(ours[:-1], real[:-1], strict=True):
            total += of_features(attention(a), attention(b))
    return DAM.loss_scale * (total + DAM.balance * last)


@pytest.mark.parametrize(
    ("method", "norm"),
    [
        (dm, "instance"),
        (datadam, "batch"),
        pytest.param(dm, "batch", marks=pytest.mark.slow),
        pytest.param(datadam, "instance", marks=pytest.mark.slow),
    ],
)
def test_two_updates_are_those_of_plain_differentiation(method, norm, monkeypatch):
    monkeypatch.setattr("jdd.ops.microbatch._PIXELS", 5 * 64)  # real images are described in parts
    module, of, ipc = network(norm), small.digits(20), 2
    seen = small.two_updates(method(OURS[method], module), small.start(ipc), of)
    velocity = 0.0
    for (before, state, _), (after, _, loss) in itertools.pairwise(seen):
        value, gradient = plain_loss(before, method, module, small.fresh(module, state), of, ipc)
        velocity = 0.5 * velocity + gradient
        assert loss == pytest.approx(float(value), rel=1e-4)
        expected = before - OURS[method].lr_img * velocity
        np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-4)
        assert np.abs(after - before).max() > 1e-2
    assert seen[1][2] != pytest.approx(seen[2][2], rel=1e-3)


def test_every_iteration_has_a_network_of_its_own():
    of, module = small.digits(20), network()
    still = dm(dataclasses.replace(DM, lr_img=1e-9), module)
    (_, _, _), (_, _, first), (_, _, second) = small.two_updates(still, small.start(1), of)
    assert abs(first - second) > 1e-2 * first


@pytest.mark.parametrize("method", [dm, pytest.param(datadam, marks=pytest.mark.slow)])
def test_classes_are_not_mixed(method):
    made = method(dataclasses.replace(OURS[method], dsa=True), network())
    results = [
        np.asarray(small.two_updates(made, small.start(2), small.digits(20, shift))[1][0])
        for shift in (0, 20)
    ]
    assert np.abs(results[0][:2] - results[1][:2]).max() > 1e-4
    np.testing.assert_array_equal(results[0][2:], results[1][2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "norm"),
    [(datadam, "instance"), pytest.param(dm, "batch", marks=pytest.mark.slow)],
)
def test_siamese_transforms_are_the_same_for_real_and_synthetic_images(method, norm):
    """A set of the real images themselves is matched already, however they are transformed."""
    of = small.digits(6)
    images = jnp.concatenate([small.real(of, label) for label in range(small.CLASSES)])
    settings = dataclasses.replace(OURS[method], batch_real=6, dsa=True)
    matched = small.start(6).replace(storage=images)
    made = method(settings, network(norm))
    update = jax.jit(made.update)
    for i in range(3):
        synthetic, state = made.init(jax.random.key(i), matched, of)
        loss = float(update(synthetic, state, of)[2]["loss"])
        assert loss < 1e-6 * float(np.sum(np.square(images)))
    without = method(dataclasses.replace(settings, dsa=False), network(norm))
    ours, plain = (small.two_updates(m, small.start(6), of)[1][2] for m in (made, without))
    assert abs(ours - plain) > 1e-4 * plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("batch_real", 0),
        ("lr_img", 0.0),
        ("mom_img", -0.1),
        ("power", 0.5),
        ("balance", -1.0),
        ("balance", float("inf")),
        ("loss_scale", 0.0),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    for settings in OURS.values():
        if hasattr(settings, name):
            with pytest.raises(SettingError, match=f"`{name}`"):
                dataclasses.replace(settings, **{name: value})


def test_updates_of_less_precision_are_near_and_others():
    of, method = small.digits(20), dm(DM, network())
    exact = small.two_updates(method, small.start(2), of)[-1]
    rounded = small.two_updates(with_precision(method, "bfloat16"), small.start(2), of)[-1]
    moved = np.linalg.norm(exact[0] - small.start(2).images)
    apart = np.linalg.norm(exact[0] - rounded[0])
    assert 1e-5 * moved < apart < 0.1 * moved
    tf32 = small.two_updates(with_precision(method, "tensorfloat32"), small.start(2), of)[-1]
    np.testing.assert_array_equal(tf32[0], exact[0])  # on a CPU
