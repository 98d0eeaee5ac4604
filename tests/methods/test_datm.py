"""DATM and PAD: learned label logits, skipped updates, filtered parameters, their settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd.errors import SettingError
from jdd.methods import DatmSettings, PadSettings, Rejection, datm, guarded, mtt, pad
from tests.methods.test_mtt import NETWORK, a_segment, a_set

COMMON = {
    **{"syn_steps": 3, "lr_img": 2.0, "lr_lr": 0.01, "lr_init": 0.1, "mom_img": 0.5},
    **{"dsa": False, "segments": 1, "lr_label": 3.0, "mom_label": 0.9, "threshold": 0.0},
}
DATM = DatmSettings(**COMMON)
LOGITS = jax.random.normal(jax.random.key(9), (6, 3))


def matched(moved, segment, weights):
    """The loss by plain differentiation: soft labels, whole batches, weighed parameters."""
    images, rate, logits = moved
    start, target = (jax.tree.map(lambda p: p[0], tree) for tree in segment)

    def loss(params):
        predicted = NETWORK.apply({"params": params}, images)
        aim = jax.nn.softmax(logits)
        return -jnp.mean(jnp.sum(aim * jax.nn.log_softmax(predicted), -1))

    student = start
    for _ in range(3):
        student = jax.tree.map(lambda p, g: p - rate * g, student, jax.grad(loss)(student))
    masks = weights(student, target)

    def distance(a, b):
        rows = zip(*(jax.tree.leaves(tree) for tree in (a, b, masks)), strict=True)
        return sum(jnp.sum(m * (x - y) ** 2) for x, y, m in rows)

    return distance(student, target) / distance(start, target)


def everything(student, target):
    return jax.tree.map(jnp.ones_like, student)


def worst_matched(student, target):
    """The 60 % with the largest errors, by sorting."""
    errors = jax.tree.map(lambda a, b: jax.lax.stop_gradient((a - b) ** 2), student, target)
    joined = jnp.sort(jnp.concatenate([e.ravel() for e in jax.tree.leaves(errors)]))
    least = joined[int(0.4 * joined.size)]
    return jax.tree.map(lambda e: jnp.where(e >= least, 1.0, 0.0), errors)


def deep(student, target):
    """All but the first 40 %: of an MLP of three layers, counted by hand from the input on."""
    left = int(0.4 * sum(leaf.size for leaf in jax.tree.leaves(student)))
    masks = {}
    for name in ("block_0", "block_1", "classifier"):
        nested = name != "classifier"
        layer = student[name]["dense"] if nested else student[name]
        kernel, bias = layer["kernel"], layer["bias"]
        row = np.ones(kernel.size + bias.size, np.float32)
        row[: max(left, 0)] = 0
        mask = {
            "kernel": jnp.asarray(row[: kernel.size].reshape(kernel.shape[::-1]).T),
            "bias": jnp.asarray(row[kernel.size :]),
        }
        masks[name] = {"dense": mask} if nested else mask
        left -= row.size
    return masks


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        (datm(DATM, NETWORK), everything),
        pytest.param(
            pad(PadSettings(**COMMON, filter="none"), NETWORK), everything, marks=pytest.mark.slow
        ),
        (pad(PadSettings(**COMMON, filter="loss", drop=0.4), NETWORK), worst_matched),
        (pad(PadSettings(**COMMON, filter="depth", drop=0.4), NETWORK), deep),
    ],
    ids=["datm", "none", "loss", "depth"],
)
def test_two_updates_are_those_of_plain_differentiation(method, weights):
    """Images, step size and label logits, each with its own rate and momentum."""
    synthetic, state = method.init(jax.random.key(0), a_set(LOGITS), None)
    now = (synthetic.images, synthetic.learning_rate, synthetic.labels)
    velocity = jax.tree.map(jnp.zeros_like, now)
    for t in range(2):
        segment = a_segment(t, segments=1)
        value, gradient = jax.value_and_grad(matched)(now, segment, weights)
        velocity = tuple(
            m * v + g for m, v, g in zip((0.5, 0.5, 0.9), velocity, gradient, strict=True)
        )
        now = tuple(
            a - rate * v for a, rate, v in zip(now, (2.0, 0.01, 3.0), velocity, strict=True)
        )
        synthetic, state, metrics = jax.jit(guarded(method).update)(synthetic, state, None, segment)
        assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
        assert int(metrics["dropped"]) == 0
        np.testing.assert_allclose(synthetic.images, now[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(synthetic.learning_rate, now[1], rtol=1e-5)
        np.testing.assert_allclose(synthetic.labels, now[2], rtol=1e-4, atol=1e-5)
    assert np.abs(now[2] - LOGITS).max() > 1e-3


def test_an_update_above_the_threshold_is_not_made():
    """And leaves the momentum as it was; one below it is."""
    for threshold, dropped in ((1e-3, 3), (1e3, 0)):
        method = datm(dataclasses.replace(DATM, threshold=threshold), NETWORK)
        synthetic, state = method.init(jax.random.key(0), a_set(LOGITS), None)
        moved, after, metrics = jax.jit(guarded(method).update)(
            synthetic, state, None, a_segment(0, 1)
        )
        assert int(metrics["dropped"]) == dropped
        same = np.array_equal(moved.labels, synthetic.labels)
        assert same == (dropped == 3) and int(after.iteration) == 1
        if dropped:
            assert "`threshold`" in Rejection(dropped).words() and Rejection(dropped).is_expected
            jax.tree.map(np.testing.assert_array_equal, state.optimizer, after.optimizer)


def test_hard_labels_are_smoothed():
    synthetic, _ = datm(DATM, NETWORK).init(jax.random.key(0), a_set(), None)
    shares = np.asarray(jax.nn.softmax(synthetic.labels))
    np.testing.assert_allclose(shares.max(-1), 0.9, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(-1), a_set().labels)


def test_hard_labels_in_any_order_come_class_by_class():
    labels = jnp.asarray([1, 0, 2, 0, 2, 1])
    synthetic, _ = datm(DATM, NETWORK).init(jax.random.key(0), a_set(labels), None)
    np.testing.assert_array_equal(synthetic.labels.argmax(-1), synthetic.classes())
    expected = a_set().images[jnp.argsort(labels, stable=True)]
    np.testing.assert_array_equal(synthetic.images, expected)


def test_without_learning_labels_it_is_trajectory_matching():
    """The same images after an update where the labels' rate is zero."""
    from jdd.methods import MttSettings

    shared = {k: v for k, v in COMMON.items() if k in MttSettings.__dataclass_fields__}
    moved = []
    still = datm(dataclasses.replace(DATM, lr_label=0.0), NETWORK)
    for method in (mtt(MttSettings(**shared), NETWORK), still):
        synthetic, state = method.init(jax.random.key(0), a_set(LOGITS), None)
        moved.append(jax.jit(guarded(method).update)(synthetic, state, None, a_segment(0, 1))[0])
    np.testing.assert_allclose(moved[0].images, moved[1].images, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(moved[1].labels, LOGITS)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr_label": -1.0}, "`lr_label`"),
        ({"mom_label": 1.0}, "`mom_label`"),
        ({"threshold": float("nan")}, "`threshold`"),
        ({"initial_max_start_epoch": 21}, "`initial_max_start_epoch`"),
        ({"window_expansion_end": -1}, "`window_expansion_end`"),
        ({"drop": 1.0}, "`drop`"),
        ({"filter": "deepth"}, "did you mean 'depth'"),
    ],
)
def test_settings_out_of_range_are_named(changes, named):
    with pytest.raises(SettingError, match=named):
        PadSettings(**{**COMMON, **changes})
