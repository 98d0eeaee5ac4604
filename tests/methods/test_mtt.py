"""One update of trajectory matching against plain differentiation, and the updates it drops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import SettingError
from jdd.experts import Segment
from jdd.methods import MttSettings, Rejection, guarded, mtt
from jdd.ops.target import compiling_for
from jdd.synthetic import MultiFormation, SetInfo, SyntheticSet

NETWORK = networks.create("MLP", 3, width=16)
SETTINGS = MttSettings(
    syn_steps=3, lr_img=2.0, lr_lr=0.01, lr_init=0.1, mom_img=0.5, dsa=False, segments=2
)


def a_set(labels=None, rate=None):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((6, 4, 4, 1)).astype(np.float32))
    info = SetInfo("digits", ("a", "b", "c"), {}, 2)
    labels = jnp.repeat(jnp.arange(3), 2) if labels is None else labels
    return SyntheticSet(images, labels, rate, info)


def a_segment(seed=0, segments=2):
    rng = np.random.default_rng(seed)
    one = NETWORK.init(jax.random.key(seed), jnp.zeros((1, 4, 4, 1)))["params"]

    def some(spread):
        return jax.tree.map(
            lambda p: jnp.asarray(
                np.asarray(p) + spread * rng.standard_normal((segments, *p.shape)), jnp.float32
            ),
            one,
        )

    return Segment(some(0.1), some(0.3))


def matched(moved, segment, i, labels):
    """‖θ̂ − θ*‖² / ‖θ − θ*‖² of one segment, whole batches, by plain differentiation."""
    images, rate = moved
    start, target = (jax.tree.map(lambda p: p[i], tree) for tree in segment)

    def loss(params):
        logits = NETWORK.apply({"params": params}, images)
        return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), -1))

    student = start
    for _ in range(SETTINGS.syn_steps):
        student = jax.tree.map(lambda p, g: p - rate * g, student, jax.grad(loss)(student))

    def distance(a, b):
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return sum(jnp.sum((x - y) ** 2) for x, y in pairs)

    return distance(student, target) / distance(start, target)


@pytest.mark.parametrize("soft", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_updates_are_those_of_plain_differentiation(soft):
    """Momentum SGD on images and step size, gradients averaged over the segments."""
    logits = jax.random.normal(jax.random.key(9), (6, 3)) if soft else None
    synthetic = a_set(logits)
    method = mtt(SETTINGS, NETWORK)
    synthetic, state = method.init(jax.random.key(0), synthetic, None)
    assert float(synthetic.learning_rate) == pytest.approx(0.1)
    labels = jax.nn.softmax(logits) if soft else jax.nn.one_hot(synthetic.labels, 3)
    images, rate = synthetic.images, synthetic.learning_rate
    velocity = (jnp.zeros_like(images), jnp.zeros(()))
    for t in range(2):
        segment = a_segment(t)
        values, gradients = zip(
            *(
                jax.value_and_grad(matched)((images, rate), segment, i, labels)
                for i in range(SETTINGS.segments)
            ),
            strict=True,
        )
        velocity = tuple(
            0.5 * v + (a + b) / 2 for v, a, b in zip(velocity, *gradients, strict=True)
        )
        images, rate = images - 2.0 * velocity[0], rate - 0.01 * velocity[1]
        synthetic, state, metrics = jax.jit(guarded(method).update)(synthetic, state, None, segment)
        assert float(metrics["loss"]) == pytest.approx(float(sum(values)) / 2, rel=1e-5)
        assert int(metrics["dropped"]) == 0 and int(state.iteration) == t + 1
        np.testing.assert_allclose(synthetic.images, images, rtol=1e-4, atol=1e-5)
        assert float(synthetic.learning_rate) == pytest.approx(float(rate), rel=1e-5)
    np.testing.assert_array_equal(synthetic.labels, a_set(logits).labels)


def test_peaked_label_logits_are_hard_labels():
    method = mtt(SETTINGS, NETWORK)
    images = []
    for labels in (None, 1e4 * jax.nn.one_hot(a_set().labels, 3)):
        synthetic, state = method.init(jax.random.key(0), a_set(labels), None)
        images.append(
            jax.jit(guarded(method).update)(synthetic, state, None, a_segment())[0].images
        )
    np.testing.assert_allclose(*images, rtol=1e-4, atol=1e-5)


def moved_by(**changes):
    method = mtt(dataclasses.replace(SETTINGS, **changes), NETWORK)
    synthetic, state = method.init(jax.random.key(0), a_set(), None)
    moved, _, metrics = jax.jit(guarded(method).update)(
        synthetic, state, None, a_segment(segments=changes.get("segments", 2))
    )
    return np.asarray(moved.images - synthetic.images), float(metrics["loss"])


def test_mini_batches_and_augmentation_change_the_step():
    """With one step of three of the six images, only these three are moved."""
    change, _ = moved_by(syn_steps=1, batch_syn=3, segments=1)
    assert (np.abs(change).max(axis=(1, 2, 3)) > 0).sum() == 3
    whole, loss = moved_by()
    augmented, other = moved_by(dsa=True)
    assert loss != other and not np.allclose(whole, augmented)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_gradient_to_what_is_stored_is_cut_to_its_bound(factor):
    """With momentum off a cut step is as long as rate times bound, and has its direction."""
    images, info = a_set().images, SetInfo("digits", ("a", "b", "c"), {}, 2)
    start = SyntheticSet.store(images, info, MultiFormation(factor, 4, 4))

    def moved(clip):
        method = mtt(dataclasses.replace(SETTINGS, mom_img=0.0, lr_img=1e3, clip=clip), NETWORK)
        synthetic, state = method.init(jax.random.key(0), start, None)
        after, _, _ = jax.jit(method.update)(synthetic, state, None, a_segment())
        return np.asarray(after.storage - synthetic.storage) / 1e3

    whole = moved(0.0)
    length = np.linalg.norm(whole)
    np.testing.assert_allclose(moved(0.3 * length), 0.3 * whole, atol=1e-3 * length)
    np.testing.assert_allclose(moved(1.1 * length), whole, atol=1e-3 * length)


def test_a_stored_step_size_is_where_it_starts():
    synthetic, _ = mtt(SETTINGS, NETWORK).init(
        jax.random.key(0), a_set(rate=jnp.float32(0.7)), None
    )
    assert float(synthetic.learning_rate) == pytest.approx(0.7)


@pytest.mark.parametrize(("lr_lr", "dropped"), [(1e-6, 0), (1e6, 2)])
def test_a_step_size_that_would_more_than_double_is_not_followed(lr_lr, dropped):
    """The target lies far ahead of the student, so a larger step size is called for."""
    method = mtt(dataclasses.replace(SETTINGS, lr_lr=lr_lr, segments=1), NETWORK)
    synthetic, state = method.init(jax.random.key(0), a_set(), None)
    start = a_segment(segments=1).start
    images, labels = synthetic.images, jax.nn.one_hot(synthetic.labels, 3)

    def loss(params):
        one = jax.tree.map(lambda p: p[0], params)
        logits = NETWORK.apply({"params": one}, images)
        return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), -1))

    ahead = jax.tree.map(lambda p, g: p - 10 * g, start, jax.grad(loss)(start))
    moved, _, metrics = jax.jit(guarded(method).update)(
        synthetic, state, None, Segment(start, ahead)
    )
    assert int(metrics["dropped"]) == dropped
    if dropped:
        assert moved.learning_rate == synthetic.learning_rate
    else:
        assert synthetic.learning_rate < moved.learning_rate < 2 * synthetic.learning_rate


def mirrored(segment):
    """The target on the other side of the start: what was downhill is uphill."""
    return Segment(segment.start, jax.tree.map(lambda p, q: 2 * p - q, *segment))


RATES = ("lr_img", "lr_lr", "lr_init")


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"lr_lr": 1e6}, 2, "`lr_lr`"),
        ({"lr_init": 1e30}, 1, "`lr_init`"),
        ({"lr_img": 3e38}, 1, "`lr_img`"),
    ],
)
def test_an_unsound_update_is_dropped_and_the_momentum_with_it(changes, reason, named):
    method = mtt(dataclasses.replace(SETTINGS, **changes), NETWORK)
    update = jax.jit(guarded(method).update)
    dropped = 0
    ahead = a_segment()
    if "lr_img" in changes:  # so near the start that the gradient is large
        near = jax.tree.map(lambda p, q: p + 1e-4 * (q - p), *ahead)
        ahead = Segment(ahead.start, near)
    for segment in (ahead, mirrored(ahead)):
        synthetic, state = method.init(jax.random.key(0), a_set(), None)
        moved, after, metrics = update(synthetic, state, None, segment)
        assert int(after.iteration) == 1
        assert float(moved.learning_rate) > 0 and np.isfinite(moved.images).all()
        if metrics["dropped"]:
            dropped += 1
            assert int(metrics["dropped"]) == reason and named in Rejection(reason).words(RATES)
            jax.tree.map(
                np.testing.assert_array_equal,
                (synthetic, state.optimizer),
                (moved, after.optimizer),
            )
    assert dropped >= (1 if reason == 2 else 2)


@pytest.mark.parametrize("memory", ["all", "constant"])
def test_keeping_fewer_parameters_gives_the_same_update(memory):
    """To 1e-5, over 12 steps, against what the platform keeps by itself."""
    plain, loss = moved_by(syn_steps=12)
    recomputed, same = moved_by(syn_steps=12, memory=memory)
    assert same == pytest.approx(loss, rel=1e-6)
    assert np.linalg.norm(recomputed - plain) < 1e-5 * np.linalg.norm(plain)


def test_teslas_update_is_another():
    plain, loss = moved_by(syn_steps=12)
    approximate, same = moved_by(syn_steps=12, memory="tesla")
    assert same == pytest.approx(loss, rel=1e-6)
    assert np.linalg.norm(approximate - plain) > 0.01 * np.linalg.norm(plain)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", "constat"),
        ("iterations", 0),
        ("syn_steps", 0),
        ("expert_epochs", 0),
        ("segments", 0),
        ("max_start_epoch", 0),
        ("min_start_epoch", 2),
        ("batch_syn", -1),
        ("lr_img", 0.0),
        ("lr_img", float("inf")),
        ("lr_init", -1.0),
        ("lr_lr", float("nan")),
        ("mom_img", 1.0),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(SettingError, match=f"`{name}`"):
        dataclasses.replace(SETTINGS, **{name: value})


@pytest.mark.parametrize("batch_syn", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_the_update_is_the_same_on_a_gpu(batch_syn):
    """There the images of a whole set stay in their order, and what they draw takes the set's."""
    changes = {"dsa": True, "batch_syn": batch_syn, "lr_img": 1e4}
    with compiling_for("cpu"):
        change, loss = moved_by(**changes)
    with compiling_for("gpu"):
        on_gpu, other = moved_by(**changes)
    assert loss == pytest.approx(other, rel=1e-5)
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(on_gpu, change, rtol=0, atol=1e-5 * np.abs(change).max())
