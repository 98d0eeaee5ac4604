"""Back-propagation through a student's training against plain differentiation of a plain loop."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from jdd import distillation, networks, sharding
from jdd.data import DeviceData
from jdd.data.device import class_index
from jdd.errors import Interrupted, SettingError, UserError
from jdd.methods import BpttSettings, bptt, guarded, student
from jdd.synthetic import MultiFormation, SetInfo, SyntheticSet
from tests.methods import small
from tests.methods.small_bptt import NETWORK, REAL, SETTINGS

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published" / "bptt.npz"


def released():
    """The inputs and weights of the stored updates, in our names."""
    rng = np.random.default_rng(702)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def block(channels):
        kernel = draw(3, 3, channels, 6) / np.float32(3 * np.sqrt(channels))
        conv = {"kernel": kernel, "bias": draw(6)}
        near = {"scale": 1 + np.float32(0.1) * draw(6), "bias": np.float32(0.1) * draw(6)}
        return {"conv": conv, "norm": near}

    def weights(last):
        kernel = np.float32(last) * draw(24, 4) / np.float32(np.sqrt(24))
        classifier = {"kernel": kernel, "bias": draw(4)}
        return {"block_0": block(3), "block_1": block(6), "classifier": classifier}

    students = [weights(last) for last in (1, 1, 9)]  # the last one's gradient is cut
    return students, draw(8, 8, 8, 3), draw(8, 4), draw(24, 8, 8, 3)


def updates_from(students, settings, images, labels, real):
    """The set, Adam's means and the metrics behind an update from each of these weights."""
    network, waiting = networks.create("ConvNet", 4, width=6, depth=2), iter(students)
    like = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), students[0])

    def init(key, batch):
        del key, batch
        return io_callback(lambda: next(waiting), like, ordered=True)

    def apply(params, batch):
        return network.apply({"params": params}, batch)

    method = guarded(bptt(settings, networks.from_functions(init, apply)))
    info = SetInfo("cifar10", tuple("abcd"), {}, 2)
    synthetic = SyntheticSet(jnp.asarray(images), jnp.asarray(labels), None, info)
    classes = np.arange(24, dtype=np.int32) % 4
    of = DeviceData(jnp.asarray(real), jnp.asarray(classes), index=class_index(classes, 4))
    synthetic, state = method.init(jax.random.key(0), synthetic, of)
    update, seen = jax.jit(method.update), []
    for _ in students:
        synthetic, state, metrics = update(synthetic, state, of)
        seen.append(metrics)
    adam = state.optimizer.adam.inner_states
    return synthetic, {name: adam[name].inner_state[0].mu for name in adam}, seen


@pytest.mark.parametrize(
    "case",
    ["adam", *(pytest.param(case, marks=pytest.mark.slow) for case in ("learned", "sgd"))],
)
def test_updates_are_those_of_the_released_code(case):
    students, images, logits, real = released()
    changes = {
        "adam": {},
        "learned": {"lr_label": 0.01},
        "sgd": {"inner_optimizer": "sgd", "lr_net": 0.1},
    }[case]
    settings = BpttSettings(
        **{"syn_steps": 5, "window": 3, "min_start": 2, "batch_real": 24, "augmentation": "none"},
        **{"lr_img": 0.01, "lr_net": 0.01} | changes,
    )
    labels = logits if case == "learned" else np.repeat(np.arange(4, dtype=np.int32), 2)
    students = students if case == "adam" else students[:1]
    synthetic, means, seen = updates_from(students, settings, images, labels, real)
    stored = {key.removeprefix(f"{case}/"): value for key, value in np.load(PUBLISHED).items()}
    for i, metrics in enumerate(seen):
        assert int(metrics["dropped"]) == 0
        assert float(metrics["loss"]) == pytest.approx(float(stored[f"{i}/loss"]), rel=1e-6)
        length = float(stored[f"{i}/length"])
        assert float(metrics["gradient_norm"]) == pytest.approx(length, rel=1e-4)
    close(means["images"].images, stored["mean"], 2e-4)
    if case == "adam":
        close(synthetic.images - images, stored["images"], 2e-3)
    if case == "learned":  # theirs are probabilities: what follows is the softmax's derivative
        chances, theirs = jax.nn.softmax(logits), stored["label_mean"]
        theirs = chances * (theirs - np.sum(chances * theirs, axis=1, keepdims=True))
        close(means["labels"].labels, theirs, 2e-4)


def close(ours, theirs, tolerance):
    """By no more than this share of their largest entry."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def plain_student(kind, params, loss, before, window):
    """SGD or Adam, step by step; the steps before the window are held constant."""
    momentum = {"adam": 0.0, "sgd": 0.9}[kind]
    zeros = jax.tree.map(jnp.zeros_like, params)
    first, second = zeros, zeros
    for t in range(1, before + window + 1):
        gradient = jax.grad(loss)(params)
        if kind == "adam":
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
            change = jax.tree.map(
                # A weight that no pixel reaches has no gradient: the root's derivative is cut.
                lambda m, v, t=t: m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t) + 1e-30) + 1e-8),
                *(first, second),
            )
        else:
            decayed = jax.tree.map(lambda g, p: g + 5e-4 * p, gradient, params)
            first = jax.tree.map(lambda u, g: momentum * u + g, first, decayed)
            change = first
        params = jax.tree.map(lambda p, c: p - 0.01 * c, params, change)
        if t == before:
            params, first, second = jax.lax.stop_gradient((params, first, second))
    return params


@pytest.mark.slow  # the adjoint of each rule is tested in tests/test_unrolling_rules.py
@pytest.mark.parametrize(("kind", "learned"), [("adam", False), ("sgd", True)])
def test_two_updates_are_those_of_plain_differentiation(kind, learned):
    """All images in each step and in each real batch, so that nothing is left to chance."""
    of = small.digits(REAL)
    settings = dataclasses.replace(
        SETTINGS, inner_optimizer=kind, lr_label=0.05 if learned else 0.0
    )
    method = bptt(settings, NETWORK)
    synthetic, state = method.init(jax.random.key(3), small.start(2), of)
    if learned:
        certain = jax.nn.softmax(synthetic.labels)[jnp.arange(6), small.start(2).labels]
        np.testing.assert_allclose(certain, 0.9, rtol=1e-5)
    assert (synthetic.learning_rate is None) == (kind == "adam")
    logits = synthetic.labels if learned else 1e4 * jax.nn.one_hot(synthetic.labels, 3)
    moved, real = (synthetic.images, logits), of.batch(jnp.arange(small.CLASSES * REAL))
    moments = [jax.tree.map(jnp.zeros_like, moved)] * 2
    mean = 0.0
    for t in range(1, 3):
        params = NETWORK.init(
            jax.random.split(state.iteration_key(), 5)[0], jnp.zeros((1, 8, 8, 1))
        )["params"]

        def of_set(moved, params=params):
            def on_set(params):
                log = jax.nn.log_softmax(NETWORK.apply({"params": params}, moved[0]))
                return -jnp.mean(jnp.sum(jax.nn.softmax(moved[1]) * log, -1))

            last = plain_student(kind, params, on_set, 2, 4)
            logits = jax.nn.log_softmax(NETWORK.apply({"params": last}, real[0]))
            return -jnp.mean(logits[jnp.arange(len(real[1])), real[1]])

        value, gradient = jax.jit(jax.value_and_grad(of_set))(moved)
        length = float(jnp.linalg.norm(gradient[0]))
        mean = length if t == 1 else 0.9 * mean + 0.1 * length
        gradient = (gradient[0] * min(1.0, 0.5 * mean / length), gradient[1])
        moments = [
            jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradient),
            jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, moments[1], gradient),
        ]
        moved = tuple(
            x - rate * m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
            for x, rate, m, v in zip(moved, (0.1, 0.05), *moments, strict=True)
        )
        synthetic, state, metrics = jax.jit(guarded(method).update)(synthetic, state, of)
        assert int(metrics["dropped"]) == 0 and int(metrics["window_start"]) == 2
        assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-4)
        assert float(metrics["gradient_norm"]) == pytest.approx(length, rel=1e-3)
        np.testing.assert_allclose(synthetic.images, moved[0], atol=2e-3)
        if learned:
            np.testing.assert_allclose(synthetic.labels, moved[1], atol=2e-3)
        else:
            np.testing.assert_array_equal(synthetic.labels, small.start(2).labels)


@pytest.mark.slow
def test_what_is_stored_is_moved():
    """A stored image of a multi-formation moves, by the gradients of the four that it holds."""
    of, decoder = small.digits(REAL), MultiFormation(2, 8, 8)
    start = small.start(2)
    stored = start.replace(
        storage=start.images, labels=jnp.repeat(start.labels, 4), decoder=decoder
    )
    method = bptt(dataclasses.replace(SETTINGS, batch_syn=5), NETWORK)
    synthetic, state = method.init(jax.random.key(3), stored, of)
    moved, _, metrics = jax.jit(guarded(method).update)(synthetic, state, of)
    assert moved.storage.shape == (6, 8, 8, 1) and int(metrics["dropped"]) == 0
    assert np.all(np.abs(moved.storage - stored.storage).max(axis=(1, 2, 3)) > 0.05)


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(tmp_path):
    from jdd.runs.directory import RunFiles

    of = small.digits(REAL)
    method = bptt(
        dataclasses.replace(SETTINGS, window_start="gradient", probe_every=2, batch_real=9),
        NETWORK,
    )

    def go(directory, stop):
        return distillation.distill(
            method,
            small.start(2),
            of,
            jax.random.key(0),
            distillation.Loop(iterations=5, evaluate_every=5),
            distillation.Hooks(listener=RunFiles(directory), should_stop=stop),
        )

    asked = iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", lambda: next(asked))
    parts, whole = (go(tmp_path / name, lambda: False) for name in ("parts", "whole"))
    assert parts.resumed_from > 0
    np.testing.assert_array_equal(parts.final.images, whole.final.images)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 7}, "`window` 7: with `min_start` 2 it must be at most `syn_steps` 6"),
        ({"min_start": -1}, "`min_start`"),
        ({"inner_optimizer": "adamw"}, "`inner_optimizer` 'adamw'"),
        ({"window_start": "late"}, "`window_start` 'late'"),
        ({"augmentation": "flip_rotat"}, "`augmentation` 'rotat': did you mean 'rotate'"),
        ({"augmentation": "flip_none"}, "`augmentation` 'none': did you mean 'rotate'"),
        ({"memory": "tesla"}, "`memory` 'tesla'"),
        ({"temperature": 0.0}, "`temperature`"),
        ({"lr_label": -1.0}, "`lr_label`"),
    ],
)
def test_settings_out_of_range_are_named(changes, words):
    with pytest.raises(SettingError, match=words):
        dataclasses.replace(SETTINGS, **changes)


def test_classes_of_different_sizes_are_refused():
    start = small.start(2)
    uneven = start.replace(storage=start.images[:5], labels=start.labels[:5])
    with pytest.raises(UserError, match="5 images are not the same number for each of 3 classes"):
        bptt(SETTINGS, NETWORK).init(jax.random.key(0), uneven, small.digits(3))


def test_a_digit_is_not_mirrored():
    assert SETTINGS.strategy("cifar10") == "none"
    published = BpttSettings()
    assert (published.strategy("cifar10"), published.strategy("mnist")) == ("flip_rotate", "rotate")


def test_students_side_by_side_share_the_memory(monkeypatch):
    """On an accelerator: each of three has a third for what its steps keep."""
    budgets, descend = [], student.unrolling.descend

    def recorded(*arguments):
        budgets.append(arguments[-1])
        return descend(*arguments)

    monkeypatch.setattr(student.unrolling, "descend", recorded)
    monkeypatch.setattr(student.unrolling, "memory_budget_for", lambda memory: 1200)
    monkeypatch.setattr(sharding, "platform", lambda: "gpu")
    method, of = bptt(SETTINGS, NETWORK), small.digits(REAL)
    for models in (1, 3):
        begun = [method.init(jax.random.key(seed), small.start(2), of) for seed in range(models)]
        jax.eval_shape(
            lambda *begun: sharding.over_models(
                lambda of, synthetic, state: method.update(synthetic, state, of), of, *begun
            ),
            *sharding.stack(begun),
        )
    assert set(budgets[:1]) == {1200} and set(budgets[1:]) == {400}
